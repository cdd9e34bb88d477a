// partial_transpose from C++: dense columns of the valid rows, refusals.
#include <cstdint>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{1, 2, 3, 4, 5, 6};
  std::vector<float> y(6, -1);
  int32_t valid = 2;
  Tensor tx(x.data(), {3, 2}), ty(y.data(), {2, 3}), tvalid(&valid, {1}, test::kI32);
  CHECK(aiter_partial_transpose(tx, tvalid, ty, nullptr, nullptr) == AITER_OK);
  CHECK(y == (std::vector<float>{1, 3, 2, 4, -1, -1}));
  valid = 9;  // no more than there are
  CHECK(aiter_partial_transpose(tx, tvalid, ty, nullptr, nullptr) == AITER_OK);
  CHECK(y == (std::vector<float>{1, 3, 5, 2, 4, 6}));

  y.assign(6, -1);
  Tensor wrong(y.data(), {3, 2});
  CHECK_FAILS(aiter_partial_transpose(tx, tvalid, wrong, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "partial_transpose: y has shape (3, 2), expected (2, 3)");
  CHECK_FAILS(aiter_partial_transpose(tx, nullptr, ty, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "partial_transpose: num_rows is NULL");
  CHECK(y[0] == -1);
  return test::failures;
}
