// Where things lie in a paged cache, whatever its layout: one formula, filled in from a tensor's
// strides by cache_checks.h and read by the CPU rows and the kernels.
//
//   flash              (pages, block, heads, dim)
//   vectorized keys    (pages, heads, dim / x, block, x)
//   transposed values  (pages, heads, dim, block)
//   "asm" values       (pages, heads, block / x, dim, x)
//   MLA                (pages, block, latent + rope), or both parts in segments of their own
//   indexer            (pages, all codes, then all scales), in rows or in tiles of 16 x 16
//   NVFP4 MLA          (pages, heads, of the latent, then of rope: all codes, then all scales)
#pragma once

#include "core/quant_spec.h"

namespace aiter {

// Exact division by a number below 2^31: of 32-bit numbers by a multiplication.
struct Divisor {
  uint32_t divisor, magic, shift;

  AITER_HOST_DEVICE uint32_t divide(uint32_t n) const {
    return static_cast<uint32_t>(((static_cast<uint64_t>(n) * magic >> 32) + n) >> shift);
  }
  AITER_HOST_DEVICE int64_t divide(int64_t n) const {  // n >= 0
    if (n < int64_t{0xffffffff}) return divide(static_cast<uint32_t>(n));
#ifdef AITER_DEVICE_CODE
    // The lower half bit by bit: rare, and short in code.
    const uint32_t high = static_cast<uint32_t>(n >> 32), low = static_cast<uint32_t>(n);
    int64_t quotient = divide(high);
    uint32_t rest = high - static_cast<uint32_t>(quotient) * divisor;
    AITER_NO_UNROLL
    for (int bit = 31; bit >= 0; --bit) {
      rest = rest << 1 | (low >> bit & 1);
      quotient <<= 1;
      if (rest >= divisor) rest -= divisor, quotient |= 1;
    }
    return quotient;
#else
    return n / divisor;
#endif
  }
};

inline constexpr int32_t kNotSplit = 31;  // of slot_bits and dim_bits

// Element (page, slot of the page, head, dim) of a cache; strides are in elements. Slots and dims
// may be split into groups of 2^bits neighbours, with a stride between groups and one inside.
struct CacheLayout {
  void* data;
  int64_t page, head;
  int64_t slot_outer, slot_inner;
  int64_t dim_outer, dim_inner;
  int32_t slot_bits, dim_bits;

  AITER_HOST_DEVICE int64_t at_slot(int64_t in_page, uint32_t slot) const {
    return in_page * page + static_cast<int64_t>(slot >> slot_bits) * slot_outer +
           static_cast<int64_t>(slot & ((1u << slot_bits) - 1)) * slot_inner;
  }
  AITER_HOST_DEVICE int64_t at_dim(uint32_t dim) const {
    return static_cast<int64_t>(dim >> dim_bits) * dim_outer +
           static_cast<int64_t>(dim & ((1u << dim_bits) - 1)) * dim_inner;
  }
};

// Where a slot comes in a cache's scales of NVFP4: of 128, four that are 32 apart are neighbours.
AITER_HOST_DEVICE uint32_t nvfp4_scale_slot(uint32_t slot) {
  return (slot & ~127u) | (slot & 31u) << 2 | (slot >> 5 & 3u);
}

// The scale of (page, slot, head, group of dims); a stride is 0 where a scale is shared.
struct CacheScales {
  float* data;  // null: 1
  int64_t page, slot, head, group;
};

// Which slot each token goes to.
struct CacheSlots {
  const void* data;
  int64_t count;
  int64_t pages;
  int64_t capacity;  // pages * block
  Divisor block;     // slots of a page
  DType dtype;       // i32 or i64

  AITER_HOST_DEVICE int64_t operator[](int64_t token) const {
    return dtype == DType::kI64 ? static_cast<const int64_t*>(data)[token]
                                : static_cast<const int32_t*>(data)[token];
  }
  // False for a token that is skipped.
  AITER_HOST_DEVICE bool find(int64_t token, int64_t& page, uint32_t& slot) const {
    const int64_t at = (*this)[token];
    if (at < 0 || at >= capacity) return false;
    page = block.divide(at);
    slot = static_cast<uint32_t>(at - page * block.divisor);
    return true;
  }
};

// Heads of tokens, and where they go.
struct CacheRows {
  const void* from;
  int64_t from_token, from_head;  // strides
  int64_t heads, dim;
  CacheLayout to;
  CacheScales scale;
};

enum class CacheQuant : int32_t {
  kNone,     // the cache holds floats, or the bits as they come
  kStatic,   // codes, with scales that are given
  kDynamic,  // codes, with scales computed for each token, head and group of dims
  kNvfp4,    // codes of 4 bits, with e4m3fn scales computed for each 16 dims
};

}  // namespace aiter
