// What the norms of rows take, on the CPU and on GPUs: all arguments of rmsnorm and layernorm, and
// the first part of those of norm_quant.
#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

enum class NormKind : int32_t { kRms, kLayer };

struct RowNormArgs {
  const void* x;
  const void* x_bias;       // or null
  const void* residual_in;  // or null
  const void* w;            // or null
  const void* b;            // or null; never with kRms
  void* y;                  // or null (norm_quant)
  void* residual_out;       // null exactly when residual_in is
  Rows x_rows, residual_in_rows, y_rows, residual_out_rows;
  int64_t hidden;
  int64_t y_cols;  // at least hidden; y is 0 from there on
  DType dtype;     // of x, x_bias and the residuals
  DType y_dtype;   // dtype; or f32 (norm_quant)
  DType w_dtype;   // of w and b: dtype or f32
  float eps;
  int32_t gemma;
  int32_t model_sensitive;
  int32_t threads_per_row;  // GPU: a power of two up to the wave, or the block
};

}  // namespace aiter
