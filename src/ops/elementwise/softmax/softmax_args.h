#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

struct SoftmaxArgs {
  const void* x;
  void* y;
  Rows x_rows, y_rows;
  int64_t n;
  DType dtype;
  int32_t threads_per_row;  // GPU: a power of two up to the wave, or the block
};

}  // namespace aiter
