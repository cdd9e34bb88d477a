// top_k_top_p_sampling from C++: the Philox stream, thresholds, options a row, refusals.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  // 65536 equal tokens: the token is the top 16 bits of the 64-bit number drawn. Philox 4x32-10 of
  // counter 0 and key 0 begins 6627e8d5 e169c58d (Random123's known answers).
  const std::vector<float> flat(65536, 0.25f);
  std::vector<int32_t> out(1, -7);
  Tensor tflat(flat.data(), {1, 65536}), tout(out.data(), {1}, test::kI32);
  auto sample = [&](const aiter_tensor* in, const aiter_top_k_top_p_sampling_opts* opts) {
    return aiter_top_k_top_p_sampling(in, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                                      nullptr, tout, opts, nullptr);
  };
  CHECK(sample(tflat, nullptr) == AITER_OK);
  CHECK(out[0] == 0xe169);
  aiter_top_k_top_p_sampling_opts opts = AITER_TOP_K_TOP_P_SAMPLING_OPTS_INIT;
  opts.input_is_probs = 1;
  opts.seed = 0x299f31d0a4093822;
  opts.offset = 0x85a308d3243f6a88;
  CHECK(sample(tflat, &opts) == AITER_OK);
  const int32_t first = out[0];
  CHECK(sample(tflat, &opts) == AITER_OK && out[0] == first);
  opts.offset += 1;
  CHECK(sample(tflat, &opts) == AITER_OK && out[0] != first);

  const std::vector<float> logits{0, 3, 1, 2};
  Tensor tlogits(logits.data(), {1, 4});
  opts = AITER_TOP_K_TOP_P_SAMPLING_OPTS_INIT;
  int counts[4] = {};
  opts.top_k = 2;
  for (opts.offset = 0; opts.offset < 100; ++opts.offset) {
    CHECK(sample(tlogits, &opts) == AITER_OK);
    ++counts[out[0]];
  }
  CHECK(counts[0] == 0 && counts[2] == 0 && counts[1] > counts[3] && counts[3] > 0);
  opts.temperature = 0;
  CHECK(sample(tlogits, &opts) == AITER_OK && out[0] == 1);

  // Rows chosen by index, with options of their own.
  const std::vector<float> rows{0, 9, 9, 0};
  const std::vector<int64_t> index{1, 0}, seed{5, 6};
  const std::vector<float> temperature{0, 0};
  std::vector<int64_t> two(2, -7);
  Tensor trows(rows.data(), {2, 2}), tindex(index.data(), {2}, test::kI64);
  Tensor tseed(seed.data(), {2}, test::kI64), ttemperature(temperature.data(), {2});
  Tensor ttwo(two.data(), {2}, test::kI64);
  CHECK(aiter_top_k_top_p_sampling(trows, tindex, ttemperature, nullptr, nullptr, nullptr, tseed,
                                   nullptr, ttwo, nullptr, nullptr) == AITER_OK);
  CHECK(two[0] == 0 && two[1] == 1);

  out[0] = -7;
  opts = AITER_TOP_K_TOP_P_SAMPLING_OPTS_INIT;
  opts.top_p = 1.5f;
  CHECK_FAILS(sample(tlogits, &opts), AITER_INVALID_ARGUMENT,
              "top_k_top_p_sampling: opts.top_p is 1.5, expected 0 to 1");
  opts = AITER_TOP_K_TOP_P_SAMPLING_OPTS_INIT;
  opts.input_is_probs = 1;
  opts.temperature = 0.5f;
  CHECK_FAILS(sample(tlogits, &opts), AITER_INVALID_ARGUMENT, "temperature is given");
  CHECK(out[0] == -7);
  return test::failures;
}
