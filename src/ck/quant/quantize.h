// Quantization of a group of numbers: the scale from the largest magnitude, then the codes. The
// arithmetic is that of src/simd/quantize.h, operation by operation, so that codes are the same.
#pragma once

#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "core/quant_spec.h"

namespace aiter {

struct Int8Code {
  AITER_DEVICE static uint32_t encode(float x) {
    x = x == x ? x : 0.0f;
    x = x < 127.0f ? x : 127.0f;
    x = x > -127.0f ? x : -127.0f;
    return bit_cast<uint32_t>(x + 12582912.0f) & 0xffu;  // 1.5 * 2^23: rounds, ties to even
  }
  AITER_DEVICE static float decode(uint32_t code) { return static_cast<int8_t>(code); }
  AITER_DEVICE static constexpr float max() { return 127.0f; }
};

// f(Codec{}) for the dtype of the codes.
template <class F>
AITER_DEVICE void with_codec(DType code, F&& f) {
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
    default:
      return f(E2M1FN{});
  }
}

template <class Element>
AITER_DEVICE uint32_t mx_code(Element, float amax, MxRound round) {
  return mx_scale<Element>(amax, round);
}
AITER_DEVICE uint32_t mx_code(Int8Code, float, MxRound) { return 127; }

// The stored scale of a group, and the factor that its numbers are multiplied by.
struct Scale {
  float factor;  // 1 / scale
  float value;   // of an f32 scale
  uint8_t code;  // of an e8m0 or e4m3fn scale
};

template <class Codec>
AITER_DEVICE Scale scale_for(float amax, const QuantSpec& spec) {
  amax = amax < spec.amax_bound ? amax : spec.amax_bound;
  if (spec.scale == DType::kF8E8M0) {
    const uint32_t code = mx_code(Codec{}, amax, spec.round);
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

AITER_DEVICE float load_scale(const void* scales, int64_t index, const QuantSpec& spec) {
  if (spec.scale == DType::kF32) return static_cast<const float*>(scales)[index];
  const uint8_t code = static_cast<const uint8_t*>(scales)[index];
  return spec.scale == DType::kF8E8M0 ? e8m0_decode(code)
                                      : E4M3FN::decode(code) * spec.global_scale;
}

AITER_DEVICE void store_scale(void* scales, int64_t index, const QuantSpec& spec, const Scale& s) {
  if (spec.scale == DType::kF32)
    static_cast<float*>(scales)[index] = s.value;
  else
    static_cast<uint8_t*>(scales)[index] = s.code;
}

}  // namespace aiter
