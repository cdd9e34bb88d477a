// unary from C++: results, options, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{-2, -0.5f, 0, 0.25f, 1, 3};
  std::vector<float> y(6, -1);
  Tensor tx(x.data(), {2, 3}), ty(y.data(), {2, 3});
  CHECK(aiter_unary(tx, ty, nullptr, nullptr) == AITER_OK);  // sigmoid by default
  for (int i = 0; i < 6; ++i) CHECK(std::fabs(y[i] - 1 / (1 + std::exp(-x[i]))) < 1e-6f);
  aiter_unary_opts opts = AITER_UNARY_OPTS_INIT;
  opts.op = AITER_UNARY_TANH;
  CHECK(aiter_unary(tx, ty, &opts, nullptr) == AITER_OK);
  for (int i = 0; i < 6; ++i) CHECK(std::fabs(y[i] - std::tanh(x[i])) < 1e-6f);

  y.assign(6, -1);
  opts.flags = AITER_DRY_RUN;
  CHECK(aiter_unary(tx, ty, &opts, nullptr) == AITER_OK);
  opts.flags = 0;
  opts.op = 6;
  CHECK_FAILS(aiter_unary(tx, ty, &opts, nullptr), AITER_INVALID_ARGUMENT, "unary: opts.op is 6");
  CHECK_FAILS(aiter_unary(nullptr, ty, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "unary: x is NULL");
  CHECK_FAILS(aiter_unary(tx, nullptr, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "unary: y is NULL");
  CHECK(y[0] == -1 && y[5] == -1);
  return test::failures;
}
