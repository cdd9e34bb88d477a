// Transposing matrices, 16 rows at a time: their elements by turns, and back.
#pragma once

#include "simd/simd.h"

namespace aiter::AITER_ISA {

// 16 bytes that stay together.
struct Sixteen {
  unsigned char bytes[16];
};

// A vector of elements of so many bytes, each of kParts parts.
template <int kBytes>
struct VectorOf;
template <>
struct VectorOf<1> {
  typedef uint8_t Type __attribute__((vector_size(4 * kLanes)));
  static constexpr int kParts = 1;
};
template <>
struct VectorOf<2> {
  typedef uint16_t Type __attribute__((vector_size(4 * kLanes)));
  static constexpr int kParts = 1;
};
template <>
struct VectorOf<4> {
  typedef uint32_t Type __attribute__((vector_size(4 * kLanes)));
  static constexpr int kParts = 1;
};
template <>
struct VectorOf<8> {
  typedef uint64_t Type __attribute__((vector_size(4 * kLanes)));
  static constexpr int kParts = 1;
};
template <>
struct VectorOf<16> {
  typedef uint64_t Type __attribute__((vector_size(4 * kLanes)));
  static constexpr int kParts = 2;
};

// Shuffles<n, k>: of vectors with n parts, k of which are an element.
template <int n, int k, int... i>
struct Shuffles : Shuffles<n - 1, k, n - 1, i...> {};
template <int k, int... i>
struct Shuffles<0, k, i...> {
  static constexpr int kCount = sizeof...(i);
  // The elements of a and b by turns: the first half of them, and the second.
  template <class V>
  static AITER_INLINE void zip(V& a, V& b) {
    const V low = __builtin_shufflevector(a, b, (i / k / 2 * k + i % k + i / k % 2 * kCount)...);
    b = __builtin_shufflevector(a, b, (kCount / 2 + i / k / 2 * k + i % k + i / k % 2 * kCount)...);
    a = low;
  }
  template <class V>
  static AITER_INLINE void unzip(V& a, V& b) {
    const V even = __builtin_shufflevector(a, b, (i / k * 2 * k + i % k)...);
    b = __builtin_shufflevector(a, b, (i / k * 2 * k + k + i % k)...);
    a = even;
  }
};

// kRows rows of a vector each; zipped, element d of row r is number d * kRows + r.
template <class E, int kRows>
struct ZipBlock {
  static constexpr int kDims = 4 * kLanes / static_cast<int>(sizeof(E));
  typedef typename VectorOf<sizeof(E)>::Type V;
  static constexpr int kParts = VectorOf<sizeof(E)>::kParts;
  typedef Shuffles<kDims * kParts, kParts> Shuffle;
  V v[kRows];

  AITER_INLINE void zip() {
#pragma GCC unroll 4
    for (int round = 1; round < kRows; round *= 2) {
      V w[kRows];
#pragma GCC unroll 8
      for (int p = 0; p < kRows / 2; ++p) {
        w[2 * p] = v[p], w[2 * p + 1] = v[p + kRows / 2];
        Shuffle::zip(w[2 * p], w[2 * p + 1]);
      }
      memcpy(v, w, sizeof(v));
    }
  }
  AITER_INLINE void unzip() {
#pragma GCC unroll 4
    for (int round = 1; round < kRows; round *= 2) {
      V w[kRows];
#pragma GCC unroll 8
      for (int p = 0; p < kRows / 2; ++p) {
        w[p] = v[2 * p], w[p + kRows / 2] = v[2 * p + 1];
        Shuffle::unzip(w[p], w[p + kRows / 2]);
      }
      memcpy(v, w, sizeof(v));
    }
  }
};

// Element d of row r to zipped[d * pitch + r], or back; row r begins at rows + r * stride.
template <bool kBack, int kRows, class E>
AITER_INLINE int64_t zip_blocks(E* rows, int64_t stride, int64_t dims, E* zipped, int64_t pitch) {
  typedef ZipBlock<E, kRows> Block;
  constexpr int kDims = Block::kDims;
  int64_t d = 0;
  for (; d + kDims <= dims; d += kDims) {
    Block block;
    auto each_row = [&](auto&& f) {
      for (int r = 0; r < kRows; ++r) f(rows + r * stride + d, &block.v[r], sizeof(block.v[r]));
    };
    auto each_dim = [&](auto&& f) {
      if (pitch == kRows) return f(zipped + d * pitch, &block, sizeof(block));
      constexpr int kBytes = kRows * static_cast<int>(sizeof(E)), kVector = sizeof(block.v[0]);
      constexpr int kVectors = kBytes < kVector ? 1 : kBytes / kVector;  // of a dim
      constexpr int kEach = kBytes < kVector ? kVector / kBytes : 1;     // dims of a vector
      char* to = reinterpret_cast<char*>(zipped + d * pitch);
      const int64_t step = pitch * static_cast<int64_t>(sizeof(E));
      for (int i = 0; i < kRows; ++i)
        for (int k = 0; k < kEach; ++k)
          f(to + (i / kVectors * kEach + k) * step + i % kVectors * kVector,
            reinterpret_cast<char*>(block.v + i) + k * kBytes, kBytes / kVectors);
    };
    auto in = [](const void* from, void* to, size_t n) { memcpy(to, from, n); };
    auto out = [](void* to, const void* from, size_t n) { memcpy(to, from, n); };
    if constexpr (kBack) {
      each_dim(in);
      block.unzip();
      each_row(out);
    } else {
      each_row(in);
      block.zip();
      each_dim(out);
    }
  }
  return d;
}
template <bool kBack, class E>
void zip_or_unzip(E* rows, int64_t stride, int64_t count, int64_t dims, E* zipped, int64_t pitch) {
  for (int64_t r = 0, n; r < count; r += n, rows += n * stride, zipped += n) {
    int64_t d = 0;
    n = count - r;
#if AITER_ISA_LEVEL > 0
    constexpr bool kSmall = sizeof(E) < 16;  // else four rows are a line
    n = kSmall && n >= 16 ? 16 : kSmall && n >= 8 ? 8 : n >= 4 ? 4 : n;
    if constexpr (kSmall) {
      if (n == 16) d = zip_blocks<kBack, 16>(rows, stride, dims, zipped, pitch);
      if (n == 8) d = zip_blocks<kBack, 8>(rows, stride, dims, zipped, pitch);
    }
    if (n == 4) d = zip_blocks<kBack, 4>(rows, stride, dims, zipped, pitch);
#endif
    for (; d < dims; ++d)
      for (int64_t i = 0; i < n; ++i)
        if constexpr (kBack)
          rows[i * stride + d] = zipped[d * pitch + i];
        else
          zipped[d * pitch + i] = rows[i * stride + d];
  }
}

template <class E>
void zip_rows(const E* rows, int64_t stride, int64_t count, int64_t dims, E* zipped,
              int64_t pitch) {
  zip_or_unzip<false>(const_cast<E*>(rows), stride, count, dims, zipped, pitch);
}
template <class E>
void unzip_rows(const E* zipped, int64_t pitch, int64_t count, int64_t dims, E* rows,
                int64_t stride) {
  zip_or_unzip<true>(rows, stride, count, dims, const_cast<E*>(zipped), pitch);
}

}  // namespace aiter::AITER_ISA
