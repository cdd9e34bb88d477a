#pragma once

#include "core/rows.h"
#include "ops/sampling/row_option.h"

namespace aiter {

struct TopkArgs {
  const void* x;
  void* values;  // or null
  void* indices;
  Rows x_rows, values_rows, indices_rows;
  int64_t x_stride, values_stride, indices_stride;  // along the searched dimension
  RowOption row_starts, row_ends;                   // null data = value
  int64_t n, k, next_n;
  DType dtype;        // of x and values: f32, f16, bf16 or i32
  DType index_dtype;  // i32 or i64
  int32_t smallest, sorted;

  // The part of row r that is searched.
  AITER_EVERYWHERE int64_t begin(int64_t r) const {
    const int64_t first = row_starts.integer(r);
    return first < 0 ? 0 : first;
  }
  AITER_EVERYWHERE int64_t end(int64_t r) const {
    if (!row_ends.data) return n;
    const int64_t last = row_ends.integer(r / next_n) - next_n + 1 + r % next_n;
    return last < n ? last : n;
  }
};

}  // namespace aiter
