// Quantization of rows that sit in the cache: amax, scales, codes. The epilogue of every quantizing
// operator:
//
//   quantize_row(out, row, buffer);   // out: QuantOut (core/quant_spec.h); buffer: out.cols floats
//
// The arithmetic is the contract (include/aiter/quant.h), in single precision, operation by operation,
// so that every row of every operator gives the same codes.
#pragma once

#include "core/quant_spec.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {

typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
AITER_INLINE Words to_words(Vec v) { return __builtin_bit_cast(Words, v); }
AITER_INLINE Vec to_vec(Words w) { return __builtin_bit_cast(Vec, w); }
AITER_INLINE Words words1(uint32_t x) { return Words{} + x; }

// Bits of a where the mask has ones, of b elsewhere.
AITER_INLINE Words merge(uint32_t mask, Words a, Words b) {
#if AITER_ISA_LEVEL == 2
  return __builtin_bit_cast(Words,
                            _mm512_ternarylogic_epi32(_mm512_set1_epi32(static_cast<int>(mask)),
                                                      __builtin_bit_cast(__m512i, a),
                                                      __builtin_bit_cast(__m512i, b), 0xca));
#else
  return (a & mask) | (b & ~mask);
#endif
}
// min(|v|, most), which is `most` for NaN (a quiet one, as results of arithmetic are); most > 0.
AITER_INLINE Vec magnitude_up_to(Vec v, float most) {
#if AITER_ISA_LEVEL == 2
  return {_mm512_range_ps(v.v, _mm512_set1_ps(most), 0b1010)};  // the least magnitude, sign cleared
#else
  return min(to_vec(to_words(v) & 0x7fffffffu), set1(most));
#endif
}

// ---- codecs -------------------------------------------------------------------------------------
// A codec has kBits, max(), encode(float), decode(code); for the vectors see encode_lanes() and
// decode_lanes(), which give the same bits.

template <int kCodeBits>
struct IntCode {
  static constexpr int kBits = kCodeBits;
  static constexpr uint32_t kMask = (1u << kBits) - 1;
  static constexpr float kMax = (1 << (kBits - 1)) - 1;
  static AITER_INLINE uint32_t encode(float x) {
    x = x == x ? x : 0.0f;
    x = x < kMax ? x : kMax;
    x = x > -kMax ? x : -kMax;
    // adding 1.5 * 2^23 rounds to the nearest integer, ties to even
    return __builtin_bit_cast(uint32_t, x + 12582912.0f) & kMask;
  }
  static AITER_INLINE float decode(uint32_t code) {
    return static_cast<float>(static_cast<int32_t>(code << (32 - kBits)) >> (32 - kBits));
  }
  static constexpr float max() { return kMax; }
};
using Int8Code = IntCode<8>;
using Int4Code = IntCode<4>;

// Calls f(Codec{}) for the dtype of the codes.
template <class F>
AITER_INLINE void with_codec(DType code, F&& f) {
  switch (code) {
    case DType::kI8:
      return f(Int8Code{});
    case DType::kF8E4M3FN:
      return f(E4M3FN{});
    case DType::kF8E4M3FNUZ:
      return f(E4M3FNUZ{});
    case DType::kF8E5M2:
      return f(E5M2{});
    case DType::kF8E5M2FNUZ:
      return f(E5M2FNUZ{});
    case DType::kF4E2M1x2:
      return f(E2M1FN{});
    case DType::kF6E2M3x4:
      return f(E2M3FN{});
    case DType::kF6E3M2x4:
      return f(E3M2FN{});
    case DType::kI4x2:
      return f(Int4Code{});
    default:
      return;
  }
}

// The codes of kLanes numbers, in the low bits of each lane; what is above kBits is zero. Without
// kNan there is none among them.
template <bool kNan = true, int kBits>
AITER_INLINE Words encode_lanes(IntCode<kBits>, Vec v) {
  const Vec most = set1(IntCode<kBits>::kMax);
  if constexpr (kNan) v = to_vec(v.v == v.v ? to_words(v) : Words{});
  v = max(min(v, most), -most);
  return to_words(v + set1(12582912.0f)) & IntCode<kBits>::kMask;
}
// A number of exponent e is a multiple of 2^(e - mantissa bits), and of the quantum of the smallest
// normal one below that. Adding 2^23 quanta rounds to them, ties to even, and leaves their count in
// the low bits, to which the exponent is added: mantissas that round up carry into it. What is to be
// taken from the exponent is taken from the quanta, of which it is an even number.
template <bool kNan = true, class Codec>
AITER_INLINE Words encode_lanes(Codec, Vec v) {
  constexpr uint32_t kSmallest = static_cast<uint32_t>(127 + 1 - Codec::kExponentBias) << 23;
  constexpr int kShift = 23 - Codec::kMantissa;
  constexpr uint32_t kSign = Codec::kSign;
  constexpr uint32_t kQuanta =
      (static_cast<uint32_t>(kShift) << 23) + (-(kSmallest >> kShift) & (kSign - 1));
  const Words bits = to_words(v);
  const Vec magnitude = magnitude_up_to(v, Codec::max());
  const Words exponent =
      to_words(max(to_vec(to_words(magnitude) & 0x7f800000u), to_vec(words1(kSmallest))));
  const Words sum = to_words(magnitude + to_vec(exponent + kQuanta));
  Words code = merge(kSign - 1, sum + (exponent >> kShift), bits >> (32 - Codec::kBits));
  if constexpr (Codec::kIsFnuz) code = code == kSign ? Words{} : code;  // no negative zero
  if constexpr (kNan && Codec::kNan >= 0)
    code = v.v == v.v ? code : words1(static_cast<uint32_t>(Codec::kNan));
  return code;
}

// The numbers of kLanes codes, which have nothing above them in their lanes.
template <int kBits>
AITER_INLINE Vec decode_lanes(IntCode<kBits>, Words code) {
  typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
  const Ints wide = __builtin_bit_cast(Ints, code << (32 - kBits)) >> (32 - kBits);
  return __builtin_bit_cast(Vec, __builtin_convertvector(wide, decltype(Vec::v)));
}
template <class Codec>
AITER_INLINE Vec decode_lanes(Codec, Words code) {
#if AITER_ISA_LEVEL == 2
  if constexpr (__is_same(Codec, E2M1FN)) {
    const __m512 values = _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f,
                                         -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f);
    return {_mm512_permutexvar_ps(__builtin_bit_cast(__m512i, code), values)};
  }
