// layernorm from C++: results, options, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{1, 3, 1, 3, 5, 5, 5, 5};
  const std::vector<float> w{1, 2, 3, 4}, b{1, 0, 0, 1}, x_bias{2, 0, 2, 0};
  std::vector<float> y(8, -1), sum(8, -1);
  Tensor tx(x.data(), {2, 4}), tw(w.data(), {4}), tb(b.data(), {4}), tx_bias(x_bias.data(), {4});
  Tensor ty(y.data(), {2, 4}), tsum(sum.data(), {2, 4});

  CHECK(aiter_layernorm(tx, nullptr, tw, tb, ty, nullptr, nullptr) == AITER_OK);
  const float row0[] = {-1 + 1, 2, -3, 4 + 1};  // the mean is 2, the deviation 1
  for (int i = 0; i < 4; ++i) CHECK(std::fabs(y[i] - row0[i]) < 1e-4f);
  for (int i = 0; i < 4; ++i) CHECK(y[4 + i] == b[i]);  // a constant row has no deviation
  CHECK(aiter_layernorm(tx, tx_bias, tw, tb, ty, nullptr, nullptr) == AITER_OK);
  for (int i = 0; i < 4; ++i) CHECK(y[i] == b[i]);  // the bias makes row 0 constant

  CHECK(aiter_add_layernorm(tx, tx_bias, tx, nullptr, nullptr, ty, tsum, nullptr, nullptr) ==
        AITER_OK);
  for (int i = 0; i < 8; ++i) CHECK(sum[i] == 2 * x[i] + x_bias[i % 4]);

  aiter_layernorm_opts opts = AITER_LAYERNORM_OPTS_INIT;
  opts.flags = AITER_DRY_RUN;
  y.assign(8, -1);
  CHECK(aiter_layernorm(tx, nullptr, tw, tb, ty, &opts, nullptr) == AITER_OK);
  CHECK(y[0] == -1);  // a dry run writes nothing
  CHECK(std::strstr(aiter_last_explanation(), "layernorm: cpu_simd on cpu"));

  CHECK_FAILS(aiter_layernorm(tx, nullptr, tw, tb, nullptr, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "layernorm: y is NULL");
  CHECK_FAILS(aiter_add_layernorm(tx, nullptr, nullptr, tw, tb, ty, tsum, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "add_layernorm: residual_in is NULL");
  opts = AITER_LAYERNORM_OPTS_INIT;
  opts.eps = -1;
  CHECK_FAILS(aiter_layernorm(tx, nullptr, tw, tb, ty, &opts, nullptr), AITER_INVALID_ARGUMENT,
              "opts.eps is -1");
  CHECK(y[0] == -1);
  return test::failures;
}
