#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

struct GemmA16w16Args {
  static constexpr int kRows = 4;  // GPU: rows of x that a wave takes at a time

  const void* x;
  const void* w;
  const void* bias;  // or null
  void* y;
  Rows x_rows, y_rows;
  int64_t w_stride;  // elements
  int64_t n, k;
  DType dtype;  // of x and w
  DType bias_dtype, y_dtype;
};

}  // namespace aiter
