#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

struct RmsnormArgs {
  const void* x;
  const void* residual_in;  // or null
  const void* w;            // or null
  void* y;
  void* residual_out;  // null exactly when residual_in is
  Rows x_rows, residual_in_rows, y_rows, residual_out_rows;
  int64_t hidden;
  DType dtype;    // of x, y and the residuals
  DType w_dtype;  // dtype or f32
  float eps;
  int32_t gemma;
  int32_t model_sensitive;
  int32_t threads_per_row;  // GPU: a power of two up to the wave, or the block
};

}  // namespace aiter
