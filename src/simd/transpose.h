// Transposition of tiles in registers.
#pragma once

#include "simd/simd.h"

namespace aiter::AITER_ISA {

#if AITER_ISA_LEVEL == 2
// The elements of x and y in turns: those of the lower halves, and those of the upper ones.
template <class T>
AITER_INLINE void zip(__m512i x, __m512i y, __m512i* lower, __m512i* upper) {
  constexpr int kCount = 64 / static_cast<int>(sizeof(T));
  typedef T Vector __attribute__((vector_size(64)));
  Vector low, high;
  for (int i = 0; i < kCount; ++i) {
    low[i] = static_cast<T>(i / 2 + i % 2 * kCount);
    high[i] = static_cast<T>(low[i] + kCount / 2);
  }
  auto pick = [&](Vector from) {
    const __m512i index = __builtin_bit_cast(__m512i, from);
    if constexpr (sizeof(T) == 1) return _mm512_permutex2var_epi8(x, index, y);
    if constexpr (sizeof(T) == 2) return _mm512_permutex2var_epi16(x, index, y);
    if constexpr (sizeof(T) == 4) return _mm512_permutex2var_epi32(x, index, y);
    return _mm512_permutex2var_epi64(x, index, y);
  };
  *lower = pick(low), *upper = pick(high);
}
typedef __m512i Register;
#elif AITER_ISA_LEVEL == 1
template <class T>
AITER_INLINE void zip(__m256i x, __m256i y, __m256i* lower, __m256i* upper) {
  __m256i low, high;
  if constexpr (sizeof(T) == 1)
    low = _mm256_unpacklo_epi8(x, y), high = _mm256_unpackhi_epi8(x, y);
  else if constexpr (sizeof(T) == 2)
    low = _mm256_unpacklo_epi16(x, y), high = _mm256_unpackhi_epi16(x, y);
  else if constexpr (sizeof(T) == 4)
    low = _mm256_unpacklo_epi32(x, y), high = _mm256_unpackhi_epi32(x, y);
  else
    low = _mm256_unpacklo_epi64(x, y), high = _mm256_unpackhi_epi64(x, y);
  *lower = _mm256_permute2x128_si256(low, high, 0x20);
  *upper = _mm256_permute2x128_si256(low, high, 0x31);
}
typedef __m256i Register;
#endif

// to[r * to_stride + c] = from[r + c * from_stride], r < rows, c < cols, of unsigned integers.
template <class T>
void transpose_tile(const T* from, int64_t from_stride, int64_t rows, int64_t cols, T* to,
                    int64_t to_stride) {
  int64_t whole_rows = 0, whole_cols = 0;
#if AITER_ISA_LEVEL > 0
  constexpr int kColumns = kLanes, kSize = static_cast<int>(sizeof(Register));
  constexpr int kRows = kSize / static_cast<int>(sizeof(T));
  whole_rows = rows - rows % kRows, whole_cols = cols - cols % kColumns;
  for (int64_t c = 0; c < whole_cols; c += kColumns)
    for (int64_t r = 0; r < whole_rows; r += kRows) {
      Register v[kColumns], w[kColumns];
      for (int i = 0; i < kColumns; ++i) memcpy(v + i, from + r + (c + i) * from_stride, kSize);
      // The columns, one after the other, are a sequence. Its halves zipped log2(columns) times make
      // it the sequence of the rows.
      auto step = [&](const Register* x, Register* y) {
        for (int i = 0; i < kColumns / 2; ++i)
          zip<T>(x[i], x[i + kColumns / 2], y + 2 * i, y + 2 * i + 1);
      };
      step(v, w), step(w, v), step(v, w);
      if constexpr (kColumns == 16) step(w, v);
      const Register* result = kColumns == 16 ? v : w;
      T* row = to + r * to_stride + c;
      constexpr int kBytes = kColumns * static_cast<int>(sizeof(T));  // of a row
      if constexpr (kBytes >= kSize) {
        constexpr int kEach = kBytes / kSize;
        for (int i = 0; i < kColumns; ++i)
          memcpy(row + i / kEach * to_stride + i % kEach * kRows, result + i, kSize);
      } else {
        constexpr int kEach = kSize / kBytes;
        for (int i = 0; i < kRows; ++i)
          memcpy(row + i * to_stride,
                 reinterpret_cast<const char*>(result + i / kEach) + i % kEach * kBytes, kBytes);
      }
    }
#endif
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < whole_rows ? whole_cols : 0; c < cols; ++c)
      to[r * to_stride + c] = from[r + c * from_stride];
}

}  // namespace aiter::AITER_ISA
