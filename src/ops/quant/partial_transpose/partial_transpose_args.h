#pragma once

#include "core/dtype.h"

namespace aiter {

struct PartialTransposeArgs {
  static constexpr int kTile = 64;  // rows, and columns, that go through shared memory or the cache

  const void* x;
  const int32_t* num_rows;
  void* y;
  int64_t rows, cols;
  int64_t row_stride, col_stride;  // of x, in elements
  int32_t element_bytes;           // 1, 2 or 4

  AITER_HOST_DEVICE int64_t valid_rows() const {
    const int64_t valid = *num_rows;
    return valid < 0 ? 0 : valid < rows ? valid : rows;
  }
};

}  // namespace aiter
