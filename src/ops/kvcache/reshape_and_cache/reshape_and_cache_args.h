#pragma once

#include "ops/kvcache/cache_layout.h"

namespace aiter {

struct ReshapeAndCacheArgs {
  CacheRows rows[2];  // of keys and of values
  int32_t row_count;
  CacheQuant quant;
  CacheSlots slots;
  DType dtype;        // of the tokens
  DType cache_dtype;  // with quant: of the codes
  QuantSpec spec;
  int64_t group;                // dims that share a scale
  CacheLayout nvfp4_scales[2];  // at (page, nvfp4_scale_slot(slot), head, dim / 16), in bytes
  float amax_floor;             // a scale makes room for this much at least
  int32_t threads_per_token;    // of hip_vec
  // For hip_quant and hip_tiles, whose lanes have 16 dims each:
  int32_t team_bits;       // log2 of the lanes that share a scale, or have a head
  Divisor head_groups[2];  // hip_quant: groups of a head
  int32_t whole[2];        // 16 bytes of dims stay together in the cache, at multiples of 16 bytes
};

}  // namespace aiter
