// reshape_and_cache from C++: results, skipped slots, refusals.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> key{1, 2, 3, 4, 5, 6, 7, 8}, value{11, 12, 13, 14, 15, 16, 17, 18};
  std::vector<float> key_cache(24, -1), value_cache(24, -1);
  std::vector<int64_t> slots{5, -1, 0, 2};
  Tensor tkey(key.data(), {4, 1, 2}), tvalue(value.data(), {4, 1, 2});
  Tensor tkc(key_cache.data(), {3, 4, 1, 2}), tvc(value_cache.data(), {3, 4, 1, 2});
  Tensor tslots(slots.data(), {4}, test::kI64);

  CHECK(aiter_reshape_and_cache(tkey, tvalue, tkc, tvc, tslots, nullptr, nullptr, nullptr,
                                nullptr) == AITER_OK);
  std::vector<float> want(24, -1);
  want[10] = 1, want[11] = 2, want[0] = 5, want[1] = 6, want[4] = 7, want[5] = 8;
  CHECK(key_cache == want);
  for (float& w : want)
    if (w > 0) w += 10;
  CHECK(value_cache == want);

  slots[3] = 12;
  key_cache.assign(24, -1);
  CHECK_FAILS(
      aiter_reshape_and_cache(tkey, tvalue, tkc, tvc, tslots, nullptr, nullptr, nullptr, nullptr),
      AITER_INVALID_ARGUMENT, "slot_mapping[3] is 12, expected less than the cache's 12");
  CHECK_FAILS(
      aiter_reshape_and_cache(tkey, tvalue, tkc, tvc, nullptr, nullptr, nullptr, nullptr, nullptr),
      AITER_INVALID_ARGUMENT, "slot_mapping is NULL");
  aiter_reshape_and_cache_opts opts = AITER_RESHAPE_AND_CACHE_OPTS_INIT;
  opts.flags = AITER_DRY_RUN;
  slots[3] = 3;
  CHECK(aiter_reshape_and_cache(tkey, tvalue, tkc, tvc, tslots, nullptr, nullptr, &opts, nullptr) ==
        AITER_OK);
  CHECK(key_cache == std::vector<float>(24, -1));

  // Codes: int8 with a given scale, and with one per token.
  std::vector<int8_t> key_codes(24, -1), value_codes(24, -1);
  std::vector<float> k_scale{0.5f}, v_scale{2}, k_scales(12, -1), v_scales(12, -1);
  Tensor tkq(key_codes.data(), {3, 4, 1, 2}, test::kI8);
  Tensor tvq(value_codes.data(), {3, 4, 1, 2}, test::kI8);
  Tensor tks(k_scale.data(), {1}), tvs(v_scale.data(), {1});
  Tensor tks12(k_scales.data(), {1, 12}), tvs12(v_scales.data(), {1, 12});
  CHECK(aiter_reshape_and_cache(tkey, tvalue, tkq, tvq, tslots, tks, tvs, nullptr, nullptr) ==
        AITER_OK);
  CHECK(key_codes[10] == 2 && key_codes[11] == 4 && value_codes[10] == 6 && value_codes[11] == 6);
  opts.flags = 0;
  opts.quant = AITER_CACHE_QUANT_PER_TOKEN;
  CHECK(aiter_reshape_and_cache(tkey, tvalue, tkq, tvq, tslots, tks12, tvs12, &opts, nullptr) ==
        AITER_OK);
  CHECK(k_scales[5] == 2.0f / 127 && key_codes[10] == 64 && key_codes[11] == 127);
  CHECK(k_scales[1] == -1 && v_scales[0] == 16.0f / 127);
  return test::failures;
}
