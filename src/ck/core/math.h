// fp32 arithmetic and the conversions of the storage types.
#pragma once

#include "ck/core/prelude.h"
#include "core/dtype.h"

namespace aiter {

#if defined(AITER_CUDA_NVCC)
AITER_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
AITER_DEVICE float sqrt(float x) { return __fsqrt_rn(x); }
AITER_DEVICE float floor(float x) { return ::floorf(x); }
AITER_DEVICE float abs(float x) { return ::fabsf(x); }
// The other one, when one is NaN.
AITER_DEVICE float fmin(float a, float b) { return ::fminf(a, b); }
AITER_DEVICE float fmax(float a, float b) { return ::fmaxf(a, b); }
// To the nearest integer, halves to the even one.
AITER_DEVICE float round_even(float x) { return ::rintf(x); }
#else
AITER_DEVICE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
AITER_DEVICE float sqrt(float x) { return __builtin_sqrtf(x); }
AITER_DEVICE float floor(float x) { return __builtin_floorf(x); }
AITER_DEVICE float abs(float x) { return __builtin_fabsf(x); }
AITER_DEVICE float fmin(float a, float b) { return __builtin_fminf(a, b); }
AITER_DEVICE float fmax(float a, float b) { return __builtin_fmaxf(a, b); }
AITER_DEVICE float round_even(float x) { return __builtin_rintf(x); }
#endif

using f32 = float;  // beside f16 and bf16, for names

constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000);
constexpr float kNaN = __builtin_bit_cast(float, 0x7fc00000);

// 2^x to 2 units in the last place, by the hardware; results below the normal range are 0.
AITER_DEVICE float exp2_fast(float x) {
#if defined(AITER_AMD)
  return __builtin_amdgcn_exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// 1/x and 1/sqrt(x) to 2 units in the last place, by the hardware; a reciprocal below the normal
// range is 0.
AITER_DEVICE float reciprocal_fast(float x) {
#if defined(AITER_AMD)
  return __builtin_amdgcn_rcpf(x);
#else
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// a / b to 1 unit in the last place, where that and b are finite and normal.
AITER_DEVICE float divide_fast(float a, float b) {
  const float r = reciprocal_fast(b), q = a * r;
  return fma(fma(-q, b, a), r, q);
}

AITER_DEVICE float rsqrt_fast(float x) {
#if defined(AITER_AMD)
  return __builtin_amdgcn_rsqf(x);
#else
  float y;
  asm("rsqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

AITER_DEVICE float log2_fast(float x) {
#if defined(AITER_AMD)
  return __builtin_amdgcn_logf(x);
#else
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// e^x to a few units in the last place: the rounding error of x * log2(e), which grows with |x|, is
// put back.
AITER_DEVICE float exp(float x) {
  constexpr float kLog2E = 1.44269502f, kLog2ELow = 1.92596299e-8f, kLn2 = 0.693147182f;
  const float t = x * kLog2E;
  const float rest = fma(x, kLog2ELow, fma(x, kLog2E, -t));
  const float y = exp2_fast(t);
  // Beyond the range of floats the rest is not finite.
  return t >= 128.0f || t < -150.0f ? y : fma(y, rest * kLn2, y);
}

// Relatively accurate near 0 too.
AITER_DEVICE float tanh(float x) {
  const float a = abs(x), x2 = x * x;
  const float e = exp(-2.0f * a);
  const float large = (1.0f - e) / (1.0f + e);
  float p = -5.70498872745e-3f;
  p = fma(p, x2, 2.06390887954e-2f);
  p = fma(p, x2, -5.37397155531e-2f);
  p = fma(p, x2, 1.33314422036e-1f);
  p = fma(p, x2, -3.33332819422e-1f);
  return a < 0.625f ? fma(p * x2, x, x) : x < 0 ? -large : large;
}

AITER_DEVICE float to_float(float x) { return x; }
AITER_DEVICE float to_float(bf16 x) { return bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }
AITER_DEVICE float to_float(f16 x) {
#if defined(AITER_AMD)
  return static_cast<float>(bit_cast<_Float16>(x.bits));
#else
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
#endif
}

// Rounding is to nearest, ties to even.
template <class T>
AITER_DEVICE T from_float(float x);
template <>
AITER_DEVICE float from_float<float>(float x) {
  return x;
}
template <>
AITER_DEVICE f16 from_float<f16>(float x) {
#if defined(AITER_AMD)
  return {bit_cast<uint16_t>(static_cast<_Float16>(x))};
#else
  f16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
#endif
}
template <>
AITER_DEVICE bf16 from_float<bf16>(float x) {
#if defined(AITER_AMD)
  return {bit_cast<uint16_t>(static_cast<__bf16>(x))};
#else
  bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
#endif
}

// Two 16-bit elements in a word, the first in the lower half.
template <class T>
AITER_DEVICE void unpack2(uint32_t word, float& low, float& high);
template <>
AITER_DEVICE void unpack2<bf16>(uint32_t word, float& low, float& high) {
  low = bit_cast<float>(word << 16);
  high = bit_cast<float>(word & 0xffff0000u);
}
template <>
AITER_DEVICE void unpack2<f16>(uint32_t word, float& low, float& high) {
  low = to_float(f16{static_cast<uint16_t>(word)});
  high = to_float(f16{static_cast<uint16_t>(word >> 16)});
}
template <class T>
AITER_DEVICE uint32_t pack2(float low, float high) {
  return from_float<T>(low).bits | static_cast<uint32_t>(from_float<T>(high).bits) << 16;
}
#if !defined(AITER_AMD)
template <>
AITER_DEVICE uint32_t pack2<bf16>(float low, float high) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
template <>
AITER_DEVICE uint32_t pack2<f16>(float low, float high) {
  uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
#endif

// c + the products of the four signed bytes of a and b.
AITER_DEVICE int32_t dot4(uint32_t a, uint32_t b, int32_t c) {
#if defined(AITER_AMD)
  return __builtin_amdgcn_sdot4(static_cast<int32_t>(a), static_cast<int32_t>(b), c, false);
#else
  int32_t d;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
#endif
}

// An element of a tensor whose dtype is known at run time only.
AITER_DEVICE float load_float(const void* data, int64_t index, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<const float*>(data)[index];
    case DType::kF16:
      return to_float(static_cast<const f16*>(data)[index]);
    default:
      return to_float(static_cast<const bf16*>(data)[index]);
  }
}

AITER_DEVICE void store_float(void* data, int64_t index, DType dtype, float value) {
  switch (dtype) {
    case DType::kF32:
      static_cast<float*>(data)[index] = value;
      break;
    case DType::kF16:
      static_cast<f16*>(data)[index] = from_float<f16>(value);
      break;
    default:
      static_cast<bf16*>(data)[index] = from_float<bf16>(value);
      break;
  }
}

}  // namespace aiter
