// softmax from C++: results, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{1, 2, 3, 1000, 1000, -1000};
  std::vector<float> y(6, -1);
  Tensor tx(x.data(), {2, 3}), ty(y.data(), {2, 3});
  CHECK(aiter_softmax(tx, ty, nullptr, nullptr) == AITER_OK);
  const float sum = std::exp(-2.0f) + std::exp(-1.0f) + 1;
  for (int i = 0; i < 3; ++i) CHECK(std::fabs(y[i] - std::exp(x[i] - 3) / sum) < 1e-6f);
  CHECK(std::fabs(y[3] - 0.5f) < 1e-6f && y[5] == 0);

  y.assign(6, -1);
  aiter_softmax_opts opts = AITER_SOFTMAX_OPTS_INIT;
  opts.flags = AITER_DRY_RUN;
  CHECK(aiter_softmax(tx, ty, &opts, nullptr) == AITER_OK);
  CHECK_FAILS(aiter_softmax(nullptr, ty, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "softmax: x is NULL");
  CHECK_FAILS(aiter_softmax(tx, nullptr, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "softmax: y is NULL");
  CHECK(y[0] == -1 && y[5] == -1);
  return test::failures;
}