#endif
  const Words magnitude = code & (Codec::kSign - 1);
  // As the bits of a float, the exponent is off by the difference of the biases; so it is for
  // subnormal numbers, which the product makes normal ones.
  const Vec value =
      to_vec(magnitude << (23 - Codec::kMantissa)) * set1(Codec::pow2(127 - Codec::kExponentBias));
  Words bits = to_words(value) | (code & Codec::kSign) << (32 - Codec::kBits);
  if constexpr (Codec::kIsFnuz) {
    bits = code == Codec::kSign ? words1(0x7fc00000u) : bits;
  } else if constexpr (Codec::kNan >= 0) {
    bits = magnitude > Codec::kMax ? words1(0x7fc00000u) : bits;
    if constexpr (Codec::kMantissa == 2)
      bits = magnitude == Codec::kMax + 1
                 ? (code & Codec::kSign) << (32 - Codec::kBits) | 0x7f800000u
                 : bits;
  }
  return to_vec(bits);
}

// Eight codes of kBits bits, one a byte, as kBits bytes.
template <int kBits>
AITER_INLINE uint64_t pack_codes(uint64_t eight) {
  constexpr uint64_t kEach = 0x0101010101010101u * ((1u << kBits) - 1);
#if AITER_ISA_LEVEL > 0
  return _pext_u64(eight, kEach);
#else
  eight &= kEach;
  eight = (eight & 0x00ff00ff00ff00ffu) | (eight & 0xff00ff00ff00ff00u) >> (8 - kBits);
  eight = (eight & 0x0000ffff0000ffffu) | (eight & 0xffff0000ffff0000u) >> (16 - 2 * kBits);
  return (eight & 0xffffffffu) | eight >> 32 << (4 * kBits);
#endif
}
template <int kBits>
AITER_INLINE uint64_t unpack_codes(uint64_t packed) {
#if AITER_ISA_LEVEL > 0
  return _pdep_u64(packed, 0x0101010101010101u * ((1u << kBits) - 1));
#else
  constexpr uint64_t kFour = (uint64_t{1} << (4 * kBits)) - 1, kTwo = (1u << (2 * kBits)) - 1,
                     kOne = (1u << kBits) - 1;
  uint64_t x = (packed & kFour) | (packed >> (4 * kBits) & kFour) << 32;
  x = (x & kTwo * 0x0000000100000001u) | (x & kTwo * 0x0000000100000001u << (2 * kBits))
                                             << (16 - 2 * kBits);
  return (x & kOne * 0x0001000100010001u) | (x & kOne * 0x0001000100010001u << kBits)
                                                << (8 - kBits);
#endif
}

// kLanes codes to kLanes * kBits / 8 bytes; streamed: past the caches, p aligned to as many bytes.
template <int kBits>
AITER_INLINE void store_codes(uint8_t* p, Words codes, [[maybe_unused]] bool streamed) {
#if AITER_ISA_LEVEL == 2
  const __m512i words = __builtin_bit_cast(__m512i, codes);
  if constexpr (kBits == 8) {
    const __m128i bytes = _mm512_cvtepi32_epi8(words);
    if (streamed)
      _mm_stream_si128(reinterpret_cast<__m128i*>(p), bytes);
    else
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  } else {
    // Pairs, in the low bits of 64, then pairs of those.
    const __m512i pairs = _mm512_or_si512(words, _mm512_srli_epi64(words, 32 - kBits));
    if constexpr (kBits == 4) {
      const __m128i bytes = _mm512_cvtepi64_epi8(pairs);
      if (streamed)
        _mm_stream_si64(reinterpret_cast<long long*>(p), _mm_cvtsi128_si64(bytes));
      else
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes);
    } else {
      const __m128i twos = _mm_and_si128(_mm512_cvtepi64_epi16(pairs), _mm_set1_epi16(0xfff));
      const __m128i fours = _mm_madd_epi16(twos, _mm_set1_epi32(1 << 28 | 1));  // 24 bits of 32
      const __m128i bytes = _mm_shuffle_epi8(
          fours, _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes);
      const int last = _mm_extract_epi32(bytes, 2);
      memcpy(p + 8, &last, 4);
    }
  }
#else
  const Bytes bytes = __builtin_convertvector(codes, Bytes);
#if AITER_ISA_LEVEL == 1
  if (kBits == 8 && streamed)
    return _mm_stream_si64(reinterpret_cast<long long*>(p), __builtin_bit_cast(long long, bytes));
#endif
  uint64_t eight = __builtin_bit_cast(uint64_t, bytes);
  if constexpr (kBits < 8) eight = pack_codes<kBits>(eight);
  memcpy(p, &eight, kBits);
#endif
}

// Of 2 * kLanes numbers, a pair as load_pair<kEvenFirst>() gives it.
template <int kBits, bool kEvenFirst>
AITER_INLINE void store_code_pair(uint8_t* p, Words a, Words b, [[maybe_unused]] bool streamed) {
#if AITER_ISA_LEVEL == 2
  // The lowest byte of each lane; from there as below, in 256 bits.
#define AITER_BYTES4(i)                                                    \
  kEvenFirst ? 2 * (i) : 4 * (i), kEvenFirst ? 2 * (i) + 64 : 4 * (i) + 4, \
      kEvenFirst ? 2 * (i) + 4 : 4 * (i) + 8, kEvenFirst ? 2 * (i) + 68 : 4 * (i) + 12
  alignas(64) static constexpr uint8_t kLowest[64] = {
      AITER_BYTES4(0),  AITER_BYTES4(4),  AITER_BYTES4(8),  AITER_BYTES4(12),
      AITER_BYTES4(16), AITER_BYTES4(20), AITER_BYTES4(24), AITER_BYTES4(28)};
#undef AITER_BYTES4
  const __m256i codes = _mm512_castsi512_si256(_mm512_permutex2var_epi8(
      __builtin_bit_cast(__m512i, a), _mm512_load_si512(kLowest), __builtin_bit_cast(__m512i, b)));
  if constexpr (kBits == 8) {
    if (streamed)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(p), codes);
    else
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), codes);
  } else if constexpr (kBits == 4) {
    const __m256i twos = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(1 << 12 | 1));
    const __m128i bytes = _mm256_cvtepi16_epi8(twos);
    if (streamed)
      _mm_stream_si128(reinterpret_cast<__m128i*>(p), bytes);
    else
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  } else {
    const __m256i twos = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(1 << 14 | 1));
    const __m256i fours = _mm256_madd_epi16(twos, _mm256_set1_epi32(1 << 28 | 1));
    alignas(32) static constexpr uint8_t kThree[32] = {
        0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25, 26, 28, 29, 30};
    const __m256i bytes =
        _mm256_permutexvar_epi8(_mm256_load_si256(reinterpret_cast<const __m256i*>(kThree)), fours);
    long long words[4];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), bytes);
    if (streamed)
      for (int i = 0; i < 3; ++i) _mm_stream_si64(reinterpret_cast<long long*>(p) + i, words[i]);
    else
      memcpy(p, words, 24);
  }
