#pragma once

#include "ops/kvcache/cache_layout.h"

namespace aiter {

struct GatherCacheArgs {
  struct Side {  // keys or values
    void* to;
    int64_t to_token, to_head;  // strides
    int64_t heads;
    Divisor dim;
    CacheLayout from;
    CacheScales scale;
    DType dtype, cache_dtype;  // the same: bits are copied
    int32_t by_16_bytes;       // may they be moved so
  } sides[2];
  int32_t side_count;
  int32_t lanes;                     // GPU: of a token, a power of two up to the wave
  int32_t wide_table, wide_lengths;  // int64, else int32
  const void* table;
  const void* cu_seqlens;
  int64_t table_stride, table_pages;  // of a sequence
  int64_t sequences;
  int64_t tokens;  // rows of the outputs
  int64_t pages;
  Divisor block;
  Divisor scale_pages;  // pages that share a scale

  AITER_HOST_DEVICE int64_t begin_of(int64_t sequence) const {
    return wide_lengths ? static_cast<const int64_t*>(cu_seqlens)[sequence]
                        : static_cast<const int32_t*>(cu_seqlens)[sequence];
  }
  // Page and slot of token i of a sequence; false where there is none.
  AITER_HOST_DEVICE bool find(int64_t sequence, int64_t i, int64_t& page, uint32_t& slot) const {
    const int64_t entry = block.divide(i);
    slot = static_cast<uint32_t>(i - entry * block.divisor);
    if (entry >= table_pages) return false;
    const int64_t at = sequence * table_stride + entry;
    page = wide_table ? static_cast<const int64_t*>(table)[at]
                      : static_cast<const int32_t*>(table)[at];
    return page >= 0 && page < pages;
  }
  AITER_HOST_DEVICE int64_t scale_index(const Side& side, int64_t page, uint32_t slot,
                                        int64_t head) const {
    return scale_pages.divide(page) * side.scale.page + slot * side.scale.slot +
           head * side.scale.head;
  }
};

}  // namespace aiter
