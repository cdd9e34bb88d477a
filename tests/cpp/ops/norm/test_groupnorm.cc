// groupnorm from C++: results, options, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  // Two channels in two groups, four places; the same numbers with channels last.
  const std::vector<float> x{1, 3, 1, 3, 5, 5, 5, 5}, last{1, 5, 3, 5, 1, 5, 3, 5};
  const std::vector<float> w{2, 3}, b{1, 7};
  std::vector<float> y(8, -1);
  Tensor tx(x.data(), {1, 2, 2, 2}), tw(w.data(), {2}), tb(b.data(), {2});
  Tensor ty(y.data(), {1, 2, 2, 2}), tlast(last.data(), {1, 2, 2, 2});
  aiter_groupnorm_opts opts = AITER_GROUPNORM_OPTS_INIT;
  opts.num_groups = 2;
  CHECK(aiter_groupnorm(tx, tw, tb, ty, &opts, nullptr) == AITER_OK);
  for (int i = 0; i < 4; ++i) CHECK(std::fabs(y[i] - (i % 2 ? 3 : -1)) < 1e-4f);
  for (int i = 4; i < 8; ++i) CHECK(y[i] == 7);
  opts.channels_last = 1;
  CHECK(aiter_groupnorm(tlast, tw, tb, ty, &opts, nullptr) == AITER_OK);
  for (int i = 0; i < 8; ++i) CHECK(std::fabs(y[i] - (i % 2 ? 7 : i % 4 ? 3 : -1)) < 1e-4f);
  opts.silu = 1;
  CHECK(aiter_groupnorm(tlast, tw, tb, ty, &opts, nullptr) == AITER_OK);
  CHECK(std::fabs(y[0] + 1 / (1 + std::exp(1.0f))) < 1e-4f);

  opts.silu = 0;
  std::vector<float> residual{1, 1, 1, 1, 2, 2, 2, 2}, sum(8, -1);
  Tensor tin(residual.data(), {1, 2, 2, 2}), tsum(sum.data(), {1, 2, 2, 2});
  opts.channels_last = 0;
  CHECK(aiter_add_groupnorm(tx, tin, tw, tb, ty, tsum, &opts, nullptr) == AITER_OK);
  for (int i = 0; i < 8; ++i) CHECK(sum[i] == x[i] + residual[i]);
  for (int i = 0; i < 4; ++i) CHECK(std::fabs(y[i] - (i % 2 ? 3 : -1)) < 1e-4f);
  CHECK_FAILS(aiter_add_groupnorm(tx, nullptr, tw, tb, ty, tsum, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "residual_in is NULL");
  CHECK_FAILS(aiter_add_groupnorm(tx, tin, tw, tb, ty, nullptr, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "residual_out is NULL");

  opts.flags = AITER_DRY_RUN;
  y.assign(8, -1);
  CHECK(aiter_groupnorm(tx, tw, tb, ty, &opts, nullptr) == AITER_OK);
  CHECK(y[0] == -1);
  CHECK(std::strstr(aiter_last_explanation(), "groupnorm: cpu_simd on cpu"));
  opts.flags = 0;
  opts.num_groups = 3;
  CHECK_FAILS(aiter_groupnorm(tx, tw, tb, ty, &opts, nullptr), AITER_INVALID_ARGUMENT,
              "x has 2 channels, expected a multiple of opts.num_groups = 3");
  CHECK_FAILS(aiter_groupnorm(tx, tw, tb, nullptr, &opts, nullptr), AITER_INVALID_ARGUMENT,
              "y is NULL");
  CHECK(y[0] == -1);
  return test::failures;
}
