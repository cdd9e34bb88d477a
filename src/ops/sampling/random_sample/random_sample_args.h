#pragma once

#include "ops/sampling/noise.h"

namespace aiter {

struct RandomSampleArgs {
  const void* logits;
  const float* exponentials;  // or null: made of seed and offset
  void* out;
  RowOption temperature, seed, offset;
  int64_t batch, vocab;
  int64_t logits_stride, exponentials_stride, out_stride;
  DType dtype;      // of the logits
  DType out_dtype;  // i32 or i64
  float scale;      // of the noise: 1 / lambd
  float eps;
};

}  // namespace aiter