#elif AITER_ISA_LEVEL == 1
  const __m256i mixed =
      _mm256_packus_epi32(__builtin_bit_cast(__m256i, a), __builtin_bit_cast(__m256i, b));
  const __m256i words = _mm256_permute4x64_epi64(mixed, 0xd8);
  const __m128i codes =
      _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  if constexpr (kBits == 8) {
    if (streamed)
      _mm_stream_si128(reinterpret_cast<__m128i*>(p), codes);
    else
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), codes);
  } else if constexpr (kBits == 4) {
    const __m128i twos = _mm_maddubs_epi16(codes, _mm_set1_epi16(1 << 12 | 1));
    const __m128i bytes = _mm_packus_epi16(twos, twos);
    if (streamed)
      _mm_stream_si64(reinterpret_cast<long long*>(p), _mm_cvtsi128_si64(bytes));
    else
      _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes);
  } else {
    const __m128i twos = _mm_maddubs_epi16(codes, _mm_set1_epi16(1 << 14 | 1));
    const __m128i fours = _mm_madd_epi16(twos, _mm_set1_epi32(1 << 28 | 1));
    const __m128i bytes = _mm_shuffle_epi8(
        fours, _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    memcpy(p, &bytes, 12);
  }
#else
  store_codes<kBits>(p, a, streamed);
  store_codes<kBits>(p + kLanes * kBits / 8, b, streamed);
#endif
}

// kLanes codes from kLanes * kBits / 8 bytes.
template <int kBits>
AITER_INLINE Words load_codes(const uint8_t* p) {
#if AITER_ISA_LEVEL == 2
  if constexpr (kBits == 8) {
    return __builtin_bit_cast(
        Words, _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  } else if constexpr (kBits == 4) {
    const __m512i pairs =
        _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return __builtin_bit_cast(Words, _mm512_or_si512(pairs, _mm512_slli_epi64(pairs, 28))) & 15;
  } else {
    // Six bytes in each half, of which eight times eight bits begin every six bits.
    const __m128i halves =
        _mm_shuffle_epi8(_mm_maskz_loadu_epi8(0xfff, p),
                         _mm_setr_epi8(0, 1, 2, 3, 4, 5, -1, -1, 6, 7, 8, 9, 10, 11, -1, -1));
    const __m128i codes = _mm_multishift_epi64_epi8(_mm_set1_epi64x(0x2a241e18120c0600), halves);
    return __builtin_bit_cast(Words, _mm512_cvtepu8_epi32(codes)) & 63;
  }
#else
  uint64_t packed = 0;
  memcpy(&packed, p, kBits);
  if constexpr (kBits < 8) packed = unpack_codes<kBits>(packed);
#if AITER_ISA_LEVEL == 1
  return __builtin_bit_cast(
      Words, _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(packed))));
#else
  return __builtin_convertvector(__builtin_bit_cast(Bytes, packed), Words);
#endif
#endif
}
// n <= kLanes of them.
template <int kBits>
AITER_INLINE Words load_codes(const uint8_t* p, int n) {
  if (n == kLanes) return load_codes<kBits>(p);
  uint8_t some[kLanes] = {};
  memcpy(some, p, n * kBits / 8);
  return load_codes<kBits>(some);
}

// ---- numbers ------------------------------------------------------------------------------------
// Numbers to quantize are anything where x(i, lanes) gives a Vec of them. Arrays know cheaper ways:
// x.pair(i) gives 2 * kLanes of them as load_pair<kEvenFirst>() does; x.magnitudes(i) the magnitudes
// of kLanes of them as words or, with kHalves, of twice as many bf16 as halves of words.

template <class T>
struct ArrayNumbers {
  const T* x;
  static constexpr bool kEvenFirst = AITER_ISA_LEVEL == 2 && __is_same(T, bf16);
  static constexpr bool kHalves = __is_same(T, bf16);
  AITER_INLINE Vec operator()(int64_t i, int lanes) const { return load_some(x + i, lanes); }
  AITER_INLINE Pair pair(int64_t i) const { return load_pair<kEvenFirst>(x + i); }
  AITER_INLINE Words magnitudes(int64_t i) const {
    if constexpr (!kHalves) return to_words(load(x + i)) & 0x7fffffffu;
    Words both;
    memcpy(&both, x + i, sizeof(both));
    return both & 0x7fff7fffu;
  }
};

template <class X>
struct NumbersOf {
  static constexpr bool kEvenFirst = false, kHalves = false;
  static AITER_INLINE Pair pair(const X& x, int64_t i) {
    return {x(i, kLanes), x(i + kLanes, kLanes)};
  }
  static AITER_INLINE Words magnitudes(const X& x, int64_t i) {
    return to_words(x(i, kLanes)) & 0x7fffffffu;
  }
};
template <class X>
  requires requires { X::kEvenFirst; }
struct NumbersOf<X> {
  static constexpr bool kEvenFirst = X::kEvenFirst, kHalves = X::kHalves;
  static AITER_INLINE Pair pair(const X& x, int64_t i) { return x.pair(i); }
  static AITER_INLINE Words magnitudes(const X& x, int64_t i) { return x.magnitudes(i); }
};

