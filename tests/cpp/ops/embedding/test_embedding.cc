// embedding from C++: float and 8-bit tables, padding, refusals.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> table{1, 2, 3, 4, 5, 6};
  std::vector<int64_t> ids{2, -1, 0};
  std::vector<float> out(6, -1);
  Tensor tids(ids.data(), {3}, test::kI64), tout(out.data(), {3, 2});
  Tensor ttable(table.data(), {3, 2});
  CHECK(aiter_embedding(tids, ttable, nullptr, tout, nullptr, nullptr) == AITER_OK);
  CHECK((out == std::vector<float>{5, 6, 0, 0, 1, 2}));

  const std::vector<int8_t> codes{1, -2, 3, -4, 5, -128};
  const std::vector<float> scale{1, 1, 1, 1, 0.5f, 2};
  Tensor tcodes(codes.data(), {3, 2}, test::kI8), tscale(scale.data(), {3, 2});
  CHECK(aiter_embedding(tids, tcodes, tscale, tout, nullptr, nullptr) == AITER_OK);
  CHECK((out == std::vector<float>{2.5f, -256, 0, 0, 1, -2}));

  out.assign(6, -1);
  ids[1] = 3;
  CHECK_FAILS(aiter_embedding(tids, ttable, nullptr, tout, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "embedding: ids has 3 at flat index 1");
  CHECK_FAILS(aiter_embedding(tids, tcodes, nullptr, tout, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "embedding: scale is NULL");
  CHECK(out[0] == -1);
  return test::failures;
}
