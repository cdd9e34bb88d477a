// random_sample from C++: noise of a seed and of the caller, temperatures, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> logits{0, 1, 2, 3, 0, 1, 2, 3};
  std::vector<float> noise{0.01f, 1, 1, 1, 1, 0.5f, 0.5f, 4};
  std::vector<int32_t> out(2, -7);
  Tensor tlogits(logits.data(), {2, 4}), tnoise(noise.data(), {2, 4}),
      tout(out.data(), {2}, test::kI32);
  CHECK(aiter_random_sample(tlogits, nullptr, tnoise, nullptr, nullptr, tout, nullptr, nullptr) ==
        AITER_OK);
  CHECK(out[0] == 0 && out[1] == 2);

  const std::vector<float> temperature{0, 1};
  Tensor ttemperature(temperature.data(), {2});
  CHECK(aiter_random_sample(tlogits, ttemperature, tnoise, nullptr, nullptr, tout, nullptr,
                            nullptr) == AITER_OK);
  CHECK(out[0] == 3 && out[1] == 2);

  // The seed makes the noise that aiter_exponential makes.
  aiter_random_sample_opts opts = AITER_RANDOM_SAMPLE_OPTS_INIT;
  aiter_exponential_opts made = AITER_EXPONENTIAL_OPTS_INIT;
  made.eps = 0;
  int counts[4] = {};
  for (opts.offset = 0; opts.offset < 200; ++opts.offset) {
    made.seed = opts.seed = 5, made.offset = opts.offset;
    CHECK(aiter_random_sample(tlogits, nullptr, nullptr, nullptr, nullptr, tout, &opts, nullptr) ==
          AITER_OK);
    const std::vector<int32_t> token = out;
    ++counts[token[0]];
    CHECK(aiter_exponential(nullptr, nullptr, tnoise, &made, nullptr) == AITER_OK);
    CHECK(aiter_random_sample(tlogits, nullptr, tnoise, nullptr, nullptr, tout, nullptr, nullptr) ==
          AITER_OK);
    CHECK(token == out);
  }
  CHECK(counts[3] > counts[1] && counts[2] > counts[0] && counts[0] < 30);

  out[0] = -7;
  opts.lambd = 0;
  CHECK_FAILS(
      aiter_random_sample(tlogits, nullptr, nullptr, nullptr, nullptr, tout, &opts, nullptr),
      AITER_INVALID_ARGUMENT, "random_sample: opts.lambd is 0, expected");
  opts.lambd = 2;
  CHECK_FAILS(aiter_random_sample(tlogits, nullptr, tnoise, nullptr, nullptr, tout, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "expected none with exponentials");
  CHECK(out[0] == -7);
  return test::failures;
}
