// norm_quant from C++: results, options, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{3, 4, 0, 0, 1, 1, 1, 1};  // rows with root mean square 2.5 and 1
  const std::vector<float> w{1, 2, 3, 4}, b{1, 0, 0, 1}, smooth{1, 1, 1, 0.5f};
  std::vector<int8_t> y(8, -1);
  std::vector<float> scale(2, -1), v(8, -1), sum(8, -1);
  Tensor tx(x.data(), {2, 4}), tw(w.data(), {4}), tb(b.data(), {4}), tsmooth(smooth.data(), {4});
  Tensor ty(y.data(), {2, 4}, test::kI8), tscale(scale.data(), {2, 1});
  Tensor tv(v.data(), {2, 4}), tsum(sum.data(), {2, 4});
  aiter_norm_quant_opts opts = AITER_NORM_QUANT_OPTS_INIT;
  opts.eps = 0;

  auto call = [&](const aiter_tensor* gate, const aiter_tensor* factors) {
    return aiter_norm_quant(tx, nullptr, tx, tw, nullptr, gate, factors, ty, tscale, tv, tsum,
                            &opts, nullptr);
  };
  CHECK(call(nullptr, nullptr) == AITER_OK);
  for (int i = 0; i < 8; ++i) CHECK(sum[i] == 2 * x[i]);
  const float row0[] = {3 / 2.5f, 2 * 4 / 2.5f, 0, 0};
  for (int i = 0; i < 4; ++i) CHECK(std::fabs(v[i] - row0[i]) < 1e-6f);
  CHECK(std::fabs(scale[0] - row0[1] / 127) < 1e-6f && y[1] == 127 && y[2] == 0);
  CHECK(y[0] == std::lround(3 / 8.0 * 127));
  CHECK(call(nullptr, tsmooth) == AITER_OK);
  CHECK(y[6] == 127 && y[7] == 85 && std::fabs(v[7] - 4) < 1e-6f);  // 4 * 0.5 of 3

  // Two heads joined: one row of codes, one scale.
  aiter_quantize_opts quant = AITER_QUANTIZE_OPTS_INIT;
  opts.quant = &quant;
  Tensor heads(x.data(), {1, 2, 4}), joined(y.data(), {1, 8}, test::kI8), one(scale.data(), {1, 1});
  scale.assign(2, -1);
  CHECK(aiter_norm_quant(heads, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, joined, one,
                         nullptr, nullptr, &opts, nullptr) == AITER_OK);
  CHECK(y[1] == 127 && y[4] == std::lround(127 / 1.6) && scale[1] == -1);

  opts.flags = AITER_DRY_RUN;
  y.assign(8, -1);
  CHECK(call(nullptr, nullptr) == AITER_OK);
  CHECK(y[0] == -1);
  CHECK(std::strstr(aiter_last_explanation(), "norm_quant: cpu_simd on cpu"));

  opts.flags = 0;
  opts.kind = 7;
  CHECK_FAILS(call(nullptr, nullptr), AITER_INVALID_ARGUMENT, "opts.kind is 7");
  opts.kind = AITER_NORM_RMS;
  CHECK_FAILS(aiter_norm_quant(tx, nullptr, nullptr, tw, tb, nullptr, nullptr, ty, tscale, nullptr,
                               nullptr, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "b is given");
  quant.struct_size = 4;
  CHECK_FAILS(call(nullptr, nullptr), AITER_INVALID_ARGUMENT, "struct_size is 4");
  CHECK(y[0] == -1);
  return test::failures;
}
