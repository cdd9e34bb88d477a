// binary from C++: results, broadcasting, numbers, refusals.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> a{1, 2, 3, 4, 5, 6}, column{10, 20};
  std::vector<float> y(6, -1);
  Tensor ta(a.data(), {2, 3}), tb(column.data(), {2, 1}), ty(y.data(), {2, 3});
  CHECK(aiter_binary(ta, tb, ty, nullptr, nullptr) == AITER_OK);  // add by default
  for (int i = 0; i < 6; ++i) CHECK(y[i] == a[i] + column[i / 3]);

  aiter_binary_opts opts = AITER_BINARY_OPTS_INIT;
  opts.op = AITER_BINARY_SUB;
  opts.a = 0.5;
  CHECK(aiter_binary(nullptr, ta, ty, &opts, nullptr) == AITER_OK);
  for (int i = 0; i < 6; ++i) CHECK(y[i] == 0.5f - a[i]);

  const std::vector<int32_t> n{7, -8, 9};
  std::vector<int32_t> product(3, -1);
  Tensor tn(n.data(), {3}, test::kI32), tproduct(product.data(), {3}, test::kI32);
  opts.op = AITER_BINARY_MUL;
  opts.b = 3;
  CHECK(aiter_binary(tn, nullptr, tproduct, &opts, nullptr) == AITER_OK);
  for (int i = 0; i < 3; ++i) CHECK(product[i] == 3 * n[i]);

  y.assign(6, -1);
  opts.flags = AITER_DRY_RUN;
  CHECK(aiter_binary(ta, tb, ty, &opts, nullptr) == AITER_OK);
  opts.flags = 0;
  CHECK_FAILS(aiter_binary(ta, tb, tproduct, &opts, nullptr), AITER_INVALID_ARGUMENT,
              "binary: y has dtype int32, expected one that can hold float32");
  opts.op = -1;
  CHECK_FAILS(aiter_binary(ta, tb, ty, &opts, nullptr), AITER_INVALID_ARGUMENT,
              "binary: opts.op is -1");
  CHECK_FAILS(aiter_binary(nullptr, nullptr, ty, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "binary: a and b are NULL");
  CHECK(y[0] == -1 && y[5] == -1);
  return test::failures;
}
