// reshape_and_cache_with_block_quant from C++: a page whose scale grows.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  std::vector<float> rows{1, -2, 0.5f, 4, -8, 2};  // tokens of two dims
  std::vector<int8_t> key_cache(16, 9), value_cache(16, 9);
  std::vector<float> k_scale{7, 7}, v_scale{7, 7};
  std::vector<int64_t> slots{4, 5};
  Tensor first(rows.data(), {2, 1, 2}), next(rows.data() + 4, {1, 1, 2});
  Tensor tkc(key_cache.data(), {2, 4, 1, 2}, test::kI8);
  Tensor tvc(value_cache.data(), {2, 4, 1, 2}, test::kI8);
  Tensor tks(k_scale.data(), {1, 2}), tvs(v_scale.data(), {1, 2});
  Tensor tslots(slots.data(), {2}, test::kI64), tnext(slots.data(), {1}, test::kI64);

  CHECK(aiter_reshape_and_cache_with_block_quant(first, first, tkc, tvc, tks, tvs, tslots, nullptr,
                                                 nullptr) == AITER_OK);
  CHECK(k_scale[1] == 4.0f / 127 && k_scale[0] == 7);
  CHECK(key_cache[8] == 32 && key_cache[9] == -64 && key_cache[11] == 127 && key_cache[12] == 9);

  slots[0] = 6;
  CHECK(aiter_reshape_and_cache_with_block_quant(next, next, tkc, tvc, tks, tvs, tnext, nullptr,
                                                 nullptr) == AITER_OK);
  CHECK(k_scale[1] == 8.0f / 127 && v_scale[1] == 8.0f / 127);
  CHECK(key_cache[12] == -127 && key_cache[13] == 32);
  CHECK(key_cache[8] == 16 && key_cache[9] == -32 && key_cache[11] == 64 && key_cache[7] == 9);

  aiter_reshape_and_cache_with_block_quant_opts opts =
      AITER_RESHAPE_AND_CACHE_WITH_BLOCK_QUANT_OPTS_INIT;
  opts.page_slots = 3;
  CHECK_FAILS(aiter_reshape_and_cache_with_block_quant(next, next, tkc, tvc, tks, tvs, tnext, &opts,
                                                       nullptr),
              AITER_INVALID_ARGUMENT, "opts.page_slots is 3, expected a multiple of the page's 4");
  slots[0] = 8;
  CHECK_FAILS(aiter_reshape_and_cache_with_block_quant(next, next, tkc, tvc, tks, tvs, tnext,
                                                       nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "slot_mapping[0] is 8, expected less than the cache's 8");
  return test::failures;
}
