#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

struct RmsnormArgs {
  // GPU: packs (16 bytes, or an element) of a row that a thread keeps in registers.
  static constexpr int kChunks = 2;

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
};

}  // namespace aiter
