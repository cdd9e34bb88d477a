#pragma once

#include "ops/sampling/row_option.h"

namespace aiter {

struct GreedySampleArgs {
  const void* logits;
  void* out;
  int64_t batch, vocab;
  int64_t logits_stride, out_stride;
  DType dtype;      // of the logits
  DType out_dtype;  // i32 or i64
};

}  // namespace aiter
