// groupnorm_quant from C++: results, options, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  // Two channels in two groups, four places; the same numbers with channels last.
  const std::vector<float> x{1, 3, 1, 3, 5, 5, 5, 5}, last{1, 5, 3, 5, 1, 5, 3, 5};
  const std::vector<float> w{2, 3}, b{1, 7}, smooth{1, 0.5f};
  std::vector<int8_t> y(8, -1);
  std::vector<float> scale(4, -1), moments(4, -1), v(8, -1), sum(8, -1), residual(8, 1);
  Tensor tx(x.data(), {1, 2, 2, 2}), tlast(last.data(), {1, 2, 2, 2}), tw(w.data(), {2});
  Tensor tb(b.data(), {2}), tsmooth(smooth.data(), {2}), tin(residual.data(), {1, 2, 2, 2});
  Tensor ty(y.data(), {1, 2, 2, 2}, test::kI8), tscale(scale.data(), {1, 2, 2, 1});
  Tensor tmoments(moments.data(), {1, 2, 2}), tv(v.data(), {1, 2, 2, 2});
  Tensor tsum(sum.data(), {1, 2, 2, 2});
  aiter_groupnorm_quant_opts opts = AITER_GROUPNORM_QUANT_OPTS_INIT;
  opts.num_groups = 2;
  auto call = [&](const aiter_tensor* numbers, const aiter_tensor* factors) {
    return aiter_groupnorm_quant(numbers, tin, tw, tb, factors, ty, tscale, tmoments, tv, tsum,
                                 &opts, nullptr);
  };
  CHECK(call(tx, nullptr) == AITER_OK);
  for (int i = 0; i < 8; ++i) CHECK(sum[i] == x[i] + 1);
  for (int i = 0; i < 4; ++i) CHECK(std::fabs(v[i] - (i % 2 ? 3 : -1)) < 1e-4f);
  for (int i = 4; i < 8; ++i) CHECK(v[i] == 7 && y[i] == 127);
  for (int i = 0; i < 4; ++i) CHECK(y[i] == (i % 2 ? 127 : -42));
  CHECK(std::fabs(scale[0] - 3 / 127.0f) < 1e-6f && std::fabs(scale[2] - 7 / 127.0f) < 1e-6f);
  CHECK(moments[0] == 3 && std::fabs(moments[1] - 1) < 1e-4f && moments[2] == 6);

  opts.channels_last = 1;
  CHECK(call(tlast, tsmooth) == AITER_OK);
  for (int i = 0; i < 8; ++i) CHECK(std::fabs(v[i] - (i % 2 ? 7 : i % 4 ? 3 : -1)) < 1e-4f);
  CHECK(y[0] == std::lround(-1 / 3.5 * 127) && y[1] == 127);  // 7 * 0.5
  opts.silu = 1;
  CHECK(call(tlast, nullptr) == AITER_OK);
  CHECK(std::fabs(v[0] + 1 / (1 + std::exp(1.0f))) < 1e-4f);

  opts.flags = AITER_DRY_RUN;
  y.assign(8, -1);
  CHECK(call(tx, nullptr) == AITER_OK);
  CHECK(y[0] == -1);
  CHECK(std::strstr(aiter_last_explanation(), "groupnorm_quant: cpu_simd on cpu"));

  opts.flags = 0;
  auto fails = [&](const aiter_tensor* of_groups, const aiter_tensor* copy,
                   const aiter_tensor* out) {
    return aiter_groupnorm_quant(tx, tin, tw, tb, nullptr, ty, tscale, of_groups, copy, out, &opts,
                                 nullptr);
  };
  CHECK_FAILS(fails(nullptr, tv, tsum), AITER_INVALID_ARGUMENT, "moments is NULL");
  CHECK_FAILS(fails(tmoments, tv, nullptr), AITER_INVALID_ARGUMENT, "residual_out is NULL");
  CHECK_FAILS(fails(tmoments, tsum, tsum), AITER_INVALID_ARGUMENT, "unquantized is in the memory");
  opts.num_groups = 3;
  CHECK_FAILS(call(tx, nullptr), AITER_INVALID_ARGUMENT,
              "x has 2 channels, expected a multiple of opts.num_groups = 3");
  CHECK(y[0] == -1);
  return test::failures;
}
