// The 8-, 6- and 4-bit floats: exact codecs, shared by host code and kernels (so: no library headers
// in device code).
//
//   format       max    infinity  NaN            zero
//   e4m3fn       448    -         0x7f, 0xff     +-
//   e4m3fnuz     240    -         0x80           +
//   e5m2         57344  yes       0x7d, 7e, 7f   +-
//   e5m2fnuz     57344  -         0x80           +
//   e2m3fn       7.5    -         -              +-
//   e3m2fn       28     -         -              +-
//   e2m1fn       6      -         -              +-
//   e8m0fnu      2^127  -         0xff           -      (a power of two: 2^(code - 127))
#pragma once

#include "core/dtype.h"

namespace aiter {

template <int kExponentBits, int kMantissaBits, int kBias, int kMaxCode, int kNanCode, bool kFnuz>
struct SmallFloat {
  static constexpr int kBits = 1 + kExponentBits + kMantissaBits;
  static constexpr int kMantissa = kMantissaBits;
  static constexpr int kExponentBias = kBias;
  static constexpr int kNan = kNanCode;  // -1: none
  static constexpr bool kIsFnuz = kFnuz;
  static constexpr int kMax = kMaxCode;  // code of the largest number
  static constexpr int kSign = 1 << (kExponentBits + kMantissaBits);

  static AITER_HOST_DEVICE float from_bits(uint32_t u) { return __builtin_bit_cast(float, u); }
  static AITER_HOST_DEVICE uint32_t to_bits(float x) { return __builtin_bit_cast(uint32_t, x); }

  // 2^e for a normal exponent.
  static AITER_HOST_DEVICE float pow2(int e) {
    return from_bits(static_cast<uint32_t>(e + 127) << 23);
  }

  // Round to nearest even; beyond the largest number, that number (infinity too). NaN becomes the
  // NaN code, or, where the format has none, the largest number. No branches: loops vectorize.
  static AITER_HOST_DEVICE uint32_t encode(float x) {
    // A number of exponent e is a multiple of 2^(e - kMantissa), and of the quantum of the smallest
    // normal one below that. Adding 2^23 quanta rounds to them and leaves their count in the low
    // bits, to which the exponent is added: mantissas that round up carry into it.
    constexpr uint32_t kSmallest = static_cast<uint32_t>(127 + 1 - kBias) << 23;
    constexpr uint32_t kQuanta = static_cast<uint32_t>(23 - kMantissaBits) << 23;
    constexpr int kShift = 23 - kMantissaBits;
    constexpr float kMost = max();
    const uint32_t bits = to_bits(x);
    float a = from_bits(bits & 0x7fffffffu);
    a = a < kMost ? a : kMost;
    uint32_t exponent = to_bits(a) & 0x7f800000u;
    exponent = exponent > kSmallest ? exponent : kSmallest;
    const uint32_t sum = to_bits(a + from_bits(exponent + kQuanta));
    uint32_t code = (sum + (exponent >> kShift) - (kSmallest >> kShift)) & (kSign - 1);
    code |= bits >> (32 - kBits) & kSign;
    if (kFnuz) code = code == static_cast<uint32_t>(kSign) ? 0u : code;  // no negative zero
    if (kNanCode >= 0) code = x == x ? code : static_cast<uint32_t>(kNanCode);
    return code;
  }

  static AITER_HOST_DEVICE float decode(uint32_t code) {
    const uint32_t magnitude = code & (kSign - 1);
    const uint32_t exponent = magnitude >> kMantissaBits;
    const uint32_t mantissa = magnitude & ((1u << kMantissaBits) - 1);
    const float normal =
        from_bits((magnitude << (23 - kMantissaBits)) + (static_cast<uint32_t>(127 - kBias) << 23));
    const float subnormal = static_cast<float>(mantissa) * pow2(1 - kBias - kMantissaBits);
    float x = exponent ? normal : subnormal;
    const float nan = from_bits(0x7fc00000u);
    if (kFnuz) {
      if (code == static_cast<uint32_t>(kSign)) return nan;
    } else if (kNanCode >= 0 && magnitude > static_cast<uint32_t>(kMaxCode)) {
      // e5m2 has infinity just after the largest number; all else up here is NaN
      x = kExponentBits == 5 && magnitude == static_cast<uint32_t>(kMaxCode) + 1
              ? from_bits(0x7f800000u)
              : nan;
    }
    return code & kSign ? -x : x;
  }

