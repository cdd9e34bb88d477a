// The first largest element of a row.
#pragma once

#include "ck/sampling/row.h"

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

// What a reduction over the threads of a team needs in shared memory.
template <class T>
struct TeamScratch {
  T waves[kMaxWaves];
  T ranks[kMaxTeam];
};
template <class Op, class T>
AITER_DEVICE T team_reduce(const Team& team, T value, TeamScratch<T>& scratch) {
  return team.reduce<Op>(block_reduce<Op>(value, scratch.waves), scratch.ranks);
}

// NaN is passed over.
template <int N, class T>
AITER_DEVICE Best row_argmax(const Team& team, const T* row, uint32_t count,
                             TeamScratch<Best>& scratch) {
  float largest = -kInfinity;
  uint32_t at = count;  // of the first N elements with it
  each_pack<N>(team, row, count, [&](uint32_t i, const float (&v)[N]) {
    float most = v[0];
    AITER_UNROLL
    for (int k = 1; k < N; ++k) most = fmax(most, v[k]);
    if (most > largest) largest = most, at = i;
  });
  Best best{largest, -1};
  if (at < count) {
    float v[N];
    load_row<N>(row, at, count, v);
    AITER_UNROLL
    for (int k = N - 1; k >= 0; --k)
      if (v[k] == largest) best.index = static_cast<int32_t>(at + k);
  }
  best = team_reduce<TakeBest>(team, best, scratch);
  if (best.index >= 0) return best;
  // Nothing but NaN and -infinity.
  best.value = -kInfinity;
  each_pack<N>(team, row, count, [&](uint32_t i, const float (&v)[N]) {
    AITER_UNROLL
    for (int k = 0; k < N; ++k)
      if (best.index < 0 && v[k] == v[k]) best.index = static_cast<int32_t>(i + k);
  });
  return team_reduce<TakeBest>(team, best, scratch);
}

}  // namespace aiter
