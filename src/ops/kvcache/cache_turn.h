// The rotation of heads on their way into a cache: the row of cos and sin that a token's position
// names, and the pairs that it turns. The arithmetic is that of aiter_rotary_embedding.
#pragma once

#include "core/quant_spec.h"

namespace aiter {

struct CacheTurn {
  const void* cos;
  const void* sin;
  int64_t cos_stride, sin_stride;
  int64_t rows;   // of the tables
  int64_t pairs;  // of a head
  const void* positions;
  int64_t position_stride;
  DType dtype;            // of the tables
  DType positions_dtype;  // i32 or i64
  int32_t interleaved;    // 2 i turns with 2 i + 1, instead of i with i + pairs

  // The token's row, or -1 where there is none: it does not turn.
  AITER_HOST_DEVICE int64_t row(int64_t token) const {
    const int64_t i = token * position_stride;
    const int64_t row = positions_dtype == DType::kI64 ? static_cast<const int64_t*>(positions)[i]
                                                       : static_cast<const int32_t*>(positions)[i];
    return row < rows && row >= 0 ? row : -1;
  }
  // Where pair p lies: its first element, and from there to the second.
  AITER_HOST_DEVICE int64_t first(int64_t p) const { return interleaved ? 2 * p : p; }
  AITER_HOST_DEVICE int64_t apart() const { return interleaved ? 1 : pairs; }
};

}  // namespace aiter
