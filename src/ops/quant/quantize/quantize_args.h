#pragma once

#include "core/quant_spec.h"
#include "core/rows.h"

namespace aiter {

// Shared by quantize (x to codes) and dequantize (codes to x).
struct QuantizeArgs {
  static constexpr int kWaveGroup = 2048;  // GPU: numbers of a group that a wave takes alone

  const void* x;
  const float* smooth;      // or null
  const int32_t* num_rows;  // or null
  void* codes;
  void* scale;
  Rows x_rows;
  Rows codes_rows;  // in bytes
  Rows scale_rows;
  int64_t scale_col_stride;
  int64_t cols;
  int64_t group_rows, group_cols;  // at least 1
  DType dtype;                     // of x
  QuantSpec spec;
  int32_t static_scale;
};

}  // namespace aiter
