// gather_cache and cp_gather_indexer_k_quant_cache from C++, after the writes they undo.
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  std::vector<float> cache(24);
  for (size_t i = 0; i < cache.size(); ++i) cache[i] = static_cast<float>(i);
  std::vector<float> key(10, -1), value(10, -1);
  std::vector<int32_t> table{2, 0}, lengths{0, 5};
  Tensor tcache(cache.data(), {3, 4, 1, 2});
  Tensor tkey(key.data(), {5, 1, 2}), tvalue(value.data(), {5, 1, 2});
  Tensor ttable(table.data(), {1, 2}, test::kI32), tlengths(lengths.data(), {2}, test::kI32);
  CHECK(aiter_gather_cache(tcache, tcache, ttable, tlengths, nullptr, nullptr, tkey, tvalue,
                           nullptr, nullptr) == AITER_OK);
  CHECK(key == std::vector<float>({16, 17, 18, 19, 20, 21, 22, 23, 0, 1}) && value == key);
  table[1] = 3;
  CHECK_FAILS(aiter_gather_cache(tcache, nullptr, ttable, tlengths, nullptr, nullptr, tkey, nullptr,
                                 nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "block_table is 3 at (0, 1), expected 0 to 2");
  table[1] = 0;

  // The indexer's keys: 4 slots of 8 dims and a scale.
  std::vector<float> k{1, -2, 0.5f, 4, -8, 2, 0, 1}, scale(1, -1);
  std::vector<uint8_t> pages(2 * 4 * 12, 9), codes(8, 9);
  std::vector<int64_t> slots{5};
  Tensor tk(k.data(), {1, 8}), tpages(pages.data(), {2, 4, 12}, test::kU8);
  Tensor tslots(slots.data(), {1}, test::kI64);
  CHECK(aiter_indexer_k_quant_and_cache(tk, tpages, tslots, nullptr, nullptr) == AITER_OK);
  table[0] = 1;
  lengths[1] = 2;
  std::vector<uint8_t> two(16);
  std::vector<float> scales(2);
  Tensor tcodes(two.data(), {2, 8}, test::kU8), tscales(scales.data(), {2, 1});
  CHECK(aiter_cp_gather_indexer_k_quant_cache(tpages, tcodes, tscales, ttable, tlengths, nullptr,
                                              nullptr) == AITER_OK);
  CHECK(scales[1] == 8.0f / 448 && two[12] == 0xfe && two[14] == 0 && two[0] == 9);
  lengths[1] = 3;
  CHECK_FAILS(aiter_cp_gather_indexer_k_quant_cache(tpages, tcodes, tscales, ttable, tlengths,
                                                    nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "cu_seqlens is 3 at 1, expected 0 to the 2 tokens");

  // MLA rows, into a cache of either form.
  std::vector<float> kv_c{1, 2}, k_pe{3}, rows(12, -1);
  Tensor tkv_c(kv_c.data(), {1, 2}), tk_pe(k_pe.data(), {1, 1});
  Tensor paged(rows.data(), {2, 2, 3}), segments(rows.data(), {2, 6});
  slots[0] = 3;
  CHECK(aiter_concat_and_cache_mla(tkv_c, tk_pe, paged, tslots, nullptr, nullptr, nullptr) ==
        AITER_OK);
  CHECK(rows[9] == 1 && rows[10] == 2 && rows[11] == 3 && rows[8] == -1);
  CHECK(aiter_concat_and_cache_mla(tkv_c, tk_pe, segments, tslots, nullptr, nullptr, nullptr) ==
        AITER_OK);
  CHECK(rows[8] == 1 && rows[9] == 2 && rows[11] == 3 && rows[7] == -1);
  return test::failures;
}
