// Rows of logits or probabilities over a vocabulary: what the samplers check of them, and how many
// blocks take them on a GPU.
#pragma once

#include <algorithm>

#include "core/check.h"
#include "launch/launch.h"
#include "ops/sampling/row_option.h"

namespace aiter {

// The vocabulary's size.
inline int64_t check_vocab_rows(const Arg& rows) {
  rows.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(2).unit_last_stride();
  const int64_t vocab = rows.dim(1);
  if (vocab < 1 || vocab > INT32_MAX)
    rows.refuse("has vocab %lld, expected 1 to 2^31 - 1", static_cast<long long>(vocab));
  return vocab;
}

// A team of blocks for each row, as long as there are multiprocessors for them; more rows than fit in a
// grid go round again. Many rows are taken by smaller blocks where `many_threads` says so.
inline Grid vocab_grid(const Call& call, int64_t rows, int64_t vocab, int many_threads = 512,
                       int most = 8) {
  const int64_t x = std::min<int64_t>(rows, 1 << 20);
  if (vocab < 4096) return {.x = x, .threads = 256};
  const int largest = std::min(largest_team(call), most);
  if (largest_team(call) == 1) return {.x = x, .threads = 1024};
  const int64_t multiprocessors = device_of(call.device).multiprocessors;
  int team = 1;
  while (2 * team <= largest && 2 * team * rows <= multiprocessors) team *= 2;
  return {.x = x * team, .threads = rows > 2 * multiprocessors ? many_threads : 512, .team = team};
}

// The same for rows of which top_k tokens may be kept as candidates (ck/sampling/candidates.h).
inline Grid candidates_grid(const Call& call, int64_t rows, int64_t vocab, const RowOption& top_k) {
  constexpr int64_t kCapacity = 2048;  // of them, which those of the whole team share
  const int64_t k = top_k.data ? 1 : top_k.value.integer;
  if (k <= 0 || k > kCapacity / 2) return vocab_grid(call, rows, vocab);
  return vocab_grid(call, rows, vocab, 256, static_cast<int>(std::min<int64_t>(kCapacity / k, 8)));
}

}  // namespace aiter