// Code i of codes = encode(x(i) * factor), begin <= i < end; that range begins and ends with a byte.
// streamed: past the caches. ahead(i) as in map_lanes().
template <class Codec, bool kNan = true, class X, class Ahead>
AITER_INLINE void encode_range(int64_t begin, int64_t end, float factor, uint8_t* codes,
                               bool streamed, const X& x, Ahead&& ahead) {
  typedef NumbersOf<X> Numbers;
  constexpr int kBits = Codec::kBits;
  const Vec f = set1(factor);
  constexpr uintptr_t kAligned = kBits == 6 ? 8 : 2 * kLanes * kBits / 8;
  streamed = streamed && reinterpret_cast<uintptr_t>(codes + begin * kBits / 8) % kAligned == 0;
  int64_t i = begin;
  auto pairs = [&](bool stream_them) {
    for (; i + 2 * kLanes <= end; i += 2 * kLanes) {
      if (i % kAhead == 0) ahead(i);
      const Pair v = Numbers::pair(x, i);
      store_code_pair<kBits, Numbers::kEvenFirst>(
          codes + i * kBits / 8, encode_lanes<kNan>(Codec{}, v.a * f),
          encode_lanes<kNan>(Codec{}, v.b * f), stream_them);
    }
  };
  if (streamed)
    pairs(true);
  else
    pairs(false);
  for (; i < end; i += kLanes) {
    const int lanes = end - i < kLanes ? static_cast<int>(end - i) : kLanes;
    const Words code = encode_lanes<kNan>(Codec{}, x(i, lanes) * f);
    if (lanes == kLanes) {
      store_codes<kBits>(codes + i * kBits / 8, code, false);
    } else {
      uint8_t some[kLanes];
      store_codes<kBits>(some, code, false);
      memcpy(codes + i * kBits / 8, some, lanes * kBits / 8);
    }
  }
}
template <class Codec, class X>
AITER_INLINE void encode_codes(int64_t n, float factor, uint8_t* codes, bool streamed, const X& x) {
  encode_range<Codec>(0, n, factor, codes, streamed, x, NothingAhead{});
}

// Puts code i of a row into its bits; codes are put in order.
template <int kBits>
AITER_INLINE void put_code(uint8_t* codes, int64_t i, uint32_t code) {
  const int64_t bit = i * kBits;
  const int at = static_cast<int>(bit % 8);
  const uint32_t kept = codes[bit / 8] & ((1u << at) - 1);
  codes[bit / 8] = static_cast<uint8_t>(kept | code << at);
  if (at + kBits > 8) codes[bit / 8 + 1] = static_cast<uint8_t>(code >> (8 - at));
}

// ---- scales -------------------------------------------------------------------------------------

// The larger ones of words, or of their halves.
template <bool kHalves>
AITER_INLINE Words max_words(Words a, Words b) {
#if AITER_ISA_LEVEL == 2
  const __m512i v = __builtin_bit_cast(__m512i, a), w = __builtin_bit_cast(__m512i, b);
  return __builtin_bit_cast(Words, kHalves ? _mm512_max_epu16(v, w) : _mm512_max_epu32(v, w));
#elif AITER_ISA_LEVEL == 1
  const __m256i v = __builtin_bit_cast(__m256i, a), w = __builtin_bit_cast(__m256i, b);
  return __builtin_bit_cast(Words, kHalves ? _mm256_max_epu16(v, w) : _mm256_max_epu32(v, w));
#else
  if constexpr (!kHalves) return a > b ? a : b;
  typedef uint16_t Halves __attribute__((vector_size(sizeof(Words))));
  const Halves v = __builtin_bit_cast(Halves, a), w = __builtin_bit_cast(Halves, b);
  return __builtin_bit_cast(Words, v > w ? v : w);
#endif
}
// Whether one of these magnitudes is that of infinity or NaN.
AITER_INLINE bool any_special(Words magnitudes) {
#if AITER_ISA_LEVEL == 2
  return _mm512_cmpge_epu32_mask(__builtin_bit_cast(__m512i, magnitudes),
                                 _mm512_set1_epi32(0x7f800000)) != 0;
#else
  uint32_t most = 0;
  for (int i = 0; i < kLanes; ++i) most = magnitudes[i] > most ? magnitudes[i] : most;
  return most >= 0x7f800000u;
#endif
}

// The largest magnitudes of x(i), begin <= i < end, in some words or halves; NaN's are the largest.
template <class X>
AITER_INLINE Words range_magnitudes(int64_t begin, int64_t end, const X& x) {
  typedef NumbersOf<X> Numbers;
  constexpr bool kHalves = Numbers::kHalves;
  constexpr int kStep = kHalves ? 2 * kLanes : kLanes;
  Words most{};
  int64_t i = begin;
  if (end - i >= 8 * kStep) {
    Words part[4] = {};
    for (; i + 4 * kStep <= end; i += 4 * kStep)
      for (int k = 0; k < 4; ++k)
        part[k] = max_words<kHalves>(part[k], Numbers::magnitudes(x, i + k * kStep));
    most = max_words<kHalves>(max_words<kHalves>(part[0], part[1]),
                              max_words<kHalves>(part[2], part[3]));
  }
  for (; i + kStep <= end; i += kStep) most = max_words<kHalves>(most, Numbers::magnitudes(x, i));
  for (; i < end; i += kLanes) {  // the lower halves of what is a bf16 are zero
    const int lanes = end - i < kLanes ? static_cast<int>(end - i) : kLanes;
    most = max_words<kHalves>(most, to_words(x(i, lanes)) & 0x7fffffffu);
  }
  return most;
}
template <bool kHalves>
AITER_INLINE Words joined(Words magnitudes) {
  return kHalves ? max_words<false>(magnitudes & 0xffff0000u, magnitudes << 16) : magnitudes;
}

// The same without the NaNs.
template <class X>
AITER_INLINE Vec range_amax_but_nan(int64_t begin, int64_t end, const X& x) {
  Vec most = zero();
  for (int64_t i = begin; i < end; i += kLanes)  // a NaN comes through abs, and max drops it
    most = max(abs(x(i, end - i < kLanes ? static_cast<int>(end - i) : kLanes)), most);
  return most;
}
// Infinity counts as the largest float.
AITER_INLINE Vec finite(Vec amax) { return min(set1(3.4028234663852886e38f), amax); }

// The largest finite magnitude of n numbers; NaN is passed over.
template <class X>
AITER_INLINE float group_amax(int64_t n, const X& x) {
  const Words most = joined<NumbersOf<X>::kHalves>(range_magnitudes(0, n, x));
  if (__builtin_expect(any_special(most), 0))
    return reduce_max(finite(range_amax_but_nan(0, n, x)));
  return reduce_max(finite(to_vec(most)));
}

