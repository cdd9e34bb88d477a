// Quantization of a group of floats that sit in the cache: the scale, then the codes. The epilogue
// of every quantizing operator.
//
// The arithmetic is the contract (include/aiter/quant.h), in single precision, operation by
// operation, so that every row of every operator gives the same codes.
#pragma once

#include "core/quant_spec.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {

struct Int8Code {
  static AITER_INLINE uint32_t encode(float x) {
    x = x == x ? x : 0.0f;
    x = x < 127.0f ? x : 127.0f;
    x = x > -127.0f ? x : -127.0f;
    // adding 1.5 * 2^23 rounds to the nearest integer, ties to even
    return __builtin_bit_cast(uint32_t, x + 12582912.0f) & 0xffu;
  }
  static constexpr float max() { return 127.0f; }
};

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
    default:
      return;
  }
}

// The largest finite magnitude; NaN is passed over, infinity counts as the largest float.
AITER_INLINE float group_amax(const float* x, int64_t n) {
  Vec most = zero();
  const Vec largest = set1(3.4028234663852886e38f);
  for_lanes(n, [&](int64_t i, int lanes) {
    const Vec a = abs(load_some(x + i, lanes));
    most = max(min(largest, a), most);  // a NaN comes through min, and max then drops it
  });
  return reduce_max(most);
}

// The stored scale of a group, and the factor that its numbers are multiplied by.
struct Scale {
  float factor;  // 1 / scale
  float value;   // of an f32 scale
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

// codes[i] = encode(x[i] * factor)
template <class Codec>
AITER_INLINE void encode_codes(const float* x, int64_t n, float factor, uint8_t* codes) {
  for (int64_t i = 0; i < n; ++i) codes[i] = static_cast<uint8_t>(Codec::encode(x[i] * factor));
}
// Two codes a byte, the lower nibble first; n is even.
template <>
AITER_INLINE void encode_codes<E2M1FN>(const float* x, int64_t n, float factor, uint8_t* codes) {
  for (int64_t i = 0; i < n / 2; ++i)
    codes[i] = static_cast<uint8_t>(E2M1FN::encode(x[2 * i] * factor) |
                                    E2M1FN::encode(x[2 * i + 1] * factor) << 4);
}

AITER_INLINE void store_scale(void* scales, int64_t index, DType dtype, const Scale& scale) {
  if (dtype == DType::kF32)
    static_cast<float*>(scales)[index] = scale.value;
  else
    static_cast<uint8_t*>(scales)[index] = scale.code;
}

}  // namespace aiter::AITER_ISA
