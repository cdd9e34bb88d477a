// Several elements that are loaded and stored as one.
#pragma once

#include "ck/core/math.h"

namespace aiter {

// N elements of T in memory, 1 or a power of two up to 16 bytes; addresses are multiples of the size.
// Two 16-bit elements share a word: as scalars of their own, each would take a register.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  static constexpr int kWords = N * static_cast<int>(sizeof(T)) / 4;
  uint32_t words[kWords];

  AITER_DEVICE void to_floats(float (&v)[N]) const {
    AITER_UNROLL
    for (int i = 0; i < kWords; ++i)
      if constexpr (sizeof(T) == 4)
        v[i] = bit_cast<float>(words[i]);
      else
        unpack2<T>(words[i], v[2 * i], v[2 * i + 1]);
  }
  AITER_DEVICE static Pack from_floats(const float (&v)[N]) {
    Pack pack;
    AITER_UNROLL
    for (int i = 0; i < kWords; ++i)
      if constexpr (sizeof(T) == 4)
        pack.words[i] = bit_cast<uint32_t>(v[i]);
      else
        pack.words[i] = pack2<T>(v[2 * i], v[2 * i + 1]);
    return pack;
  }
  // Makes the compiler forget what it knows of the elements: it would otherwise keep their floats, in
  // twice the registers, from one use to the next.
  AITER_DEVICE void forget() {
    AITER_UNROLL
    for (int i = 0; i < kWords; ++i) {
#if defined(AITER_AMD)
      asm volatile("" : "+v"(words[i]));
#else
      asm volatile("" : "+r"(words[i]));
#endif
    }
  }
};

template <class T>
struct Pack<T, 1> {
  T element;
  AITER_DEVICE void to_floats(float (&v)[1]) const { v[0] = to_float(element); }
  AITER_DEVICE static Pack from_floats(const float (&v)[1]) { return {from_float<T>(v[0])}; }
  AITER_DEVICE void forget() {}
};

// Elements of a 16-byte vector, or 1 where addresses are not aligned.
template <class T, bool kAligned>
constexpr int kPackSize = kAligned ? 16 / static_cast<int>(sizeof(T)) : 1;

struct alignas(16) Words4 {
  uint32_t x, y, z, w;
};
struct alignas(8) Words2 {
  uint32_t x, y;
};

// The compilers turn a load of these into one instruction of the full width.
template <int kBytes>
struct WordsOf;
template <>
struct WordsOf<16> {
  using Type = Words4;
};
template <>
struct WordsOf<8> {
  using Type = Words2;
};
template <>
struct WordsOf<4> {
  using Type = uint32_t;
};
template <>
struct WordsOf<2> {
  using Type = uint16_t;
};
template <>
struct WordsOf<1> {
  using Type = uint8_t;
};

template <int N, class T>
AITER_DEVICE Pack<T, N> load_pack(const T* from) {
  using Words = typename WordsOf<sizeof(T) * N>::Type;
  return bit_cast<Pack<T, N>>(*reinterpret_cast<const Words*>(from));
}

template <int N, class T>
AITER_DEVICE void store_pack(T* to, const Pack<T, N>& pack) {
  using Words = typename WordsOf<sizeof(T) * N>::Type;
  *reinterpret_cast<Words*>(to) = bit_cast<Words>(pack);
}

// The same as floats; more than 16 bytes go as several packs.
template <int N, class T>
AITER_DEVICE void load_floats(const T* from, float (&to)[N]) {
  constexpr int kPart = N * sizeof(T) > 16 ? 16 / static_cast<int>(sizeof(T)) : N;
  AITER_UNROLL
  for (int i = 0; i < N; i += kPart)
    load_pack<kPart>(from + i).to_floats(reinterpret_cast<float (&)[kPart]>(to[i]));
}

template <int N, class T>
AITER_DEVICE void store_floats(T* to, const float (&from)[N]) {
  constexpr int kPart = N * sizeof(T) > 16 ? 16 / static_cast<int>(sizeof(T)) : N;
  AITER_UNROLL
  for (int i = 0; i < N; i += kPart)
    store_pack<kPart>(
        to + i, Pack<T, kPart>::from_floats(reinterpret_cast<const float (&)[kPart]>(from[i])));
}

// N elements as several packs of 16 bytes, of a row of which `cols` elements, whole packs, are there;
// others count as 0.
template <class T, int N>
struct Packs {
  static constexpr int kPack = 16 / static_cast<int>(sizeof(T));
  Pack<T, kPack> pack[N / kPack];

  AITER_DEVICE void load(const T* row, int64_t column, int64_t cols) {
    AITER_UNROLL
    for (int i = 0; i < N / kPack; ++i) {
      pack[i] = {};
      if (column + i * kPack < cols) pack[i] = load_pack<kPack>(row + column + i * kPack);
    }
  }
  AITER_DEVICE void store(T* row, int64_t column, int64_t cols) const {
    AITER_UNROLL
    for (int i = 0; i < N / kPack; ++i)
      if (column + i * kPack < cols) store_pack<kPack>(row + column + i * kPack, pack[i]);
  }
  AITER_DEVICE void to_floats(float (&v)[N]) const {
    AITER_UNROLL
    for (int i = 0; i < N / kPack; ++i)
      pack[i].to_floats(reinterpret_cast<float (&)[kPack]>(v[i * kPack]));
  }
  AITER_DEVICE static Packs from_floats(const float (&v)[N]) {
    Packs packs;
    AITER_UNROLL
    for (int i = 0; i < N / kPack; ++i)
      packs.pack[i] =
          Pack<T, kPack>::from_floats(reinterpret_cast<const float (&)[kPack]>(v[i * kPack]));
    return packs;
  }
  AITER_DEVICE void forget() {
    AITER_UNROLL
    for (int i = 0; i < N / kPack; ++i) pack[i].forget();
  }
};

// N elements, at index i, of an array of T or of float.
template <int N, class T>
AITER_DEVICE void load_floats(const void* data, DType dtype, int64_t i, float (&to)[N]) {
  if (dtype == DType::kF32)
    load_floats<N>(static_cast<const float*>(data) + i, to);
  else
    load_floats<N>(static_cast<const T*>(data) + i, to);
}

}  // namespace aiter