// Lane i of the result is the maximum of v[i].
template <bool kHalves, int h>
AITER_INLINE Words max_parts(Words a, Words b) {  // of parts of 2h lanes: those of a, those of b
#define AITER_FROM(j) ((j) / h % (kLanes / 2 / h) * 2 * h + (j) % h + ((j) / (kLanes / 2)) * kLanes)
#define AITER_FROM8(j, by)                                                                    \
  AITER_FROM(j) + by, AITER_FROM(j + 1) + by, AITER_FROM(j + 2) + by, AITER_FROM(j + 3) + by, \
      AITER_FROM(j + 4) + by, AITER_FROM(j + 5) + by, AITER_FROM(j + 6) + by,                 \
      AITER_FROM(j + 7) + by
#if AITER_ISA_LEVEL == 2
  return max_words<kHalves>(__builtin_shufflevector(a, b, AITER_FROM8(0, 0), AITER_FROM8(8, 0)),
                            __builtin_shufflevector(a, b, AITER_FROM8(0, h), AITER_FROM8(8, h)));
#else
  return max_words<kHalves>(__builtin_shufflevector(a, b, AITER_FROM8(0, 0)),
                            __builtin_shufflevector(a, b, AITER_FROM8(0, h)));
#endif
#undef AITER_FROM8
#undef AITER_FROM
}
// Of the first `count`; the other lanes are any of theirs. kEach: of as many neighbours a vector, for
// which there is a maximum each.
template <bool kHalves, int kEach = 1>
AITER_INLINE Words max_of_each(Words (&v)[kLanes], int count) {
  constexpr int h = kLanes / 2;
  if constexpr (kEach == 1)
    for (int i = 0; 2 * i < count; ++i) v[i] = max_parts<kHalves, h>(v[2 * i], v[2 * i + 1]);
  for (int i = 0; 4 * i < count; ++i) v[i] = max_parts<kHalves, h / 2>(v[2 * i], v[2 * i + 1]);
  for (int i = 0; 8 * i < count; ++i) v[i] = max_parts<kHalves, h / 4>(v[2 * i], v[2 * i + 1]);
  if constexpr (kLanes == 16) v[0] = max_parts<kHalves, 1>(v[0], v[1]);
  return v[0];
}

// Lane k of the result: the largest magnitude in group k of kGroup numbers from `begin` on, or words or
// halves as range_magnitudes() gives them.
template <int kGroup, class X>
AITER_INLINE Words magnitudes_of_each(int64_t begin, const X& x) {
  typedef NumbersOf<X> Numbers;
  constexpr bool kHalves = Numbers::kHalves;
  constexpr int kStep = kHalves ? 2 * kLanes : kLanes, kEach = kGroup < kStep ? kStep / kGroup : 1;
  Words v[kLanes];
#pragma GCC unroll 16
  for (int k = 0; k < kLanes / kEach; ++k) {
    const int64_t i = begin + k * kEach * kGroup;
    v[k] = Numbers::magnitudes(x, i);
    for (int j = kStep; j < kGroup; j += kStep)
      v[k] = max_words<kHalves>(v[k], Numbers::magnitudes(x, i + j));
  }
  return max_of_each<kHalves, kEach>(v, kLanes);
}

// The amax of `count` groups from the largest magnitude of each, words or halves. Where there are
// special numbers, which is the result, again(k) gives that of group k.
template <bool kHalves, class Again>
AITER_INLINE bool amax_of_each(Words most, int count, Again&& again, Vec* amax) {
  *amax = to_vec(joined<kHalves>(most));
  const bool special = any_special(to_words(*amax));
  if (__builtin_expect(special, 0)) {
    float found[kLanes] = {};
    for (int k = 0; k < count; ++k) found[k] = again(k);
    *amax = load(found);
  }
  *amax = finite(*amax);
  return special;
}
// The same from what range_magnitudes() gave for each.
template <bool kHalves, class Again>
AITER_INLINE bool amax_of_each(Words (&most)[kLanes], int count, Again&& again, Vec* amax) {
  return amax_of_each<kHalves>(max_of_each<kHalves>(most, count), count, again, amax);
}

// mx_scale() of kLanes groups.
AITER_INLINE Words mx_scales(Vec amax, MxRound mode, const MxElement& element) {
  typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
  const Words denormal = to_words(amax) < 0x00800000u ? ~Words{} : Words{};
  Words u = to_words(amax);
  u = denormal ? to_words(amax * set1(16777216.0f)) : u;  // scaled up, exactly
  if (mode == MxRound::kUp) {
    const uint32_t max_mantissa = (element.max_code & ((1u << element.mantissa) - 1))
                                  << (23 - element.mantissa);
    u = (u & 0x7fffffu) > max_mantissa ? u + 0x800000u : u;
  } else if (mode == MxRound::kEven) {
    u += 1u << (22 - element.mantissa);
  } else if (mode == MxRound::kEvenFp4) {
    u += 1u << 21;
  } else if (mode == MxRound::kCeil) {
    u += 0x7fffffu;
  }
  Ints code = __builtin_bit_cast(Ints, u >> 23) - __builtin_bit_cast(Ints, denormal & 24) -
              element.max_exponent;
  code = code < 0 ? Ints{} : code;
  code = code > 254 ? Ints{} + 254 : code;
  return to_words(amax) == 0 ? words1(127) : __builtin_bit_cast(Words, code);
}

// The stored scales of kLanes groups, and the factors that their numbers are multiplied by.
struct Scales {
  float factor[kLanes];   // 1 / scale
  float value[kLanes];    // of f32 and bf16 scales
  uint32_t code[kLanes];  // of e8m0 and e4m3fn scales
};

