// Numbers to codes and back: one at a time of any kind, and several at once in the words of memory,
// by the hardware's conversions where it has them.
#pragma once

#include "ck/core/pack.h"
#include "core/small_float.h"

namespace aiter {

// Signed integers, as the codecs of core/small_float.h.
template <int kCodeBits>
struct IntCode {
  static constexpr int kBits = kCodeBits;
  static constexpr float kMax = (1 << (kBits - 1)) - 1;
  AITER_DEVICE static uint32_t encode(float x) {
    x = x == x ? x : 0.0f;
    x = x < kMax ? x : kMax;
    x = x > -kMax ? x : -kMax;
    // 1.5 * 2^23: rounds, ties to even
    return bit_cast<uint32_t>(x + 12582912.0f) & ((1u << kBits) - 1);
  }
  AITER_DEVICE static float decode(uint32_t code) {
    return static_cast<float>(static_cast<int32_t>(code << (32 - kBits)) >> (32 - kBits));
  }
  AITER_DEVICE static constexpr float max() { return kMax; }
};

// f(Codec{}) for the dtype of the codes. It is compiled nine times: where f is large, AnyCodes is
// better.
template <class F>
AITER_DEVICE void with_codec(DType code, F&& f) {
  switch (code) {
    case DType::kI8:
      return f(IntCode<8>{});
    case DType::kF8E4M3FN:
      return f(E4M3FN{});
    case DType::kF8E4M3FNUZ:
      return f(E4M3FNUZ{});
    case DType::kF8E5M2:
      return f(E5M2{});
    case DType::kF8E5M2FNUZ:
      return f(E5M2FNUZ{});
    case DType::kF6E2M3x4:
      return f(E2M3FN{});
    case DType::kF6E3M2x4:
      return f(E3M2FN{});
    case DType::kI4x2:
      return f(IntCode<4>{});
    default:
      return f(E2M1FN{});
  }
}

// The code of a small float in fewer instructions than SmallFloat::encode takes. A magnitude of
// exponent e counts units of 2^(e - mantissa bits); what is added to it leaves that count in the low
// bits of the sum, to which the sum's own exponent is added. More lies above the code. NaN counts as
// the largest number.
AITER_DEVICE uint32_t magnitude_code(float x, float most, uint32_t smallest, float add,
                                     int mantissa) {
  const float a = fmin(abs(x), most), normal = fmax(a, bit_cast<float>(smallest));
  const float power = bit_cast<float>(bit_cast<uint32_t>(normal) & 0x7f800000u);
  const uint32_t sum = bit_cast<uint32_t>(fma(power, add, a));
  return sum + (sum >> (23 - mantissa));
}
// The smallest normal number, as bits of a float.
template <class Codec>
constexpr uint32_t kSmallestNormal = static_cast<uint32_t>(128 - Codec::kExponentBias) << 23;
// What is added, for each power of two: 2^23 units, and an even number of them that makes up for the
// exponents' biases. Ties between codes are then those between magnitudes.
template <class Codec>
AITER_DEVICE constexpr float magnitude_add() {
  constexpr int kMantissa = Codec::kMantissa, kShift = 23 - kMantissa;
  constexpr uint32_t kBias = ((kSmallestNormal<Codec> >> 23) + kShift) << kMantissa;
  return static_cast<float>((1 << 23) + (-kBias & (Codec::kSign - 1))) / (1 << kMantissa);
}
template <class Codec>
AITER_DEVICE uint32_t magnitude_code(float x) {
  constexpr float kAdd = magnitude_add<Codec>();
  return magnitude_code(x, Codec::max(), kSmallestNormal<Codec>, kAdd, Codec::kMantissa);
}

// The code of a number: the bits of Codec::encode.
template <int n>
AITER_DEVICE uint32_t encode_one(IntCode<n>, float x) {
  return IntCode<n>::encode(x);
}
template <class Codec>
AITER_DEVICE uint32_t encode_one(Codec, float x) {
  uint32_t code = magnitude_code<Codec>(x) & (Codec::kSign - 1);
  const uint32_t sign = bit_cast<uint32_t>(x) >> (32 - Codec::kBits) & Codec::kSign;
  code |= Codec::kIsFnuz && code == 0 ? 0 : sign;
  return Codec::kNan < 0 || x == x ? code : static_cast<uint32_t>(Codec::kNan);
}

// ---- several at once ----------------------------------------------------------------------------
// The e4m3 kind that the device converts by itself; void: none.
#if defined(AITER_AMD) && defined(__gfx942__)
using HardwareE4M3 = E4M3FNUZ;
#elif defined(AITER_AMD) && defined(__gfx950__)
using HardwareE4M3 = E4M3FN;
#elif !defined(AITER_AMD) && __CUDA_ARCH__ >= 890
using HardwareE4M3 = E4M3FN;
#else
using HardwareE4M3 = void;
#endif

// The codes of four numbers, in a word.
template <class Codec>
AITER_DEVICE uint32_t encode4(const float* v) {
#if !defined(AITER_AMD)
  if constexpr (is_same<Codec, IntCode<8>>) {
    auto integer = [] AITER_LAMBDA(float x) {  // NaN becomes 0, and -128 is no code
      int32_t i;
      asm("cvt.rni.s32.f32 %0, %1;" : "=r"(i) : "f"(x));
      return max(i, -127);
    };
    auto pack = [] AITER_LAMBDA(int32_t high, int32_t low, uint32_t above) {
      uint32_t word;
      asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(word) : "r"(high), "r"(low), "r"(above));
      return word;
    };
    return pack(integer(v[1]), integer(v[0]), pack(integer(v[3]), integer(v[2]), 0));
  }
#endif
  if constexpr (is_same<Codec, HardwareE4M3>) {
#if defined(__gfx942__) || defined(__gfx950__)
    auto clamp = [] AITER_LAMBDA(float x) {
      return x == x ? fmin(fmax(x, -Codec::max()), Codec::max()) : kNaN;
    };
    const int low = __builtin_amdgcn_cvt_pk_fp8_f32(clamp(v[0]), clamp(v[1]), 0, false);
    return __builtin_amdgcn_cvt_pk_fp8_f32(clamp(v[2]), clamp(v[3]), low, true);
#elif !defined(AITER_AMD) && __CUDA_ARCH__ >= 890
    auto pair = [] AITER_LAMBDA(float low, float high) {
      uint16_t codes;
      asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
      return static_cast<uint32_t>(codes);
    };
    return pair(v[0], v[1]) | pair(v[2], v[3]) << 16;
#endif
  }
  return encode_one(Codec{}, v[0]) | encode_one(Codec{}, v[1]) << 8 |
         encode_one(Codec{}, v[2]) << 16 | encode_one(Codec{}, v[3]) << 24;
}

