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

// The codes of kLanes numbers, in the low bits of each lane; what is above kBits is zero.
template <int kBits>
AITER_INLINE Words encode_lanes(IntCode<kBits>, Vec v) {
  const Vec most = set1(IntCode<kBits>::kMax);
  v = to_vec(v.v == v.v ? to_words(v) : Words{});
  v = max(min(v, most), -most);
  return to_words(v + set1(12582912.0f)) & IntCode<kBits>::kMask;
}
// A number of exponent e is a multiple of 2^(e - mantissa bits), and of the quantum of the smallest
// normal one below that. Adding 2^23 quanta rounds to them, ties to even, and leaves their count in
// the low bits, to which the exponent is added: mantissas that round up carry into it.
template <class Codec>
AITER_INLINE Words encode_lanes(Codec, Vec v) {
  constexpr uint32_t kSmallest = static_cast<uint32_t>(127 + 1 - Codec::kExponentBias) << 23;
  constexpr uint32_t kQuanta = static_cast<uint32_t>(23 - Codec::kMantissa) << 23;
  constexpr int kShift = 23 - Codec::kMantissa;
  const Words bits = to_words(v);
  const Vec magnitude = magnitude_up_to(v, Codec::max());
  const Words exponent =
      to_words(max(to_vec(to_words(magnitude) & 0x7f800000u), to_vec(words1(kSmallest))));
  const Words sum = to_words(magnitude + to_vec(exponent + kQuanta));
  constexpr uint32_t kSign = Codec::kSign;
  Words code = sum + (exponent >> kShift) - (kSmallest >> kShift);
  code = merge(kSign - 1, code, bits >> (32 - Codec::kBits));
  if constexpr (Codec::kIsFnuz) code = code == kSign ? Words{} : code;  // no negative zero
  if constexpr (Codec::kNan >= 0)
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

// n <= kLanes codes from n * kBits / 8 bytes.
template <int kBits>
AITER_INLINE Words load_codes(const uint8_t* p, int n) {
#if AITER_ISA_LEVEL == 2  // gcc widens bytes one by one
  if (kBits == 8 && n == kLanes)
    return __builtin_bit_cast(
        Words, _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif AITER_ISA_LEVEL == 1
  if (kBits == 8 && n == kLanes)
    return __builtin_bit_cast(
        Words, _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#endif
  Bytes bytes{};
  if constexpr (kBits == 8) {
    if (n == kLanes)
      memcpy(&bytes, p, kLanes);
    else
      memcpy(&bytes, p, n);
  } else {
    uint64_t packed[kLanes / 8] = {};
    for (int i = 0; i < kLanes / 8; ++i) {
      if (n == kLanes)
        memcpy(packed + i, p + i * kBits, kBits);
      else if (n > 8 * i)
        memcpy(packed + i, p + i * kBits, n - 8 * i < 8 ? (n - 8 * i) * kBits / 8 : kBits);
      packed[i] = unpack_codes<kBits>(packed[i]);
    }
    memcpy(&bytes, packed, kLanes);
  }
  return __builtin_convertvector(bytes, Words);
}

// codes[i] = encode(x(i) * factor), i < n; x(i, lanes) gives a Vec of numbers. n * kBits is a
// multiple of 8.
template <class Codec, class X>
AITER_INLINE void encode_codes(int64_t n, float factor, uint8_t* codes, bool streamed, X&& x) {
  constexpr int kBits = Codec::kBits;
  const Vec f = set1(factor);
  streamed = streamed && reinterpret_cast<uintptr_t>(codes) % (kLanes * kBits / 8) == 0;
  int64_t i = 0;
  auto whole = [&](bool stream_them) {
    for (; i + kLanes <= n; i += kLanes)
      store_codes<kBits>(codes + i * kBits / 8, encode_lanes(Codec{}, x(i, kLanes) * f),
                         stream_them);
  };
  if (streamed)
    whole(true);
  else
    whole(false);
  if (i == n) return;
  uint8_t rest[kLanes];
  store_codes<kBits>(rest, encode_lanes(Codec{}, x(i, static_cast<int>(n - i)) * f), false);
  memcpy(codes + i * kBits / 8, rest, (n - i) * kBits / 8);
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

// The largest finite magnitude of n numbers, in some lane; NaN is passed over, infinity counts as
// the largest float.
template <class X>
AITER_INLINE Vec lanes_amax(int64_t n, X&& x) {
  const Vec largest = set1(3.4028234663852886e38f);
  auto larger = [&](Vec most, Vec v) {
    return max(min(largest, abs(v)), most);  // a NaN comes through min, and max drops it
  };
  Vec most = zero();
  int64_t i = 0;
  if (n >= 8 * kLanes) {
    Vec part[4] = {zero(), zero(), zero(), zero()};
    for (; i + 4 * kLanes <= n; i += 4 * kLanes)
      for (int k = 0; k < 4; ++k) part[k] = larger(part[k], x(i + k * kLanes, kLanes));
    most = max(max(part[0], part[1]), max(part[2], part[3]));
  }
  for (; i + kLanes <= n; i += kLanes) most = larger(most, x(i, kLanes));
  if (i < n) most = larger(most, x(i, static_cast<int>(n - i)));
  return most;
}
template <class X>
AITER_INLINE float group_amax(int64_t n, X&& x) {
  return reduce_max(lanes_amax(n, x));
}

// Lane i of the result is the maximum of v[i].
template <int h>
AITER_INLINE Vec max_halves(Vec a, Vec b) {  // of segments of 2h lanes: those of a, then those of b
#define AITER_FROM(j) ((j) / h % (kLanes / 2 / h) * 2 * h + (j) % h + ((j) / (kLanes / 2)) * kLanes)
#define AITER_FROM8(j, by)                                                                    \
  AITER_FROM(j) + by, AITER_FROM(j + 1) + by, AITER_FROM(j + 2) + by, AITER_FROM(j + 3) + by, \
      AITER_FROM(j + 4) + by, AITER_FROM(j + 5) + by, AITER_FROM(j + 6) + by,                 \
      AITER_FROM(j + 7) + by
#if AITER_ISA_LEVEL == 2
  return max(Vec{__builtin_shufflevector(a.v, b.v, AITER_FROM8(0, 0), AITER_FROM8(8, 0))},
             Vec{__builtin_shufflevector(a.v, b.v, AITER_FROM8(0, h), AITER_FROM8(8, h))});
#else
  return max(Vec{__builtin_shufflevector(a.v, b.v, AITER_FROM8(0, 0))},
             Vec{__builtin_shufflevector(a.v, b.v, AITER_FROM8(0, h))});
#endif
#undef AITER_FROM8
#undef AITER_FROM
}
AITER_INLINE Vec reduce_max_each(Vec (&v)[kLanes]) {
  for (int i = 0; i < kLanes / 2; ++i) v[i] = max_halves<kLanes / 2>(v[2 * i], v[2 * i + 1]);
  for (int i = 0; i < kLanes / 4; ++i) v[i] = max_halves<kLanes / 4>(v[2 * i], v[2 * i + 1]);
  for (int i = 0; i < kLanes / 8; ++i) v[i] = max_halves<kLanes / 8>(v[2 * i], v[2 * i + 1]);
  if constexpr (kLanes == 16) v[0] = max_halves<1>(v[0], v[1]);
  return v[0];
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

AITER_INLINE float load_scale(const QuantOut& q, int64_t index) {
  if (q.spec.scale == DType::kF32) return static_cast<const float*>(q.scale)[index];
  if (q.spec.scale == DType::kBF16) return to_float(static_cast<const bf16*>(q.scale)[index]);
  const uint8_t code = static_cast<const uint8_t*>(q.scale)[index];
  return q.spec.scale == DType::kF8E8M0 ? e8m0_decode(code)
                                        : E4M3FN::decode(code) * q.spec.whole_global_scale();
}

// ---- rows ---------------------------------------------------------------------------------------

// Scales and codes of one row, for groups that lie within a row or given scales; x(i, lanes) gives
// its numbers, and is asked for each twice. streamed: the codes go past the caches; a
// stream_fence() must follow the last row.
template <class Codec, class X>
AITER_INLINE void quantize_row(const QuantOut& q, int64_t row, bool streamed, X&& x) {
  uint8_t* codes = static_cast<uint8_t*>(q.codes) + q.codes_rows.offset(row);
  const int64_t groups = (q.cols + q.group_cols - 1) / q.group_cols;
  auto each = [&](int64_t first, auto&& f) {  // f(k, its first column, columns)
    for (int k = 0; k < kLanes && first + k < groups; ++k) {
      const int64_t begin = (first + k) * q.group_cols;
      f(k, begin, q.cols - begin < q.group_cols ? q.cols - begin : q.group_cols);
    }
  };
  const int64_t scale_row = q.scale_row(row);
  for (int64_t first = 0; first < groups; first += kLanes) {
    Scales s;
    if (q.static_scale) {
      each(first, [&](int k, int64_t, int64_t) {
        s.factor[k] = 1.0f / load_scale(q, scale_row + q.scale_group(first + k));
      });
    } else {
      // Many groups at a time, so that none waits for the last step of another.
      Vec most[kLanes];
      for (int k = 0; k < kLanes; ++k) most[k] = zero();
      each(first, [&](int k, int64_t begin, int64_t n) {
        most[k] = lanes_amax(n, [&](int64_t i, int lanes) { return x(begin + i, lanes); });
      });
      scales_for<Codec>(reduce_max_each(most), q.spec, &s);
      each(first, [&](int k, int64_t, int64_t) {
        store_scale(q, scale_row + q.scale_group(first + k),
                    Scale{s.factor[k], s.value[k], s.code[k]});
      });
    }
    each(first, [&](int k, int64_t begin, int64_t n) {
      encode_codes<Codec>(n, s.factor[k], codes + begin * Codec::kBits / 8, streamed,
                          [&](int64_t i, int lanes) { return x(begin + i, lanes); });
    });
  }
}

// The same for q.cols numbers in memory, of float, f16 or bf16.
template <class T>
__attribute__((noinline)) void quantize_row(const QuantOut& q, int64_t row, const T* x,
                                            bool streamed = false) {
  with_codec(q.spec.code, [&]<class Codec>(Codec) {
    quantize_row<Codec>(q, row, streamed,
                        [&](int64_t i, int lanes) { return load_some(x + i, lanes); });
  });
}

}  // namespace aiter::AITER_ISA