  static AITER_HOST_DEVICE constexpr float max() {
    // (1.mantissa) * 2^(exponent - bias)
    float x =
        1.0f + static_cast<float>(kMaxCode & ((1 << kMantissaBits) - 1)) / (1 << kMantissaBits);
    for (int e = (kMaxCode >> kMantissaBits) - kBias; e > 0; --e) x *= 2;
    return x;
  }
  // Exponent of the largest number.
  static AITER_HOST_DEVICE constexpr int max_exponent() {
    return (kMaxCode >> kMantissaBits) - kBias;
  }
};

//                           exponent mantissa bias max code  NaN   fnuz
using E4M3FN = SmallFloat<4, 3, 7, 0x7e, 0x7f, false>;
using E4M3FNUZ = SmallFloat<4, 3, 8, 0x7f, 0x80, true>;
using E5M2 = SmallFloat<5, 2, 15, 0x7b, 0x7e, false>;
using E5M2FNUZ = SmallFloat<5, 2, 16, 0x7f, 0x80, true>;
using E2M3FN = SmallFloat<2, 3, 1, 0x1f, -1, false>;
using E3M2FN = SmallFloat<3, 2, 3, 0x1f, -1, false>;
using E2M1FN = SmallFloat<2, 1, 1, 0x07, -1, false>;

// e8m0: 2^(code - 127), NaN = 255. 2^-127 is a denormal float and comes out right.
AITER_HOST_DEVICE float e8m0_decode(uint32_t code) {
  if (code == 255) return __builtin_bit_cast(float, 0x7fc00000u);
  return __builtin_bit_cast(float, code ? code << 23 : 0x00400000u);
}

// How the exponent of an MX block is chosen from its largest magnitude (aiter_mx_round).
enum class MxRound : int32_t {
  kDown = 0,     // floor(log2 amax) - emax: the OCP specification's
  kUp = 1,       // the smallest power of two >= amax / max: nothing saturates
  kEven = 2,     // amax rounded to the element's mantissa first, then as kDown
  kCeil = 3,     // ceil(log2 amax) - emax
  kEvenFp4 = 4,  // as kEven with the mantissa of fp4
};

// What the exponent of a block depends on: its elements' mantissa bits, largest code and exponent.
struct MxElement {
  int mantissa;
  uint32_t max_code;
  int max_exponent;
};
template <class Element>
AITER_HOST_DEVICE constexpr MxElement mx_element() {
  return {Element::kMantissa, Element::kMax, Element::max_exponent()};
}

// The e8m0 code of a block with this amax (finite, >= 0); 127, which is 1.0, for a block of zeros.
AITER_HOST_DEVICE uint32_t mx_scale(float amax, MxRound mode, const MxElement& element) {
  if (amax == 0) return 127;
  uint32_t u = __builtin_bit_cast(uint32_t, amax);
  int below = 0;
  if (u < 0x00800000u) {  // denormal: scale it up, exactly
    u = __builtin_bit_cast(uint32_t, amax * 16777216.0f);
    below = 24;
  }
  switch (mode) {
    case MxRound::kDown:
      break;
    case MxRound::kUp: {
      // amax / max > 2^e exactly when amax's mantissa exceeds max's
      const uint32_t max_mantissa = (element.max_code & ((1u << element.mantissa) - 1))
                                    << (23 - element.mantissa);
      if ((u & 0x7fffffu) > max_mantissa) u += 0x800000u;
      break;
    }
    case MxRound::kEven:
      u += 1u << (22 - element.mantissa);
      break;
    case MxRound::kEvenFp4:
      u += 1u << 21;
      break;
    case MxRound::kCeil:
      u += 0x7fffffu;
      break;
  }
  const int code = static_cast<int>(u >> 23) - below - element.max_exponent;
  return static_cast<uint32_t>(code < 0 ? 0 : code > 254 ? 254 : code);
}

}  // namespace aiter
