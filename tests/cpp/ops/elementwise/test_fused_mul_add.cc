// fused_mul_add from C++: results, numbers, refusals.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{1, 2, 3, 4}, a{2, 4};
  std::vector<float> y(4, -1);
  Tensor tx(x.data(), {2, 2}), ta(a.data(), {2}), ty(y.data(), {2, 2});
  aiter_fused_mul_add_opts opts = AITER_FUSED_MUL_ADD_OPTS_INIT;
  opts.b = 0.5f;
  CHECK(aiter_fused_mul_add(tx, ta, nullptr, ty, &opts, nullptr) == AITER_OK);
  for (int i = 0; i < 4; ++i) CHECK(y[i] == x[i] * a[i % 2] + 0.5f);
  opts.a = 3;
  CHECK(aiter_fused_mul_add(tx, nullptr, tx, ty, &opts, nullptr) == AITER_OK);
  for (int i = 0; i < 4; ++i) CHECK(y[i] == 4 * x[i]);

  y.assign(4, -1);
  opts.flags = AITER_DRY_RUN;
  CHECK(aiter_fused_mul_add(tx, ta, nullptr, ty, &opts, nullptr) == AITER_OK);
  CHECK_FAILS(aiter_fused_mul_add(nullptr, ta, nullptr, ty, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "fused_mul_add: x is NULL");
  CHECK_FAILS(aiter_fused_mul_add(tx, ta, nullptr, nullptr, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "fused_mul_add: y is NULL");
  CHECK(y[0] == -1 && y[3] == -1);
  return test::failures;
}