template <class Codec>
AITER_INLINE void scales_for(Vec amax, const QuantSpec& spec, Scales* s) {
  amax = min(amax, set1(spec.amax_bound));
  Vec factor;
  if (spec.scale == DType::kF8E8M0) {
    Words code = words1(127);
    if constexpr (requires { Codec::kMantissa; })
      code = mx_scales(amax, spec.round, mx_element<Codec>());
    memcpy(s->code, &code, sizeof(code));
    const Words inverse = 254 - code;
    factor = to_vec(inverse == 0 ? words1(0x00400000u) : inverse << 23);
  } else if (spec.scale == DType::kF8E4M3FN) {
    const float global_scale = spec.whole_global_scale();
    const Words code = encode_lanes(E4M3FN{}, amax / set1(Codec::max() * global_scale));
    memcpy(s->code, &code, sizeof(code));
    const Vec scale = decode_lanes(E4M3FN{}, code) * set1(global_scale);
    factor = to_vec(scale.v > zero().v ? to_words(set1(1.0f) / scale) : Words{});
  } else {
    const Vec least = set1(1.1754943508222875e-38f);
    Vec scale = amax / set1(Codec::max());
    const Words small = amax.v > zero().v ? to_words(least) : to_words(set1(1.0f));
    scale = to_vec(scale.v > least.v ? to_words(scale) : small);
    store(s->value, scale);
    factor = set1(1.0f) / scale;
  }
  store(s->factor, factor);
}

// Of one group.
struct Scale {
  float factor;
  float value;
  uint32_t code;
};
template <class Codec>
AITER_INLINE Scale scale_for(float amax, const QuantSpec& spec) {
  Scales s{};
  scales_for<Codec>(set1(amax), spec, &s);
  return {s.factor[0], s.value[0], s.code[0]};
}

AITER_INLINE void store_scale(const QuantOut& q, int64_t index, const Scale& scale) {
  if (q.spec.scale == DType::kF32)
    static_cast<float*>(q.scale)[index] = scale.value;
  else if (q.spec.scale == DType::kBF16)
    static_cast<bf16*>(q.scale)[index] = from_float<bf16>(scale.value);
  else
    static_cast<uint8_t*>(q.scale)[index] = static_cast<uint8_t>(scale.code);
}

// Those of groups first to first + count, at most kLanes, of a row.
AITER_INLINE void store_scales(const QuantOut& q, int64_t scale_row, int64_t first, int count,
                               const Scales& s) {
  if (count == kLanes && q.layout == ScaleLayout::kStrided && q.scale_col_stride == 1) {
    const int64_t at = scale_row + first;
    if (q.spec.scale == DType::kF32) {
      store(static_cast<float*>(q.scale) + at, load(s.value));
    } else if (q.spec.scale == DType::kBF16) {
      store(static_cast<bf16*>(q.scale) + at, load(s.value));
    } else {
      Words codes;
      memcpy(&codes, s.code, sizeof(codes));
      store_codes<8>(static_cast<uint8_t*>(q.scale) + at, codes, false);
    }
    return;
  }
  for (int k = 0; k < count; ++k)
    store_scale(q, scale_row + q.scale_group(first + k), {s.factor[k], s.value[k], s.code[k]});
}

AITER_INLINE float load_scale(const QuantOut& q, int64_t index) {
  if (q.spec.scale == DType::kF32) return static_cast<const float*>(q.scale)[index];
  if (q.spec.scale == DType::kBF16) return to_float(static_cast<const bf16*>(q.scale)[index]);
  const uint8_t code = static_cast<const uint8_t*>(q.scale)[index];
  return q.spec.scale == DType::kF8E8M0 ? e8m0_decode(code)
                                        : E4M3FN::decode(code) * q.spec.whole_global_scale();
}

// Those of groups first to first + count, at most kLanes, of a row.
AITER_INLINE void load_scales(const QuantOut& q, int64_t scale_row, int64_t first, int count,
                              float* scales) {
  if (count == kLanes && q.layout == ScaleLayout::kStrided && q.scale_col_stride == 1) {
    const int64_t at = scale_row + first;
    const uint8_t* codes = static_cast<const uint8_t*>(q.scale) + at;
    switch (q.spec.scale) {
      case DType::kF32:
        return store(scales, load(static_cast<const float*>(q.scale) + at));
      case DType::kBF16:
        return store(scales, load(static_cast<const bf16*>(q.scale) + at));
      case DType::kF8E4M3FN:
        return store(scales, decode_lanes(E4M3FN{}, load_codes<8>(codes)) *
                                 set1(q.spec.whole_global_scale()));
      default: {
        const Words code = load_codes<8>(codes);
        Words bits = code == 0 ? words1(0x00400000u) : code << 23;
        bits = code == 255 ? words1(0x7fc00000u) : bits;
        return store(scales, to_vec(bits));
      }
    }
  }
  for (int k = 0; k < count; ++k) scales[k] = load_scale(q, scale_row + q.scale_group(first + k));
}

// y[i] = code i * the scale of its group, begin <= i < end, of a row whose scales begin at
// scale_row; begin is a multiple of kLanes. streamed: past the caches.
template <class Codec, class T>
void decode_row(const QuantOut& q, const uint8_t* codes, int64_t scale_row, int64_t begin,
                int64_t end, T* y, bool streamed) {
  constexpr int kBits = Codec::kBits;
  auto decode = [&](int64_t i, int lanes, float scale) {
    return decode_lanes(Codec{}, load_codes<kBits>(codes + i * kBits / 8, lanes)) * set1(scale);
  };
  auto put_pair = [&](int64_t i, float scale, float next) {
    const Pair v = {decode(i, kLanes, scale), decode(i + kLanes, kLanes, next)};
    store_pair<false>(y + i, v, streamed && reinterpret_cast<uintptr_t>(y + i) % 64 == 0);
  };
  const int64_t cols = q.group_cols;
  for (int64_t first = begin / cols; first * cols < end; first += kLanes) {
    const int64_t left = (end + cols - 1) / cols - first;
    const int count = left < kLanes ? static_cast<int>(left) : kLanes;
    float scales[kLanes];
    load_scales(q, scale_row, first, count, scales);
    int k = 0;
    if (cols == kLanes)
      for (; k + 1 < count && (first + k + 2) * cols <= end; k += 2)
        put_pair((first + k) * cols, scales[k], scales[k + 1]);
    if (cols == 2 * kLanes && first * cols >= begin)
      for (; (first + k + 1) * cols <= end && k < count; ++k)
        put_pair((first + k) * cols, scales[k], scales[k]);
    for (; k < count; ++k) {
      const int64_t from = (first + k) * cols, to = from + cols;
      int64_t i = from > begin ? from : begin;
      const int64_t stop = to < end ? to : end;
      for (; i + 2 * kLanes <= stop; i += 2 * kLanes) put_pair(i, scales[k], scales[k]);
      for (; i < stop; i += kLanes) {
        const int lanes = stop - i < kLanes ? static_cast<int>(stop - i) : kLanes;
        store_some(y + i, decode(i, lanes, scales[k]), lanes);
      }
    }
  }
}

