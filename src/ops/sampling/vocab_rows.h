// Rows of logits or probabilities over a vocabulary: what the samplers check of them, and how many
// blocks take them on a GPU.
#pragma once

#include <algorithm>

#include "core/check.h"
#include "launch/launch.h"

namespace aiter {

// The vocabulary's size.
inline int64_t check_vocab_rows(const Arg& rows) {
  rows.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(2).unit_last_stride();
  const int64_t vocab = rows.dim(1);
  if (vocab < 1 || vocab > INT32_MAX)
    rows.refuse("has vocab %lld, expected 1 to 2^31 - 1", static_cast<long long>(vocab));
  return vocab;
}

// A block for each row; more rows than fit in a grid go round again.
inline Grid vocab_grid(int64_t rows, int64_t vocab) {
  return {.x = std::min<int64_t>(rows, 1 << 20), .threads = vocab < 4096 ? 256 : 1024};
}

}  // namespace aiter