// The bits of a where mask has ones, and of b elsewhere.
AITER_DEVICE uint32_t select_bits(uint32_t mask, uint32_t a, uint32_t b) {
#if defined(AITER_AMD)
  return (a & mask) | (b & ~mask);
#else  // compilers take two instructions where they know some bits of b
  uint32_t bits;
  asm("lop3.b32 %0, %1, %2, %3, 0xca;" : "=r"(bits) : "r"(mask), "r"(a), "r"(b));
  return bits;
#endif
}

// The e2m1 codes of up to eight numbers, in a word.
template <int N>
AITER_DEVICE uint32_t encode_e2m1(const float* v) {
  uint32_t word = 0;
  AITER_UNROLL
  for (int k = 0; k < N; ++k)  // the sign is above three bits
    word += select_bits(7, magnitude_code<E2M1FN>(v[k]), bit_cast<uint32_t>(v[k]) >> 28) << 4 * k;
  return word;
}

// The same of numbers that are floats of 16 bits times a power of two. As f16 they are what they were, or
// beyond all codes, or so small that their code is 0: two at a time are encoded as magnitude_code does it.
AITER_DEVICE uint32_t encode_e2m1_of_16_bits(const float* v) {
#if defined(AITER_AMD)
  return encode_e2m1<8>(v);
#else
  uint32_t word = 0;
  AITER_UNROLL
  for (int k = 0; k < 4; ++k) {
    const uint32_t x = pack2<f16>(v[k], v[k + 4]);
    uint32_t a, power, sum;
    asm("{ .reg .b32 magnitude;\n\t"
        "abs.f16x2 magnitude, %1;\n\t"
        "min.f16x2 %0, magnitude, %2; }"
        : "=r"(a)
        : "r"(x), "r"(0x46004600));                                        // 6
    asm("max.f16x2 %0, %1, %2;" : "=r"(power) : "r"(a), "r"(0x3c003c00));  // 1
    power &= 0x7c007c00;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(power), "r"(0x60006000), "r"(a));  // 512
    const uint32_t codes = select_bits(0x00070007, sum + (sum >> 9), x >> 12) & 0x000f000f;
    word += codes << 4 * k;
  }
  return word;
