// The Walsh-Hadamard transform of a row, for the CPU rows. Stages go from distance 1 up, which fixes
// the rounding.
#pragma once

#include "simd/simd.h"

namespace aiter::AITER_ISA {

// Lane i gets lane i ^ h.
template <int h>
AITER_INLINE Vec xor_lanes(Vec a) {
#define AITER_LANES8(i) \
  (i) ^ h, (i + 1) ^ h, (i + 2) ^ h, (i + 3) ^ h, (i + 4) ^ h, (i + 5) ^ h, (i + 6) ^ h, (i + 7) ^ h
#if AITER_ISA_LEVEL == 2
  return {__builtin_shufflevector(a.v, a.v, AITER_LANES8(0), AITER_LANES8(8))};
#else
  return {__builtin_shufflevector(a.v, a.v, AITER_LANES8(0))};
#endif
#undef AITER_LANES8
}

// The stage of distance h within a vector: a + b in the lower, a - b in the upper lane of a pair.
template <int h>
AITER_INLINE Vec stage(Vec v) {
  float signs[kLanes];
  for (int i = 0; i < kLanes; ++i) signs[i] = i & h ? -1.0f : 1.0f;
  return fma(v, load(signs), xor_lanes<h>(v));
}
AITER_INLINE Vec stages_of_a_vector(Vec v) {
  v = stage<4>(stage<2>(stage<1>(v)));
  if constexpr (kLanes == 16) v = stage<8>(v);
  return v;
}

// The stages of distances from h vectors up, of vectors in registers.
template <int h, int kVectors>
AITER_INLINE void stages_of_vectors(Vec (&v)[kVectors]) {
  if constexpr (h < kVectors) {
#pragma GCC unroll 16
    for (int i = 0; i < kVectors / 2; ++i) {
      const int j = i / h * 2 * h + i % h;
      const Vec a = v[j], b = v[j + h];
      v[j] = a + b, v[j + h] = a - b;
    }
    stages_of_vectors<2 * h>(v);
  }
}
template <int kVectors>
AITER_INLINE void transform_block(float* block) {
  Vec v[kVectors];
#pragma GCC unroll 16
  for (int k = 0; k < kVectors; ++k) v[k] = stages_of_a_vector(load(block + k * kLanes));
  stages_of_vectors<1>(v);
#pragma GCC unroll 16
  for (int k = 0; k < kVectors; ++k) store(block + k * kLanes, v[k]);
}

// row *= the Walsh-Hadamard matrix; n is a power of two.
inline void transform(float* row, int64_t n) {
  int64_t h = 1;
  if (n >= kLanes) {
    constexpr int kVectors = 8;  // registers hold them
    if (n >= kVectors * kLanes) {
      h = kVectors * kLanes;
      for (int64_t i = 0; i < n; i += h) transform_block<kVectors>(row + i);
    } else {
      h = kLanes;
      for (int64_t i = 0; i < n; i += h) transform_block<1>(row + i);
    }
    for (; 4 * h <= n; h *= 4)  // two stages at a time
      for (int64_t i = 0; i < n; i += 4 * h)
        for (int64_t j = i; j < i + h; j += kLanes) {
          const Vec a = load(row + j), b = load(row + j + h), c = load(row + j + 2 * h),
                    d = load(row + j + 3 * h);
          const Vec p = a + b, m = a - b, q = c + d, r = c - d;
          store(row + j, p + q), store(row + j + h, m + r);
          store(row + j + 2 * h, p - q), store(row + j + 3 * h, m - r);
        }
    for (; h < n; h *= 2)
      for (int64_t j = 0; j < h; j += kLanes) {
        const Vec a = load(row + j), b = load(row + j + h);
        store(row + j, a + b), store(row + j + h, a - b);
      }
  }
  for (; h < n; h *= 2)
    for (int64_t i = 0; i < n; i += 2 * h)
      for (int64_t j = i; j < i + h; ++j) {
        const float a = row[j], b = row[j + h];
        row[j] = a + b, row[j + h] = a - b;
      }
}

// The same, one number at a time.
inline void transform_plainly(float* row, int64_t n) {
  for (int64_t h = 1; h < n; h *= 2)
    for (int64_t i = 0; i < n; ++i)
      if ((i & h) == 0) {
        const float sum = row[i] + row[i + h], difference = row[i] - row[i + h];
        row[i] = sum, row[i + h] = difference;
      }
}

}  // namespace aiter::AITER_ISA
