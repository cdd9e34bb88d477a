#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

struct GemmA8w8Args {
  static constexpr int kRows = 4;  // GPU: rows of x that a wave takes at a time

  const int8_t* x;
  const int8_t* w;
  const float* x_scale;  // one per row
  const float* w_scale;
  const void* bias;  // or null
  void* y;
  Rows x_rows, y_rows;
  int64_t w_stride;
  int64_t n, k;
  DType bias_dtype, y_dtype;
};

}  // namespace aiter
