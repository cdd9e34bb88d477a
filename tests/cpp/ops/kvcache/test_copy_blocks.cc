// copy_blocks and swap_blocks from C++.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  std::vector<float> keys{0, 1, 2, 3, 4, 5}, values{10, 11, 12, 13, 14, 15};
  std::vector<int64_t> mapping{2, 0};
  Tensor tkeys(keys.data(), {3, 2}), tvalues(values.data(), {3, 2});
  Tensor tmapping(mapping.data(), {1, 2}, test::kI64);
  CHECK(aiter_copy_blocks(tkeys, tvalues, tmapping, nullptr, nullptr) == AITER_OK);
  CHECK(keys == std::vector<float>({4, 5, 2, 3, 4, 5}) && values[1] == 15);
  CHECK(aiter_swap_blocks(tkeys, tvalues, tmapping, nullptr, nullptr) == AITER_OK);
  CHECK(values == std::vector<float>({4, 5, 12, 13, 14, 15}));
  mapping[1] = 3;
  CHECK_FAILS(aiter_copy_blocks(tkeys, nullptr, tmapping, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "block_mapping has page 3 in pair 0, expected 0 to 2");
  CHECK_FAILS(aiter_swap_blocks(tkeys, tvalues, tmapping, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "block_mapping has page 3 in pair 0, expected 0 to 2");
  return test::failures;
}
