// act_and_mul_backward from C++: results, options, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{1, -2, 10, 3, 4, -20}, dy{1, 2, -1};  // three gates, three ups
  std::vector<float> dx(6, -1);
  Tensor tx(x.data(), {1, 6}), tdy(dy.data(), {1, 3}), tdx(dx.data(), {1, 6});
  auto sigmoid = [](float v) { return 1 / (1 + std::exp(-v)); };

  CHECK(aiter_act_and_mul_backward(tdy, tx, tdx, nullptr, nullptr) == AITER_OK);  // of silu
  for (int i = 0; i < 3; ++i) {
    const float s = sigmoid(x[i]), slope = s * (1 + x[i] * (1 - s));
    CHECK(std::fabs(dx[i] - dy[i] * x[3 + i] * slope) <= 1e-5f * std::fabs(dx[i]));
    CHECK(std::fabs(dx[3 + i] - dy[i] * x[i] * s) <= 1e-5f * std::fabs(dx[3 + i]));
  }
  aiter_act_and_mul_opts opts = AITER_ACT_AND_MUL_OPTS_INIT;
  opts.limit = 3.5f;
  CHECK(aiter_act_and_mul_backward(tdy, tx, tdx, &opts, nullptr) == AITER_OK);
  CHECK(dx[2] == 0 && dx[4] == 0 && dx[5] == 0 && dx[0] != 0 && dx[3] != 0);

  dx.assign(6, -1);
  opts.flags = AITER_DRY_RUN;
  CHECK(aiter_act_and_mul_backward(tdy, tx, tdx, &opts, nullptr) == AITER_OK);
  opts.flags = 0;
  opts.activation = 5;
  CHECK_FAILS(aiter_act_and_mul_backward(tdy, tx, tdx, &opts, nullptr), AITER_INVALID_ARGUMENT,
              "act_and_mul_backward: opts.activation is 5");
  CHECK_FAILS(aiter_act_and_mul_backward(nullptr, tx, tdx, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "act_and_mul_backward: dy is NULL");
  CHECK_FAILS(aiter_act_and_mul_backward(tdy, nullptr, tdx, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "act_and_mul_backward: x is NULL");
  CHECK_FAILS(aiter_act_and_mul_backward(tdy, tx, nullptr, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "act_and_mul_backward: dx is NULL");
  CHECK(dx[0] == -1 && dx[5] == -1);
  return test::failures;
}
