// renorm_probs from C++: what is kept, a row without weights, in place, refusals.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  std::vector<float> probs{0.5f, 0.125f, 0.25f, 0.125f, 0, 0, 0, 0}, out(8, 7);
  Tensor tprobs(probs.data(), {2, 4}), tout(out.data(), {2, 4});
  aiter_renorm_probs_opts opts = AITER_RENORM_PROBS_OPTS_INIT;
  opts.top_k = 2;
  auto renorm = [&](const aiter_tensor* top_k, const aiter_tensor* to) {
    return aiter_renorm_probs(tprobs, top_k, nullptr, nullptr, to, &opts, nullptr);
  };
  CHECK(renorm(nullptr, tout) == AITER_OK);
  CHECK(out[0] == 0.5f / 0.75f && out[1] == 0 && out[2] == 0.25f / 0.75f && out[3] == 0);
  CHECK(out[4] == 1 && out[5] == 0);

  opts.top_k = 0;
  opts.top_p = 0.6f;
  CHECK(renorm(nullptr, tout) == AITER_OK);
  CHECK(out[0] == 0.5f / 0.75f && out[1] == 0);
  opts.top_p = 1.0f;
  opts.min_p = 0.25f;  // of the largest: all but none
  CHECK(renorm(nullptr, tout) == AITER_OK);
  CHECK(out[0] == 0.5f && out[1] == 0.125f);

  const std::vector<int32_t> top_k{1, 1};
  Tensor ttop_k(top_k.data(), {2}, test::kI32);
  CHECK(renorm(ttop_k, tprobs) == AITER_OK);
  CHECK(probs[0] == 1 && probs[1] == 0 && probs[4] == 1);

  opts.min_p = 2;
  out[0] = 7;
  CHECK_FAILS(renorm(nullptr, tout), AITER_INVALID_ARGUMENT,
              "renorm_probs: opts.min_p is 2, expected 0 to 1");
  CHECK(out[0] == 7);
  return test::failures;
}