// ---- rows ---------------------------------------------------------------------------------------

// Whether row r begins r steps after the first.
AITER_INLINE bool evenly_apart(const Rows& rows, int64_t* step) {
  *step = rows.inner == 1 ? rows.outer_stride : rows.inner_stride;
  return rows.inner == 1 || rows.inner >= rows.count ||
         rows.outer_stride == rows.inner * rows.inner_stride;
}

// Makes n neighbouring rows one, whose groups follow each other, as rows of few groups take long to
// begin with; rows beyond the last n are not of it. False if they do not lie like that.
inline bool join_rows(QuantOut& q, int64_t n) {
  int64_t code_step, scale_step;
  const int64_t groups = q.cols / q.group_cols, row_bits = q.cols * code_bits(q.spec.code);
  if (n <= 1 || q.layout != ScaleLayout::kStrided || q.cols % q.group_cols || row_bits % 8 ||
      !evenly_apart(q.codes_rows, &code_step) || code_step != row_bits / 8 ||
      !evenly_apart(q.scale_rows, &scale_step))
    return false;
  if (q.static_scale && groups == 1 && scale_step == 0)
    q.group_cols *= n;
  else if (groups > 1 && scale_step != groups * q.scale_col_stride)
    return false;
  else
    q.scale_col_stride = scale_step / groups;
  const int64_t rows = q.codes_rows.count / n;
  q.cols *= n;
  q.codes_rows = {rows, rows, 0, code_step * n};
  q.scale_rows = {rows, rows, 0, scale_step * n};
  return true;
}

#if AITER_ISA_LEVEL == 2
// E2M1 codes of 32 bf16 for the scale 2^(e - 127), 8 <= e <= 250, in 16-bit integers. The bits beyond those
// of a quarter of the scale count 128 for each power of two; codes begin at 1, 192, 289, 352, 417,
// 480 and 545 of them. Odd mantissas, which win ties, count one more: then all are 1 modulo 32.
AITER_INLINE void store_mxfp4(uint8_t* p, __m512i x, uint32_t e, bool streamed) {
  alignas(64) static constexpr uint16_t kCodes[32] = {0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3,
                                                      3, 4, 4, 5, 5, 6, 6, 7, 7, 7, 7,
                                                      7, 7, 7, 7, 7, 7, 7, 7, 7, 7};
  const __m512i quarter = _mm512_set1_epi16(static_cast<short>((e - 2) << 7));
  const __m512i magnitude = _mm512_and_si512(x, _mm512_set1_epi16(0x7fff));
  __m512i d = _mm512_min_epu16(_mm512_subs_epu16(magnitude, quarter), _mm512_set1_epi16(576));
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi16(d, 6), _mm512_set1_epi16(1));
  d = _mm512_add_epi16(_mm512_add_epi16(d, _mm512_set1_epi16(31)), odd);
  d = _mm512_permutexvar_epi16(_mm512_srli_epi16(d, 5), _mm512_load_si512(kCodes));
  d = _mm512_ternarylogic_epi32(_mm512_srli_epi16(x, 12), d, _mm512_set1_epi16(8), 0xe4);
  // Pairs, in the low bytes of 32 bits.
  d = _mm512_ternarylogic_epi32(d, _mm512_srli_epi32(d, 12), _mm512_set1_epi32(0xf0), 0xd8);
  const __m128i bytes = _mm512_cvtepi32_epi8(d);
  if (streamed)
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), bytes);
  else
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}
#endif

// The first halves of two vectors.
AITER_INLINE Vec first_halves(Vec a, Vec b) {
#if AITER_ISA_LEVEL == 2
  return {_mm512_shuffle_f32x4(a.v, b.v, 0x44)};
#else
  Vec both = a;
  for (int i = 0; i < kLanes / 2; ++i) both.v[i + kLanes / 2] = b.v[i];
  return both;
#endif
}

// Codes of kLanes groups of kGroup numbers from `begin` on, kGroup a power of two, without NaN among them.
template <class Codec, int kGroup, class X>
AITER_INLINE void encode_groups(int64_t begin, const QuantSpec& spec, const Scales& s,
                                uint8_t* codes, bool streamed, const X& x) {
  typedef NumbersOf<X> Numbers;
  constexpr int kBits = Codec::kBits, kPair = 2 * kLanes;
  codes += begin * kBits / 8;
#if AITER_ISA_LEVEL == 2
  if constexpr (__is_same(Codec, E2M1FN) && Numbers::kHalves && kGroup == kPair) {
    Words e;
    memcpy(&e, s.code, sizeof(e));
    if (spec.scale == DType::kF8E8M0 &&
        _mm512_cmpge_epu32_mask(__builtin_bit_cast(__m512i, e - 8), _mm512_set1_epi32(243)) == 0) {
      for (int k = 0; k < kLanes; ++k)
        store_mxfp4(codes + k * kGroup / 2, _mm512_loadu_si512(x.x + begin + k * kGroup), s.code[k],
                    streamed);
      return;
    }
  }
#endif
  (void)spec;
  for (int i = 0; i < kLanes * kGroup; i += kPair) {
    // As the lanes of the pair lie: with even ones first, half a vector to a group of kLanes.
    Vec f = set1(s.factor[i / kGroup]), g = f;
    if constexpr (kGroup < kPair) {
      static_assert(kGroup == kLanes);
      g = set1(s.factor[i / kGroup + 1]);
      if constexpr (Numbers::kEvenFirst) f = g = first_halves(f, g);
    }
    const Pair v = Numbers::pair(x, begin + i);
    store_code_pair<kBits, Numbers::kEvenFirst>(codes + i * kBits / 8,
                                                encode_lanes<false>(Codec{}, v.a * f),
                                                encode_lanes<false>(Codec{}, v.b * g), streamed);
  }
}

