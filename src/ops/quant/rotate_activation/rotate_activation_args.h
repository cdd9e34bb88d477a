#pragma once

#include "core/quant_spec.h"

namespace aiter {

struct RotateActivationArgs {
  static constexpr int64_t kMaxCols = 8192;  // a row is worked on in caches and shared memory

  static constexpr int kColumns = 32;  // GPU, hip_vec: of a thread

  const void* x;
  void* y;       // null when the result is quantized
  QuantOut out;  // codes is null when it is not
  Rows x_rows, y_rows;
  int64_t cols;  // a power of two
  float scale;   // 1 / sqrt(cols)
  DType dtype;   // of x
  DType y_dtype;
  int32_t threads_per_row;  // GPU
};

}  // namespace aiter
