#pragma once

#include "ops/sampling/row_option.h"

namespace aiter {

struct RenormProbsArgs {
  const void* probs;
  void* out;
  RowOption top_k, top_p, min_p;
  int64_t rows, vocab;
  int64_t probs_stride, out_stride;
  DType dtype;  // of both
  int32_t top_k_first;
};

}  // namespace aiter
