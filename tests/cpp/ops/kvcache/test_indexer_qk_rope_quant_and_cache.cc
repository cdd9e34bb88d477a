// indexer_qk_rope_quant_and_cache from C++: a quarter turn of one head, and of a normalized key.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  std::vector<float> q{1, 2, -4, 8}, weights{3}, k{1, 1, -1, -1}, norm_weight{2, 2, 2, 2},
      norm_bias{0, 1, 0, 0}, cos{1, 0}, sin{0, 1}, weights_out{-1};
  std::vector<uint8_t> cache(2 * 2 * 8, 9), q_out(4, 9);
  std::vector<int64_t> slots{3}, positions{1};
  Tensor tq(q.data(), {1, 1, 4}), tweights(weights.data(), {1, 1}), tk(k.data(), {1, 4});
  Tensor tcache(cache.data(), {2, 2, 8}, test::kU8), tq_out(q_out.data(), {1, 1, 4}, test::kU8);
  Tensor tnorm_weight(norm_weight.data(), {4}), tnorm_bias(norm_bias.data(), {4});
  Tensor tcos(cos.data(), {2, 1}), tsin(sin.data(), {2, 1}),
      tweights_out(weights_out.data(), {1, 1});
  Tensor tslots(slots.data(), {1}, test::kI64), tpositions(positions.data(), {1}, test::kI64);
  aiter_indexer_qk_opts opts = AITER_INDEXER_QK_OPTS_INIT;
  opts.epsilon = 0;
  opts.weights_scale = 0.5f;
  opts.ue8m0 = 1;
  auto run = [&] {
    return aiter_indexer_qk_rope_quant_and_cache(tq, tweights, tk, tcache, tslots, tnorm_weight,
                                                 tnorm_bias, tpositions, tcos, tsin, tq_out,
                                                 tweights_out, &opts, nullptr);
  };
  CHECK(run() == AITER_OK);
  // (-2, 1, -4, 8): a scale of 2^-5 makes it (-64, 32, -128, 256), codes of e4m3fn.
  CHECK(q_out == std::vector<uint8_t>({0xe8, 0x60, 0xf0, 0x78}));
  CHECK(weights_out[0] == 3 * 0.03125f * 0.5f);
  // The key is (2, 3, -2, -2), turned (-3, 2, -2, -2): a scale of 2^-7.
  const uint8_t* page = cache.data() + 16;
  CHECK(page[4] == 0xfc && page[5] == 0x78 && page[6] == 0xf8 && page[0] == 9);
  float scale;
  std::memcpy(&scale, page + 8 + 4, 4);
  CHECK(scale == 0.0078125f);
  opts.epsilon = NAN;
  CHECK_FAILS(run(), AITER_INVALID_ARGUMENT, "opts.epsilon is");
  opts.epsilon = 0;
  slots[0] = 4;
  CHECK_FAILS(run(), AITER_INVALID_ARGUMENT, "slot_mapping[0] is 4");
  return test::failures;
}
