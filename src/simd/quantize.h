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

// The codes of kLanes numbers, in the low bits of each lane; the bits above a byte are undefined.
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
  const Words magnitude = to_words(min(to_vec(bits & 0x7fffffffu), set1(Codec::max())));
  Words exponent = magnitude & 0x7f800000u;
  exponent = exponent > kSmallest ? exponent : words1(kSmallest);
  const Words sum = to_words(to_vec(magnitude) + to_vec(exponent + kQuanta));
  Words code = sum + (exponent >> kShift) - (kSmallest >> kShift);
  constexpr uint32_t kSign = Codec::kSign;
  code = (code & (kSign - 1)) | (bits >> (32 - Codec::kBits) & kSign);
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
  const Bytes bytes = __builtin_convertvector(codes, Bytes);
#if AITER_ISA_LEVEL == 2
  if (kBits == 8 && streamed)
    return _mm_stream_si128(reinterpret_cast<__m128i*>(p), __builtin_bit_cast(__m128i, bytes));
#elif AITER_ISA_LEVEL == 1
  if (kBits == 8 && streamed)
    return _mm_stream_si64(reinterpret_cast<long long*>(p), __builtin_bit_cast(long long, bytes));
#endif
  if constexpr (kBits == 8) {
    memcpy(p, &bytes, kLanes);
  } else {
    uint64_t packed[kLanes / 8];
    memcpy(packed, &bytes, kLanes);
    for (uint64_t& eight : packed) eight = pack_codes<kBits>(eight);
#if AITER_ISA_LEVEL == 2
    if (kBits == 4 && streamed)
      return _mm_stream_si64(reinterpret_cast<long long*>(p),
                             static_cast<long long>(packed[0] | packed[1] << 32));
#endif
    for (int i = 0; i < kLanes / 8; ++i) memcpy(p + i * kBits, packed + i, kBits);
  }
}

// n <= kLanes codes from n * kBits / 8 bytes.
template <int kBits>
AITER_INLINE Words load_codes(const uint8_t* p, int n) {
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

// ---- scales -------------------------------------------------------------------------------------

// The largest finite magnitude; NaN is passed over, infinity counts as the largest float.
template <class X>
AITER_INLINE float group_amax(int64_t n, X&& x) {
  Vec most[4] = {zero(), zero(), zero(), zero()};
  const Vec largest = set1(3.4028234663852886e38f);
  auto take = [&](int k, Vec v) {
    most[k] = max(min(largest, abs(v)), most[k]);  // a NaN comes through min, and max drops it
  };
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int k = 0; k < 4; ++k) take(k, x(i + k * kLanes, kLanes));
  for (; i + kLanes <= n; i += kLanes) take(0, x(i, kLanes));
  if (i < n) take(0, x(i, static_cast<int>(n - i)));
  return reduce_max(max(max(most[0], most[1]), max(most[2], most[3])));
}

// The stored scale of a group, and the factor that its numbers are multiplied by.
struct Scale {
  float factor;  // 1 / scale
  float value;   // of an f32 or bf16 scale
  uint8_t code;  // of an e8m0 or e4m3fn scale
};

template <class Codec>
AITER_INLINE Scale scale_for(float amax, const QuantSpec& spec) {
  amax = amax < spec.amax_bound ? amax : spec.amax_bound;
  if (spec.scale == DType::kF8E8M0) {
    uint32_t code = 127;
    if constexpr (requires { Codec::kMantissa; }) code = mx_scale<Codec>(amax, spec.round);
    return {e8m0_decode(254 - code), 0.0f, static_cast<uint8_t>(code)};
  }
  if (spec.scale == DType::kF8E4M3FN) {
    const uint32_t code = E4M3FN::encode(amax / (Codec::max() * spec.global_scale));
    const float scale = E4M3FN::decode(code) * spec.global_scale;
    return {scale > 0.0f ? 1.0f / scale : 0.0f, 0.0f, static_cast<uint8_t>(code)};
  }
  float scale = amax / Codec::max();
  scale = scale > 1.1754943508222875e-38f ? scale : amax > 0.0f ? 1.1754943508222875e-38f : 1.0f;
  return {1.0f / scale, scale, 0};
}

AITER_INLINE void store_scale(const QuantOut& q, int64_t index, const Scale& scale) {
  if (q.spec.scale == DType::kF32)
    static_cast<float*>(q.scale)[index] = scale.value;
  else if (q.spec.scale == DType::kBF16)
    static_cast<bf16*>(q.scale)[index] = from_float<bf16>(scale.value);
  else
    static_cast<uint8_t*>(q.scale)[index] = scale.code;
}

AITER_INLINE float load_scale(const QuantOut& q, int64_t index) {
  if (q.spec.scale == DType::kF32) return static_cast<const float*>(q.scale)[index];
  if (q.spec.scale == DType::kBF16) return to_float(static_cast<const bf16*>(q.scale)[index]);
  const uint8_t code = static_cast<const uint8_t*>(q.scale)[index];
  return q.spec.scale == DType::kF8E8M0 ? e8m0_decode(code)
                                        : E4M3FN::decode(code) * q.spec.global_scale;
}

// ---- rows ---------------------------------------------------------------------------------------

// Scales and codes of one row, for groups that lie within a row or given scales; x(i, lanes) gives
// its numbers, and is asked for each twice. streamed: the codes go past the caches; a
// stream_fence() must follow the last row.
template <class Codec, class X>
AITER_INLINE void quantize_row(const QuantOut& q, int64_t row, bool streamed, X&& x) {
  uint8_t* codes = static_cast<uint8_t*>(q.codes) + q.codes_rows.offset(row);
  for (int64_t group = 0, begin = 0; begin < q.cols; ++group, begin += q.group_cols) {
    const int64_t n = q.cols - begin < q.group_cols ? q.cols - begin : q.group_cols;
    const int64_t index = q.scale_index(row, group);
    auto here = [&](int64_t i, int lanes) { return x(begin + i, lanes); };
    float factor;
    if (q.static_scale) {
      factor = 1.0f / load_scale(q, index);
    } else {
      const Scale scale = scale_for<Codec>(group_amax(n, here), q.spec);
      store_scale(q, index, scale);
      factor = scale.factor;
    }
    encode_codes<Codec>(n, factor, codes + begin * Codec::kBits / 8, streamed, here);
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
