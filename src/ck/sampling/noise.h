// Exponential noise, as loaded or made by the threads of a block.
#pragma once

#include "ck/sampling/argmax.h"
#include "ck/sampling/radix_select.h"
#include "ops/sampling/noise.h"

namespace aiter {

// Elements row[i] to row[i + N - 1], one by one where rows are not aligned; NaN past the end.
template <bool kAligned, int N, class T>
AITER_DEVICE void load_row_any(const T* row, int64_t i, int64_t count, float (&v)[N]) {
  if constexpr (kAligned) {
    load_row(row, i, count, v);
  } else {
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] = i + k < count ? to_float(row[i + k]) : kNaN;
  }
}

// Of the elements i to i + N - 1; i is a multiple of 4. Element v is made of word v % 4 of block v / 4.
template <int N>
AITER_DEVICE void exponentials(const Philox& random, int64_t i, float (&noise)[N]) {
  static_assert(N % 4 == 0);
  AITER_UNROLL
  for (int k = 0; k < N; k += 4) {
    uint32_t words[4];
    random.block(static_cast<uint32_t>((i + k) / 4), words);
    AITER_UNROLL
    for (int w = 0; w < 4; ++w) noise[k + w] = exponential_of(words[w]);
  }
}

}  // namespace aiter