#endif
}

// The numbers of the four codes in a word.
template <class Codec>
AITER_DEVICE void decode4(uint32_t codes, float* v) {
  if constexpr (is_same<Codec, IntCode<8>>) {
    AITER_UNROLL
    for (int k = 0; k < 4; ++k)  // 2^23 + code + 128
      v[k] = bit_cast<float>(0x4b000000u | ((codes ^ 0x80808080u) >> 8 * k & 0xffu)) - 8388736.0f;
  } else if constexpr (is_same<Codec, HardwareE4M3>) {
#if defined(__gfx942__) || defined(__gfx950__)
    const auto low = __builtin_amdgcn_cvt_pk_f32_fp8(codes, false);
    const auto high = __builtin_amdgcn_cvt_pk_f32_fp8(codes, true);
    v[0] = low[0], v[1] = low[1], v[2] = high[0], v[3] = high[1];
#elif !defined(AITER_AMD) && __CUDA_ARCH__ >= 890
    AITER_UNROLL
    for (int k = 0; k < 4; k += 2) {
      const uint16_t two = static_cast<uint16_t>(codes >> 8 * k);
      uint32_t halves;
      asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(two));
      unpack2<f16>(halves, v[k], v[k + 1]);
    }
#endif
  } else {
    AITER_UNROLL
    for (int k = 0; k < 4; ++k) v[k] = Codec::decode(codes >> 8 * k & 0xffu);
  }
}

// N codes of kBits as they lie in memory, in the first N * kBits / 32 of the words, and back.
template <int kBits, int N>
AITER_DEVICE void pack_codes(const uint32_t (&codes)[N], uint32_t (&words)[N / 4]) {
  AITER_UNROLL
  for (int i = 0; i < N / 4; ++i) words[i] = 0;
  AITER_UNROLL
  for (int k = 0; k < N; ++k) {
    const int word = k * kBits / 32, at = k * kBits % 32;
    words[word] |= codes[k] << at;
    if (at + kBits > 32) words[word + 1] |= codes[k] >> (32 - at);
  }
}
template <int kBits, int N>
AITER_DEVICE void unpack_codes(const uint32_t (&words)[N / 4], uint32_t (&codes)[N]) {
  AITER_UNROLL
  for (int k = 0; k < N; ++k) {
    const int word = k * kBits / 32, at = k * kBits % 32;
    codes[k] = words[word] >> at;
    if (at + kBits > 32) codes[k] |= words[word + 1] << (32 - at);
    codes[k] &= (1u << kBits) - 1;
  }
}

// The bytes after the first.
template <int kWords>
AITER_DEVICE void drop_byte(uint32_t (&words)[kWords]) {
  AITER_UNROLL
  for (int i = 0; i < kWords; ++i)
    words[i] = words[i] >> 8 | (i + 1 < kWords ? words[i + 1] << 24 : 0);
}

// The words of the N codes from `column` on; codes from `cols` on are 0. Rows of codes begin at
// multiples of 16 bytes.
template <int N>
AITER_DEVICE void load_codes(const uint8_t* codes, int64_t column, int64_t cols, int bits,
                             uint32_t (&words)[N / 4]) {
  const uint8_t* from = codes + (column * bits >> 3);
  static_assert(N == 16);
  if (column + N <= cols) {
    if (bits == 8) {
      const Words4 w = *reinterpret_cast<const Words4*>(from);
      words[0] = w.x, words[1] = w.y, words[2] = w.z, words[3] = w.w;
    } else if (bits == 4) {
      const Words2 w = *reinterpret_cast<const Words2*>(from);
      words[0] = w.x, words[1] = w.y, words[2] = words[3] = 0;
    } else {
      AITER_UNROLL
      for (int i = 0; i < 3; ++i) words[i] = reinterpret_cast<const uint32_t*>(from)[i];
      words[3] = 0;
    }
    return;
  }
  const int bytes = static_cast<int>(min<int64_t>(N, cols - column)) * bits / 8;
  AITER_UNROLL
  for (int i = 0; i < N / 4; ++i) {
    words[i] = 0;
    AITER_UNROLL
    for (int k = 0; k < 4; ++k)
      if (i * 4 + k < bytes) words[i] |= static_cast<uint32_t>(from[i * 4 + k]) << 8 * k;
  }
}

