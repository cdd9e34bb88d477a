#pragma once

#include "ops/norm/row_norm.h"

namespace aiter {

// The sums over rows (dw, db, dx_bias) are taken in slots: slot s adds up rows s, s + slots, ... in its part of
// `partial`, and then the slots are added up, so that the result depends on the shape alone.
struct NormBackwardArgs {
  const void* dy;
  const void* x;
  const void* w;          // or null
  const void* dresidual;  // or null
  void* dx;
  void* dw;        // or null
  void* db;        // or null
  void* dx_bias;   // or null
  float* partial;  // slots x hidden for each of them that is there, in this order
  Rows dy_rows, x_rows, dresidual_rows, dx_rows;
  int64_t hidden;
  int64_t slots;  // on GPUs also how many rows are under way
  NormKind kind;
  DType dtype;    // of dy, x, dresidual and dx
  DType w_dtype;  // of w, dw and db: dtype or f32
  DType dx_bias_dtype;
  float eps;
  int32_t gemma;
  int32_t threads_per_row;  // GPU: a power of two up to the wave, or the block

  AITER_HOST_DEVICE int sums() const {
    return (dw != nullptr) + (db != nullptr) + (dx_bias != nullptr);
  }
  AITER_HOST_DEVICE float* db_partial() const { return partial + (dw ? slots * hidden : 0); }
  AITER_HOST_DEVICE float* dx_bias_partial() const {
    return db_partial() + (db ? slots * hidden : 0);
  }
};

}  // namespace aiter