// Scales and codes of the rows [row, row_end), which share the scales of group_row. x(r, begin, end)
// gives the numbers of row r for these columns. streamed: the codes go past the caches; a
// stream_fence() must follow the last row. ahead(r, i) comes before every kAhead numbers of the last
// reading of a single row, or of the first of several. kGroup: the columns of a group where they are
// few; 0 for any number.
template <class Codec, int kGroup, class X, class Ahead>
AITER_INLINE void quantize_rows_by(const QuantOut& q, int64_t group_row, int64_t row,
                                   int64_t row_end, bool streamed, X&& x, Ahead&& ahead) {
  constexpr bool kHalves = NumbersOf<decltype(x(row, row, row))>::kHalves;
  // Of short groups, scales take longer to come than codes: several vectors of them at a time.
  constexpr int kTogether = kGroup ? 4 : 1;
  const int64_t group_cols = kGroup ? kGroup : q.group_cols;
  const int64_t groups = (q.cols + group_cols - 1) / group_cols;
  const int64_t scale_row = q.scale_row(group_row);
  for (int64_t block = 0; block < groups; block += kTogether * kLanes) {
    const int64_t block_col = block * group_cols,
                  some = block_col + kTogether * kLanes * group_cols;
    const int64_t block_end = some < q.cols ? some : q.cols;
    auto numbers_of = [&](int64_t r) { return x(r, block_col, block_end); };
    Scales scales[kTogether];
    bool specials[kTogether];           // numbers of which products may be NaN
    auto each_vector = [&](auto&& f) {  // f(vector of scales, the first group, groups, all of them)
      for (int j = 0; j < kTogether; ++j) {
        const int64_t first = block + j * kLanes, left = groups - first;
        if (left <= 0) return;
        f(j, first, left < kLanes ? static_cast<int>(left) : kLanes,
          kGroup && (first + kLanes) * kGroup <= q.cols);
      }
    };
    auto each = [&](int64_t first, int count, bool whole, auto&& f) {  // f(k, columns)
      if (whole) {
        for (int k = 0; k < kLanes; ++k) f(k, (first + k) * kGroup, (first + k) * kGroup + kGroup);
        return;
      }
      for (int k = 0; k < count; ++k) {
        const int64_t begin = (first + k) * group_cols, end = begin + group_cols;
        f(k, begin, end < q.cols ? end : q.cols);
      }
    };
    each_vector([&](int j, int64_t first, int count, bool whole) {
      Scales& s = scales[j];
      if (q.static_scale) {
        s = {};
        load_scales(q, scale_row, first, count, s.factor);
        for (int k = 0; k < kLanes; ++k) s.factor[k] = 1.0f / s.factor[k];
        specials[j] = true;
        return;
      }
      // Many groups at a time, so that none waits for the last step of another.
      Words largest;
      if (kGroup && whole && row_end - row == 1) {
        if constexpr (kGroup > 0)
          largest = magnitudes_of_each<kGroup>(first * kGroup, numbers_of(row));
      } else {
        Words most[kLanes] = {};
        for (int64_t r = row; r < row_end; ++r) {
          const int64_t last = (first + count) * group_cols, end = last < q.cols ? last : q.cols;
          if (row_end - row > 1)
            for (int64_t i = first * group_cols; i < end; i += kAhead) ahead(r, i);
          each(first, count, whole, [&, numbers = numbers_of(r)](int k, int64_t begin, int64_t to) {
            most[k] = max_words<kHalves>(most[k], range_magnitudes(begin, to, numbers));
          });
        }
        largest = max_of_each<kHalves>(most, count);
      }
      auto again = [&](int k) {
        const int64_t begin = (first + k) * group_cols, end = begin + group_cols;
        float found = 0;
        for (int64_t r = row; r < row_end; ++r) {
          const float here =
              reduce_max(range_amax_but_nan(begin, end < q.cols ? end : q.cols, numbers_of(r)));
          found = here > found ? here : found;
        }
        return found;
      };
      Vec amax;
      specials[j] = amax_of_each<kHalves>(largest, count, again, &amax);
      scales_for<Codec>(amax, q.spec, &s);
      store_scales(q, scale_row, first, count, s);
    });
    for (int64_t r = row; r < row_end; ++r) {
      uint8_t* codes = static_cast<uint8_t*>(q.codes) + q.codes_rows.offset(r);
      const bool aligned = reinterpret_cast<uintptr_t>(codes) % 32 == 0;
      const auto numbers = numbers_of(r);
      auto prefetch_ahead = [&](int64_t i) {
        if (row_end - row == 1) ahead(r, i);
      };
      each_vector([&](int j, int64_t first, int count, bool whole) {
        auto encode = [&]<bool kNan>() {
          each(first, count, whole, [&](int k, int64_t begin, int64_t end) {
            encode_range<Codec, kNan>(begin, end, scales[j].factor[k], codes, streamed, numbers,
                                      prefetch_ahead);
          });
        };
        if (specials[j] || (kGroup && !whole)) {
          encode.template operator()<true>();
        } else if constexpr (kGroup == 0) {
          encode.template operator()<AITER_ISA_LEVEL == 0>();  // portable: compiled once
        } else {
          const int64_t begin = first * kGroup, end = begin + kLanes * kGroup;
          for (int64_t i = begin; i < end; i += kAhead) prefetch_ahead(i);
          encode_groups<Codec, kGroup>(begin, q.spec, scales[j], codes, streamed && aligned,
                                       numbers);
        }
      });
    }
  }
}
template <class Codec, class X, class Ahead>
AITER_INLINE void quantize_rows(const QuantOut& q, int64_t group_row, int64_t row, int64_t row_end,
                                bool streamed, X&& x, Ahead&& ahead) {
  // Those that the formats of small groups use.
  constexpr bool kArray = requires { decltype(x(row, row, row))::kEvenFirst; };
  constexpr bool k16 = __is_same(Codec, E2M1FN);
  constexpr bool k32 = k16 || Codec::kBits < 8 || __is_same(Codec, E4M3FN);
  if constexpr (kArray && k16) {
    if (q.group_cols == 16)
      return quantize_rows_by<Codec, 16>(q, group_row, row, row_end, streamed, x, ahead);
  }
  if constexpr (kArray && k32) {
    if (q.group_cols == 32)
      return quantize_rows_by<Codec, 32>(q, group_row, row, row_end, streamed, x, ahead);
  }
  quantize_rows_by<Codec, 0>(q, group_row, row, row_end, streamed, x, ahead);
}

// Of one row of q.cols floats in memory. Defined in quantize_row_cpu.cc, as it takes long to compile.
void quantize_row(const QuantOut& q, int64_t row, const float* x, bool streamed = false);

}  // namespace aiter::AITER_ISA
