// Options and index ranges of each row of a batch, shared by host code and kernels.
#pragma once

#include "core/dtype.h"

#ifdef AITER_DEVICE_CODE
#define AITER_EVERYWHERE AITER_DEVICE
#else
#define AITER_EVERYWHERE __attribute__((always_inline)) inline
#endif

namespace aiter {

// An option that is a number for all rows, or a tensor with one for each.
struct RowOption {
  const void* data;  // null = value
  int64_t stride;
  DType dtype;  // f32, i32 or i64
  union {
    float real;
    int64_t integer;  // seeds and offsets: the bits of a uint64_t
  } value;

  AITER_EVERYWHERE int64_t integer(int64_t row) const {
    if (!data) return value.integer;
    return dtype == DType::kI32 ? static_cast<const int32_t*>(data)[row * stride]
                                : static_cast<const int64_t*>(data)[row * stride];
  }
  AITER_EVERYWHERE float real(int64_t row) const {
    return data ? static_cast<const float*>(data)[row * stride] : value.real;
  }
};

// Writes an index to a tensor of int32 or int64.
AITER_EVERYWHERE void store_index(void* data, DType dtype, int64_t at, int64_t index) {
  if (dtype == DType::kI32)
    static_cast<int32_t*>(data)[at] = static_cast<int32_t>(index);
  else
    static_cast<int64_t*>(data)[at] = index;
}

}  // namespace aiter
