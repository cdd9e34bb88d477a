// greedy_sample from C++: ties, NaN, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> logits{1, 3, 3, NAN, -5, -4, NAN, NAN, NAN};
  std::vector<int32_t> out(3, 7);
  Tensor tlogits(logits.data(), {3, 3}), tout(out.data(), {3}, test::kI32);
  CHECK(aiter_greedy_sample(tlogits, tout, nullptr, nullptr) == AITER_OK);
  CHECK((out == std::vector<int32_t>{1, 2, -1}));

  out.assign(3, 7);
  Tensor empty(logits.data(), {3, 0});
  CHECK_FAILS(aiter_greedy_sample(empty, tout, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "greedy_sample: logits has vocab 0");
  CHECK_FAILS(aiter_greedy_sample(tlogits, nullptr, nullptr, nullptr), AITER_INVALID_ARGUMENT,
              "greedy_sample: out is NULL");
  CHECK(out[0] == 7);
  return test::failures;
}
