// The first largest element of a row.
#pragma once

#include "ck/core/pack.h"
#include "ck/core/reduce.h"

namespace aiter {

// The larger value, and of equal ones the lower index; index -1 is none.
template <class T>
struct BestOf {
  T value;
  int32_t index;
};
using Best = BestOf<float>;
AITER_DEVICE Best shuffle_xor(Best b, int mask) {
  return {shuffle_xor(b.value, mask), shuffle_xor(b.index, mask)};
}
struct TakeBest {
  template <class T>
  AITER_DEVICE static BestOf<T> combine(BestOf<T> a, BestOf<T> b) {
    if (a.index < 0) return b;
    if (b.index < 0) return a;
    const bool second = b.value > a.value || (b.value == a.value && b.index < a.index);
    return second ? b : a;
  }
};

// Elements row[i] to row[i + N - 1]; NaN past the end.
template <int N, class T>
AITER_DEVICE void load_row(const T* row, int64_t i, int64_t count, float (&v)[N]) {
  if (i + N <= count) {
    load_floats<N>(row + i, v);
    return;
  }
  AITER_UNROLL
  for (int k = 0; k < N; ++k) v[k] = i + k < count ? to_float(row[i + k]) : kNaN;
}

// NaN is passed over. `scratch` holds a Best for each wave.
template <int N, class T>
AITER_DEVICE Best row_argmax(const T* row, int64_t count, Best* scratch) {
  Best best{0, -1};
  for (int64_t i = thread_index() * N; i < count; i += block_threads() * N) {
    float v[N];
    load_row(row, i, count, v);
    AITER_UNROLL
    for (int k = 0; k < N; ++k)
      if (v[k] == v[k]) best = TakeBest::combine(best, {v[k], static_cast<int32_t>(i) + k});
  }
  return block_reduce<TakeBest>(best, scratch);
}

}  // namespace aiter
