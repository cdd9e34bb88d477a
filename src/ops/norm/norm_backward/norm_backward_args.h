#pragma once

#include "ops/norm/row_norm.h"

namespace aiter {

// The sums over rows (dw, db) are taken in slots: slot s adds up rows s, s + slots, ... in its part of
// `partial`, and then the slots are added up, so that the result depends on the shape alone.
struct NormBackwardArgs {
  const void* dy;
  const void* x;
  const void* w;          // or null
  const void* dresidual;  // or null
  void* dx;
  void* dw;        // or null
  void* db;        // or null
  float* partial;  // slots x hidden for dw, then as many for db
  Rows dy_rows, x_rows, dresidual_rows, dx_rows;
  int64_t hidden;
  int64_t slots;  // on GPUs also how many rows are under way
  NormKind kind;
  DType dtype;    // of dy, x, dresidual and dx
  DType w_dtype;  // of w, dw and db: dtype or f32
  float eps;
  int32_t gemma;
  int32_t threads_per_row;  // GPU: a power of two up to the wave, or the block
};

}  // namespace aiter
