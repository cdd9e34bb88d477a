// Rows of logits or probabilities over a vocabulary: what the samplers check of them, and how many
// blocks take them on a GPU.
#pragma once

#include <algorithm>

#include "core/check.h"
#include "launch/launch.h"
#include "ops/sampling/resident.h"

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

// Whether a team of blocks can keep a row in shared memory, up to 192 KB a block.
inline bool fits_team(int64_t vocab, DType dtype) {
  return vocab * dtype_bytes(dtype) <= int64_t{8} * 192 * 1024;
}

// Teams that keep a row each. Two blocks to a multiprocessor, as far as they fit, take turns in reading and
// computing; few rows are shared by more.
inline Grid resident_grid(const Call& call, int64_t rows, int64_t vocab, DType dtype) {
  const int64_t packs = (vocab * dtype_bytes(dtype) + 15) / 16;
  const int64_t multiprocessors = device_of(call.device).multiprocessors;
  const int log2_threads = packs < 1024 ? 8 : 9, threads = 1 << log2_threads;
  auto bytes = [&](int team) {
    const int64_t part = (packs + team - 1) / team;
    return int64_t{16} * threads * packs_of_thread(static_cast<uint32_t>(part), log2_threads);
  };
  int team = 1;
  while (team < largest_team(call) &&
         (bytes(team) > 92 * 1024 || (packs >= 1024 * team && 2 * team * rows <= multiprocessors)))
    team *= 2;
  const int64_t x = std::min<int64_t>(rows, 1 << 20);
  return {.x = x * team,
          .threads = threads,
          .shared_bytes = static_cast<int>(bytes(team)),
          .team = team};
}

// Whether top_k leaves few tokens, which are found without keeping the row.
inline bool leaves_candidates(const RowOption& top_k, int64_t vocab) {
  return top_k.data ||
         (top_k.value.integer > 0 && top_k.value.integer < vocab && top_k.value.integer <= 1024);
}

}  // namespace aiter
