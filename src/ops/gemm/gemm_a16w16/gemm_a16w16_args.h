#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

struct GemmA16w16Args {
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
