#pragma once

#include "core/rows.h"

namespace aiter {

// Pages of one cache, or of two, that are copied as bytes.
struct CopyBlocksArgs {
  struct Cache {
    const void* from;
    void* to;
    int64_t page;                  // bytes of a page, which has no gaps
    int64_t from_page, to_page;    // strides, in bytes
    int64_t from_pages, to_pages;  // how many there are
  } caches[2];
  int32_t cache_count;
  int32_t wide_mapping;  // int64, else int32
  const void* mapping;
  int64_t pairs;
  int64_t pair_stride, end_stride;  // of mapping, in elements

#ifdef AITER_DEVICE_CODE
  AITER_DEVICE
#else
  inline __attribute__((always_inline))
#endif
  int64_t page_of(int64_t pair, int end) const {
    const int64_t i = pair * pair_stride + end * end_stride;
    return wide_mapping ? static_cast<const int64_t*>(mapping)[i]
                        : static_cast<const int32_t*>(mapping)[i];
  }
};

}  // namespace aiter
