#pragma once

#include "ops/sampling/philox.h"

namespace aiter {

struct TopKTopPSamplingArgs {
  const void* input;
  void* out;
  RowOption indices;  // value unused: null data = every row once
  RowOption temperature, top_k, top_p, min_p, seed, offset;
  int64_t batch, rows, vocab;
  int64_t input_stride, out_stride;
  DType dtype;      // of the input
  DType out_dtype;  // i32 or i64
  int32_t probs, top_k_first;
};

}  // namespace aiter
