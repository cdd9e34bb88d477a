// rmsnorm from C++: results, options, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{3, 4, 0, 0, 1, 1, 1, 1};
  const std::vector<float> w{1, 2, 3, 4};
  std::vector<float> y(8, -1), sum(8, -1);
  Tensor tx(x.data(), {2, 4}), tw(w.data(), {4}), ty(y.data(), {2, 4}), tsum(sum.data(), {2, 4});

  CHECK(aiter_rmsnorm(tx, tw, ty, nullptr, nullptr) == AITER_OK);
  const float row0[] = {3 / 2.5f, 2 * 4 / 2.5f, 0, 0};  // the root mean square is 2.5
  for (int i = 0; i < 4; ++i) CHECK(std::fabs(y[i] - row0[i]) < 1e-6f);
  for (int i = 0; i < 4; ++i) CHECK(std::fabs(y[4 + i] - w[i]) < 1e-5f);

  CHECK(aiter_add_rmsnorm(tx, tx, nullptr, ty, tsum, nullptr, nullptr) == AITER_OK);
  for (int i = 0; i < 8; ++i) CHECK(sum[i] == 2 * x[i]);

  std::vector<float> wide(12, -1);
  Tensor twide(wide.data(), {2, 6});
  CHECK(aiter_rmsnorm(tx, tw, twide, nullptr, nullptr) == AITER_OK);
  CHECK(std::fabs(wide[0] - row0[0]) < 1e-6f && wide[4] == 0 && wide[5] == 0 && wide[10] == 0);

  aiter_rmsnorm_opts opts = AITER_RMSNORM_OPTS_INIT;
  opts.flags = AITER_DRY_RUN;
  y.assign(8, -1);
  CHECK(aiter_rmsnorm(tx, tw, ty, &opts, nullptr) == AITER_OK);
  CHECK(y[0] == -1);  // a dry run writes nothing
  CHECK(std::strstr(aiter_last_explanation(), "rmsnorm: cpu_simd on cpu"));

  // A caller with an older, shorter struct gets the defaults of the rest.
  opts = AITER_RMSNORM_OPTS_INIT;
  opts.struct_size = 8;
  opts.eps = NAN;
  CHECK(aiter_rmsnorm(tx, tw, ty, &opts, nullptr) == AITER_OK);
  CHECK(std::fabs(y[0] - row0[0]) < 1e-6f);

  y.assign(8, -1);
  CHECK_FAILS(aiter_rmsnorm(nullptr, tw, ty, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "rmsnorm: x is NULL");
  opts.struct_size = 4;
  CHECK_FAILS(aiter_rmsnorm(tx, tw, ty, &opts, nullptr), AITER_INVALID_ARGUMENT,
              "opts.struct_size is 4");
  opts = AITER_RMSNORM_OPTS_INIT;
  opts.flags = 0x80;
  CHECK_FAILS(aiter_rmsnorm(tx, tw, ty, &opts, nullptr), AITER_INVALID_ARGUMENT,
              "opts.flags is 0x80");
  Tensor elsewhere(w.data(), {4});
  elsewhere.t.device = {AITER_CUDA, 0};
  CHECK_FAILS(aiter_rmsnorm(tx, elsewhere, ty, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "w is on device 2:0, expected x's 1:0");
  CHECK(y[0] == -1);
  return test::failures;
}
