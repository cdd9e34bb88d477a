// Few long rows on many threads, for the CPU rows.
#pragma once

#include "simd/parallel.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {

// f(row, alone) for all rows: by all threads, or, where rows are fewer than threads, one after the
// other, each of which may then use all threads (alone). grain: rows worth a thread of their own.
template <class F>
inline void each_row(int64_t rows, int64_t grain, F&& f) {
  if (rows < num_threads()) {
    for (int64_t r = 0; r < rows; ++r) f(r, true);
    return;
  }
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) f(r, false);
  });
}

// f(piece, begin, end) for the pieces of one row, on all threads: their number, at most kRowPieces. begin
// is a multiple of 64 vectors.
constexpr int kRowPieces = 64;
template <class F>
inline int each_row_piece(int64_t count, F&& f) {
  constexpr int64_t kStep = 64 * kLanes, kLeast = 16384;  // elements worth a thread of their own
  int64_t pieces = count / kLeast;
  if (pieces > num_threads()) pieces = num_threads();
  if (pieces > kRowPieces) pieces = kRowPieces;
  if (pieces < 1) pieces = 1;
  const int64_t steps = (count + kStep - 1) / kStep;
  parallel_tasks(pieces, [&](int64_t piece, int) {
    const int64_t begin = steps * piece / pieces * kStep;
    const int64_t end = steps * (piece + 1) / pieces * kStep;
    f(piece, begin, end < count ? end : count);
  });
  return static_cast<int>(pieces);
}

}  // namespace aiter::AITER_ISA
