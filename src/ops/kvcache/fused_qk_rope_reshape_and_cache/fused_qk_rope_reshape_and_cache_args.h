#pragma once

#include "ops/kvcache/cache_layout.h"
#include "ops/rope/head_norm.h"
#include "ops/rope/rope_angles.h"

namespace aiter {

struct FusedQkRopeReshapeAndCacheArgs {
  static constexpr int64_t kMaxDim = 1024;  // of a head that is normalized or turns
  static constexpr int kMaxParts = 4;

  // The order of computed scales: by strides, or as matrix instructions read the e8m0 scales of 32
  // tokens, in tiles of 2 or 8 columns (gfx950) or of 4 (gfx1250).
  enum class ScaleOrder : int32_t { kStrided, kTiles2, kTiles8, kTiles4 };

  // Where heads go, as they are or as codes: rows of an array, or slots of a cache.
  struct Target {
    CacheLayout to;
    CacheScales scale;
    DType dtype;
    CacheQuant quant;
    int64_t group;       // kDynamic: dims that share a scale
    DType scale_dtype;   // f32, or e8m0: a power of two
    int32_t scale_bits;  // log2 of the copies of a scale, side by side
    float amax_floor;    // a scale makes room for this much at least
    int32_t to_slots;    // else to the token's row: its `page`
    int32_t whole;       // hip_vec: packs stay together, at multiples of their size
    ScaleOrder order;    // else than kStrided: scale.page is of 32 tokens, scale.slot of a row of
    Divisor columns;     // so many groups, scale.head a head's groups

    AITER_HOST_DEVICE int64_t scale_at(int64_t page, uint32_t slot, int64_t head,
                                       int64_t group_index) const {
      if (order == ScaleOrder::kStrided)
        return page * scale.page + slot * scale.slot + head * scale.head +
               group_index * scale.group;
      const int64_t flat = head * scale.head + group_index, row = columns.divide(flat);
      const int64_t k = flat - row * columns.divisor;
      const int64_t at = (page >> 5) * scale.page + row * scale.slot;
      switch (order) {
        case ScaleOrder::kTiles2:
          return at + (k >> 1) * 64 + (page & 15) * 4 + (k & 1) * 2 + (page >> 4 & 1);
        case ScaleOrder::kTiles8:
          return at + (k >> 3) * 256 + (k & 3) * 64 + (page & 15) * 4 + (k >> 2 & 1) * 2 +
                 (page >> 4 & 1);
        default:
          return at + (k >> 2) * 128 + (page & 31) * 4 + (k & 3);
      }
    }
  };
  // Heads that are normalized or not, turned or not, and go to one or two places.
  struct Part {
    const void* from;
    int64_t from_token, from_head;  // strides
    int64_t heads, dim;
    HeadNorm norm;
    int32_t turns;  // dims [first, first + 2 * pairs)
    int32_t first;
    int32_t target_count;
    Target targets[2];
  } parts[kMaxParts];
  int32_t part_count;
  DType dtype;        // of the heads
  DType code;         // of all targets of codes, so that threads part no ways
  RopeAngles angles;  // pairs = 0: no rotation
  CacheSlots slots;
  int64_t tokens;
  int32_t lanes_per_head;  // GPU: a power of two up to the wave

  // Where a token's heads go; false if nowhere.
  AITER_HOST_DEVICE bool find(const Target& target, int64_t token, int64_t& page,
                              uint32_t& slot) const {
    page = token, slot = 0;
    return !target.to_slots || (token < slots.count && slots.find(token, page, slot));
  }
};

}  // namespace aiter
