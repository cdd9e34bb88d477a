#pragma once

#include "ops/kvcache/cache_layout.h"
#include "ops/kvcache/cache_turn.h"

namespace aiter {

struct FusedQkRopeReshapeAndCacheArgs {
  static constexpr int64_t kMaxDim = 1024;  // of a head that turns

  // Heads that are turned or not, to rows of an array or to slots of a cache, as they are or as
  // codes with given scales.
  struct Part {
    CacheRows rows;
    DType to_dtype;    // that of the heads, or of codes
    int32_t to_slots;  // else to the token's row: its `page`
    int32_t turns;     // dims [first, first + 2 * pairs)
    int32_t first;
  } parts[4];
  int32_t part_count;
  DType dtype;
  CacheTurn turn;
  CacheSlots slots;
  int64_t tokens;

  // Where a token's heads go; false if nowhere.
  AITER_HOST_DEVICE bool find(const Part& part, int64_t token, int64_t& page,
                              uint32_t& slot) const {
    page = token, slot = 0;
    return !part.to_slots || (token < slots.count && slots.find(token, page, slot));
  }
};

}  // namespace aiter
