// How the threads of a team go through a row, of less than 2^31 elements.
#pragma once

#include "ck/core/pack.h"
#include "ck/core/team.h"

namespace aiter {

// Elements row[i] to row[i + N - 1], one by one where rows are not aligned; NaN past the end.
template <int N, bool kAligned = true, class T>
AITER_DEVICE void load_row(const T* row, uint32_t i, uint32_t count, float (&v)[N]) {
  if (kAligned && i + N <= count) {
    load_floats<N>(row + i, v);
    return;
  }
  AITER_UNROLL
  for (int k = 0; k < N; ++k) v[k] = i + k < count ? to_float(row[i + k]) : kNaN;
}

// Loads that a thread has under way at once. On AMD a block's waves are enough of them, and code that is
// repeated costs registers.
template <int N>
#if defined(AITER_AMD)
constexpr int kInFlight = 1;
#else
constexpr int kInFlight = N == 8 ? 2 : 4;
#endif

// Calls f(i, v) for the elements v of row[i] to row[i + N - 1], N at a time, that this thread of the
// team takes, in ascending order; NaN past the end.
template <int N, bool kAligned = true, int kFlight = kInFlight<N>, class T, class F>
AITER_DEVICE void each_pack(const Team& team, const T* row, uint32_t count, F&& f) {
  const uint32_t step = team.size * block_threads() * N;
  uint32_t i = (team.rank * block_threads() + thread_index()) * N;
  if constexpr (kAligned && kFlight > 1) {
    for (; i + (kFlight - 1) * step + N <= count; i += kFlight * step) {
      Pack<T, N> packs[kFlight];
      AITER_UNROLL
      for (int u = 0; u < kFlight; ++u) packs[u] = load_pack<N>(row + i + u * step);
      AITER_UNROLL
      for (int u = 0; u < kFlight; ++u) {
        float v[N];
        packs[u].to_floats(v);
        f(i + u * step, v);
      }
    }
  }
  AITER_NO_UNROLL
  for (; i < count; i += step) {
    float v[N];
    load_row<N, kAligned>(row, i, count, v);
    f(i, v);
  }
}

}  // namespace aiter
