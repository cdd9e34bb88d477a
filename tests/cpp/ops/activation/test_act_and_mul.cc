// act_and_mul from C++: results, options, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{1, -2, 10, 3, 4, -20};  // three gates, three ups
  std::vector<float> y(3, -1);
  Tensor tx(x.data(), {1, 6}), ty(y.data(), {1, 3});
  auto sigmoid = [](float v) { return 1 / (1 + std::exp(-v)); };

  CHECK(aiter_act_and_mul(tx, nullptr, nullptr, nullptr, ty, nullptr, nullptr, nullptr) ==
        AITER_OK);  // silu by default
  for (int i = 0; i < 3; ++i)
    CHECK(std::fabs(y[i] - x[i] * sigmoid(x[i]) * x[3 + i]) <= 1e-5f * std::fabs(y[i]));

  aiter_act_and_mul_opts opts = AITER_ACT_AND_MUL_OPTS_INIT;
  opts.activation = AITER_ACTIVATION_SWIGLU;
  opts.limit = 7;
  CHECK(aiter_act_and_mul(tx, nullptr, nullptr, nullptr, ty, nullptr, &opts, nullptr) == AITER_OK);
  CHECK(std::fabs(y[2] - 7 * sigmoid(1.702f * 7) * (-7 + 1)) < 1e-4f);

  // a bias for each of two experts, a weight for the row
  const std::vector<float> bias{9, 9, 9, 9, 9, 9, 1, 2, 3, 4, 5, 6}, weight{2};
  const std::vector<int32_t> ids{1}, nobody{2};
  Tensor tbias(bias.data(), {2, 6}), tweight(weight.data(), {1, 1});
  Tensor tids(ids.data(), {1}, test::kI32), tnobody(nobody.data(), {1}, test::kI32);
  CHECK(aiter_act_and_mul(tx, tbias, tids, tweight, ty, nullptr, nullptr, nullptr) == AITER_OK);
  for (int i = 0; i < 3; ++i) {
    const float g = x[i] + bias[6 + i], u = x[3 + i] + bias[9 + i];
    CHECK(std::fabs(y[i] - 2 * g * sigmoid(g) * u) <= 1e-5f * std::fabs(y[i]));
  }
  CHECK(aiter_act_and_mul(tx, tbias, tnobody, nullptr, ty, nullptr, nullptr, nullptr) == AITER_OK);
  CHECK(y[0] == 0 && y[2] == 0);
  CHECK_FAILS(aiter_act_and_mul(tx, tbias, nullptr, nullptr, ty, nullptr, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "act_and_mul: expert_ids is NULL");

  // codes of int8 and a scale for the row
  std::vector<int8_t> codes(3, 99);
  std::vector<float> scale(1, -1);
  Tensor tcodes(codes.data(), {1, 3}, test::kI8), tscale(scale.data(), {1, 1});
  const aiter_quantize_opts quant = AITER_QUANTIZE_OPTS_INIT;
  opts.activation = AITER_ACTIVATION_SILU;
  opts.limit = 0;
  opts.quant = &quant;
  CHECK(aiter_act_and_mul(tx, nullptr, nullptr, nullptr, tcodes, tscale, &opts, nullptr) ==
        AITER_OK);
  for (int i = 0; i < 3; ++i)
    CHECK(std::fabs(codes[i] * scale[0] - x[i] * sigmoid(x[i]) * x[3 + i]) <= 0.51f * scale[0]);
  CHECK_FAILS(aiter_act_and_mul(tx, nullptr, nullptr, nullptr, tcodes, nullptr, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "act_and_mul: y_scale is NULL");
  opts.quant = nullptr;
  CHECK_FAILS(aiter_act_and_mul(tx, nullptr, nullptr, nullptr, ty, tscale, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "act_and_mul: y_scale is a tensor");

  y.assign(3, -1);
  opts.flags = AITER_DRY_RUN;
  CHECK(aiter_act_and_mul(tx, nullptr, nullptr, nullptr, ty, nullptr, &opts, nullptr) == AITER_OK);
  opts.flags = 0;
  opts.activation = 5;
  CHECK_FAILS(aiter_act_and_mul(tx, nullptr, nullptr, nullptr, ty, nullptr, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "act_and_mul: opts.activation is 5");
  CHECK_FAILS(aiter_act_and_mul(nullptr, nullptr, nullptr, nullptr, ty, nullptr, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "act_and_mul: x is NULL");
  CHECK_FAILS(aiter_act_and_mul(tx, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "act_and_mul: y is NULL");
  CHECK(y[0] == -1 && y[2] == -1);
  return test::failures;
}