template <int n>
AITER_DEVICE constexpr MxElement mx_of(IntCode<n>) {
  return {1, 0, 0};
}
template <class Codec>
AITER_DEVICE constexpr MxElement mx_of(Codec) {
  return mx_element<Codec>();
}

// Codes of a kind that is known when the kernel is compiled. kOf16Bits: of floats of 16 bits.
template <class Codec, bool kOf16Bits = false>
struct Codes {
  static constexpr int bits = Codec::kBits;
  AITER_DEVICE static constexpr float max() { return Codec::max(); }
  AITER_DEVICE static constexpr MxElement mx() { return mx_of(Codec{}); }

  AITER_DEVICE explicit Codes(DType) {}

  // The codes of v * factor.
  template <int N>
  AITER_DEVICE void encode(const float (&v)[N], float factor, uint32_t (&words)[N / 4]) const {
    float x[N];
    AITER_UNROLL
    for (int k = 0; k < N; ++k) x[k] = v[k] * factor;
    if constexpr (bits == 8) {
      AITER_UNROLL
      for (int i = 0; i < N; i += 4) words[i / 4] = encode4<Codec>(x + i);
    } else if constexpr (is_same<Codec, E2M1FN>) {
      AITER_UNROLL
      for (int i = 0; i < N / 4; ++i) words[i] = 0;
      if constexpr (kOf16Bits) {
        if ((bit_cast<uint32_t>(factor) & 0x7fffff) == 0) {  // a power of two
          AITER_UNROLL
          for (int i = 0; i < N; i += 8) words[i / 8] = encode_e2m1_of_16_bits(x + i);
          return;
        }
      }
      AITER_UNROLL
      for (int i = 0; i < N; i += 8) words[i / 8] = encode_e2m1 < N<8 ? N : 8>(x + i);
    } else {
      uint32_t codes[N];
      AITER_UNROLL
      for (int k = 0; k < N; ++k) codes[k] = encode_one(Codec{}, x[k]);
      pack_codes<bits>(codes, words);
    }
  }
  template <int N>
  AITER_DEVICE void decode(const uint32_t (&words)[N / 4], float (&v)[N]) const {
    if constexpr (bits == 8) {
      AITER_UNROLL
      for (int i = 0; i < N; i += 4) decode4<Codec>(words[i / 4], v + i);
    } else {
      uint32_t codes[N];
      unpack_codes<bits>(words, codes);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] = Codec::decode(codes[k]);
    }
  }
};

// A kind of code as numbers, the same for all threads: one copy of a kernel serves all kinds. Those of
// most use are encoded by their own code; the others share one encoder, whose bits are those of
// SmallFloat::encode.
struct AnyCodes {
  enum Kind { kI8, kE4M3, kE2M1, kInteger, kFloat };
  Kind kind;
  int bits;
  float most;
  MxElement element;
  uint32_t smallest;       // kSmallestNormal
  float add;               // magnitude_add
  uint32_t sign;           // bit of a code
  uint32_t nan;            // code
  bool has_nan, has_zero;  // has_zero: a negative zero
  bool has_infinity;

  AITER_DEVICE explicit AnyCodes(DType code) {
    with_codec(code, [&] AITER_LAMBDA(auto codec) { set(codec); });
  }
  AITER_DEVICE float max() const { return most; }
  AITER_DEVICE const MxElement& mx() const { return element; }

