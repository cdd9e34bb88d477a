// The index of a row's largest element, for the CPU rows.
#pragma once

#include "simd/row_pieces.h"

namespace aiter::AITER_ISA {

// Lowest index of the largest element; NaN is passed over; -1 when there is nothing else.
template <class T>
inline int64_t argmax(const T* row, int64_t count) {
  // Vectors find the block that holds the first largest element, then one block is searched.
  constexpr int64_t kBlock = 64 * kLanes;
  const Vec lowest = set1(-__builtin_inff());
  float best = -__builtin_inff();
  int64_t best_block = 0;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = count - begin < kBlock ? count - begin : kBlock;
    const T* p = row + begin;
    Vec m[4] = {lowest, lowest, lowest, lowest};
    int64_t i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes)
      for (int k = 0; k < 4; ++k) m[k] = max(load(p + i + k * kLanes), m[k]);  // not NaN
    float block = reduce_max(max(max(m[0], m[1]), max(m[2], m[3])));
    for (; i < n; ++i) {
      const float v = to_float(p[i]);
      if (v > block) block = v;
    }
    if (block > best) best = block, best_block = begin;
  }
  for (int64_t i = best_block; i < count; ++i)
    if (to_float(row[i]) == best) return i;
  return -1;
}

// argmax() on all threads.
template <class T>
inline int64_t argmax_of_one(const T* row, int64_t count) {
  int64_t found[kRowPieces];
  const int pieces = each_row_piece(count, [&](int64_t piece, int64_t begin, int64_t end) {
    const int64_t at = argmax(row + begin, end - begin);
    found[piece] = at < 0 ? -1 : begin + at;
  });
  int64_t best = -1;
  for (int p = 0; p < pieces; ++p)
    if (found[p] >= 0 && (best < 0 || to_float(row[found[p]]) > to_float(row[best])))
      best = found[p];
  return best;
}

}  // namespace aiter::AITER_ISA
