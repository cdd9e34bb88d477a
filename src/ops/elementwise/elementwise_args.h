// The arguments of elementwise kernels: operands over one shape.
#pragma once

#include "core/dtype.h"

namespace aiter {

struct ElementwiseArgs {
  static constexpr int kMaxRank = 8, kMaxInputs = 3;

  const void* in[kMaxInputs];  // null: a number
  void* out;
  double number[kMaxInputs];
  // The last dimension is the innermost one: of the smallest stride of `out`. Inputs that are
  // repeated there, numbers too, have stride 0.
  int64_t extent[kMaxRank];
  int64_t in_stride[kMaxInputs][kMaxRank];
  int64_t out_stride[kMaxRank];
  DType in_dtype[kMaxInputs];
  DType out_dtype;
  DType common;  // tensors of other kinds are converted to it first, and results
  int32_t op;
  int32_t rank;         // at least 1
  int32_t row_threads;  // GPU: threads along the last dimension, a power of two
};

}  // namespace aiter