  AITER_DEVICE uint32_t encode(float x) const {
    return kind == kI8 || kind == kInteger ? encode_integer(x) : encode_float(x);
  }
  template <int N>
  AITER_DEVICE void encode(const float (&v)[N], float factor, uint32_t (&words)[N / 4]) const {
    if (kind == kI8) return Codes<IntCode<8>>(DType::kI8).encode(v, factor, words);
    if constexpr (!is_same<HardwareE4M3, void>)
      if (kind == kE4M3) return Codes<HardwareE4M3>(DType::kNone).encode(v, factor, words);
    if (kind == kE2M1) return Codes<E2M1FN>(DType::kNone).encode(v, factor, words);
    // The rest in a loop, which is short in code: numbers move to the front, codes in from the back.
    float x[N];
    AITER_UNROLL
    for (int k = 0; k < N; ++k) x[k] = v[k];
    AITER_UNROLL
    for (int i = 0; i < N / 4; ++i) words[i] = 0;
    AITER_NO_UNROLL
    for (int n = 0; n < N; ++n) {
      const uint32_t code = encode(x[0] * factor);
      AITER_UNROLL
      for (int k = 0; k + 1 < N; ++k) x[k] = x[k + 1];
      AITER_UNROLL
      for (int i = 0; i < N / 4; ++i)
        words[i] = words[i] >> bits | (i + 1 < N / 4 ? words[i + 1] : code) << (32 - bits);
    }
    for (int left = N * (8 - bits); left > 0; left -= 8) drop_byte(words);  // to the front
  }
  template <int N>
  AITER_DEVICE void decode(const uint32_t (&words)[N / 4], float (&v)[N]) const {
    uint32_t codes[N];
    if (bits == 8)
      unpack_codes<8>(words, codes);
    else if (bits == 4)
      unpack_codes<4>(words, codes);
    else
      unpack_codes<6>(words, codes);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] = decode(codes[k]);
  }
  AITER_DEVICE float decode(uint32_t code) const {
    if (kind == kI8 || kind == kInteger)
      return static_cast<float>(static_cast<int32_t>(code << (32 - bits)) >> (32 - bits));
    // As bits of a float the magnitude is right but for the exponent's bias; that of a subnormal
    // number is a subnormal float.
    const uint32_t magnitude = code & (sign - 1);
    const float unbias = bit_cast<float>(smallest + (126u << 23));
    float x = bit_cast<float>(magnitude << (23 - element.mantissa)) * unbias;
    if (has_nan && has_zero && magnitude > element.max_code)
      x = has_infinity && magnitude == element.max_code + 1 ? kInfinity : kNaN;
    if (has_nan && !has_zero && code == sign) return kNaN;
    return bit_cast<float>(bit_cast<uint32_t>(x) | (code & sign) << (32 - bits));
  }

 private:
  AITER_DEVICE uint32_t encode_integer(float x) const {
    x = x == x ? x : 0.0f;
    x = x < most ? x : most;
    x = x > -most ? x : -most;
    return bit_cast<uint32_t>(x + 12582912.0f) & (2 * sign - 1);  // 1.5 * 2^23: ties to even
  }
  AITER_DEVICE uint32_t encode_float(float x) const {
    uint32_t code = magnitude_code(x, most, smallest, add, element.mantissa) & (sign - 1);
    code |= bit_cast<uint32_t>(x) >> (32 - bits) & (has_zero || code ? sign : 0u);
    return x == x || !has_nan ? code : nan;
  }

  template <int n>
  AITER_DEVICE void set(IntCode<n> code) {
    kind = n == 8 ? kI8 : kInteger;
    bits = n;
    sign = 1u << (n - 1);
    most = IntCode<n>::max();
    element = mx_of(code);
    smallest = nan = 0;
    add = 0;
    has_nan = has_zero = has_infinity = false;
  }
  template <class Codec>
  AITER_DEVICE void set(Codec codec) {
    kind = is_same<Codec, E2M1FN> ? kE2M1 : is_same<Codec, HardwareE4M3> ? kE4M3 : kFloat;
    bits = Codec::kBits;
    most = Codec::max();
    element = mx_of(codec);
    smallest = kSmallestNormal<Codec>;
    add = magnitude_add<Codec>();
    sign = Codec::kSign;
    has_nan = Codec::kNan >= 0;
    nan = has_nan ? Codec::kNan : 0;
    has_zero = !Codec::kIsFnuz;
    has_infinity = is_same<Codec, E5M2>;
  }
};

// Code c of a row of codes.
AITER_DEVICE uint32_t load_code(const uint8_t* codes, int64_t c, int bits) {
  if (bits == 8) return codes[c];
  const int64_t bit = c * bits;
  const int at = static_cast<int>(bit % 8);
  uint32_t code = codes[bit / 8] >> at;
  if (at + bits > 8) code |= static_cast<uint32_t>(codes[bit / 8 + 1]) << (8 - at);
  return code & ((1u << bits) - 1);
}

}  // namespace aiter
