#pragma once

#include "ops/kvcache/cache_layout.h"

namespace aiter {

struct ReshapeAndCacheWithBlockQuantArgs {
  static constexpr int64_t kMaxPage = 8192;
  // hip_vec: what a lane has under way; tokens of a block at most, a power of two
  static constexpr int kSlotsAtOnce = 16, kDimsOfLane = 4, kMostTokens = 64;

  CacheRows rows[2];  // of keys and of values
  CacheSlots slots;   // in units of pages that share a scale
  Divisor block;      // slots of a page of the caches, of which one or several share a scale
  int64_t blocks;     // how many
  DType dtype;        // of key and value
  QuantSpec spec;
  float amax_floor;
  int32_t turned[2];        // hip_vec: 16 neighbouring slots are together, else dims
  int32_t tokens_of_block;  // hip_vec
  // On the CPU alone: the tokens, those of a page side by side, and where each page's begin.
  const int64_t* tokens;
  const int64_t* begins;  // run_count + 1
  int64_t run_count;

  AITER_HOST_DEVICE int64_t at_slot(const CacheLayout& to, int64_t page, uint32_t slot) const {
    const uint32_t part = block.divide(slot);
    return to.at_slot(page * blocks + part, slot - part * block.divisor);
  }
};

}  // namespace aiter
