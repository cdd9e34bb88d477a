// A strided view of rows, shared by host code and kernels (so: no library headers in device code).
#pragma once

#ifdef AITER_DEVICE_CODE
#include "ck/core/prelude.h"
#else
#include <stdint.h>
#endif

namespace aiter {

// Row r starts r / inner * outer_stride + r % inner * inner_stride elements after the first.
struct Rows {
  int64_t count;
  int64_t inner;  // at least 1
  int64_t outer_stride;
  int64_t inner_stride;

#ifdef AITER_DEVICE_CODE
  // GPUs divide slowly: most tensors need no division, nearly all others one of 32 bits, and the
  // rest take a loop, which is short in code.
  AITER_DEVICE int64_t offset(int64_t r) const {
    if (inner >= count) return r * inner_stride;
    if (inner == 1) return r * outer_stride;
    if ((count >> 31) == 0) {
      const uint32_t row = static_cast<uint32_t>(r), n = static_cast<uint32_t>(inner);
      return static_cast<int64_t>(row / n) * outer_stride +
             static_cast<int64_t>(row % n) * inner_stride;
    }
    int64_t quotient = 0, rest = 0;
    AITER_NO_UNROLL
    for (int bit = 62; bit >= 0; --bit) {
      rest = rest << 1 | (r >> bit & 1);
      if (rest >= inner) rest -= inner, quotient |= int64_t{1} << bit;
    }
    return quotient * outer_stride + rest * inner_stride;
  }
#else
  // A copy of its own would be compiled for one instruction set and linked for all.
  __attribute__((always_inline)) int64_t offset(int64_t r) const {
    return r / inner * outer_stride + r % inner * inner_stride;
  }
#endif
};

#ifndef AITER_DEVICE_CODE
// For kernels that load 16 bytes at a time: the address, or each row's, is a multiple of 16 bytes.
inline bool is_aligned16(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }
inline bool is_aligned16(const void* data, const Rows& rows, int64_t element_bytes) {
  return is_aligned16(data) && rows.outer_stride * element_bytes % 16 == 0 &&
         rows.inner_stride * element_bytes % 16 == 0;
}
#endif

}  // namespace aiter
