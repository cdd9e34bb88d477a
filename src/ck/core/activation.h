// Activations, in fp32.
#pragma once

#include "ck/core/math.h"

namespace aiter {

// The rounding of x * log2(e) costs |x| units in the last place: no more than that of x itself.
AITER_DEVICE float sigmoid(float x) {
  constexpr float kLog2E = 1.44269502f;
  const float e = exp2_fast(-abs(x) * kLog2E);  // at most 1: nothing overflows, the tail stays
  return (x < 0.0f ? e : 1.0f) * reciprocal_fast(1.0f + e);
}

// The normal distribution, relatively accurate in both tails: exp(-a^2 / 2) t P(t) for -a, with
// t = 1 / (1 + 0.35 a) and P fitted to a relative error of 3e-8 (as src/simd/activation.h).
struct Normal {
  float distribution, bell;  // bell: exp(-x^2 / 2)
};
AITER_DEVICE Normal normal(float x) {
  const float a = min(abs(x), 15.0f);  // it is 0 at -15
  const float t = 1.0f / fma(a, 0.35f, 1.0f);
  float p = -0.029145939275622368f;
  p = fma(p, t, 0.1439717411994934f);
  p = fma(p, t, -0.2557143270969391f);
  p = fma(p, t, 0.15917424857616425f);
  p = fma(p, t, -0.02310989983379841f);
  p = fma(p, t, 0.10550802946090698f);
  p = fma(p, t, 0.11983285844326019f);
  p = fma(p, t, 0.13986186683177948f);
  p = fma(p, t, 0.13962140679359436f);
  const float bell = exp(a * a * -0.5f), tail = bell * (t * p);
  return {x < 0.0f ? tail : 1.0f - tail, bell};
}

AITER_DEVICE float gelu(float g) { return g * normal(g).distribution; }

// g * (1 + tanh(u)) / 2 = g * sigmoid(2 u), u = sqrt(2 / pi) (g + 0.044715 g^3)
AITER_DEVICE float gelu_tanh(float g) {
  return g * sigmoid(g * fma(g * g, 0.07135481627f, 1.59576912161f));
}

// Gated activations are gate_of(g) * up_of(u); `activation` is an aiter_activation. The slopes give
// the same functions and their derivatives.
enum : int32_t { kSilu = 0, kGelu = 1, kSwiglu = 2, kSituv2 = 3, kGeluTanh = 4 };

AITER_DEVICE float gate_of(int32_t activation, float g, float beta) {
  switch (activation) {
    case kGelu:
      return gelu(g);
    case kSwiglu:
      return g * sigmoid(1.702f * g);
    case kSituv2:
      return beta * tanh(g / beta) * sigmoid(g);
    case kGeluTanh:
      return gelu_tanh(g);
    default:
      return g * sigmoid(g);
  }
}

AITER_DEVICE float up_of(int32_t activation, float u, float linear_beta) {
  if (activation == kSwiglu) return u + 1.0f;
  if (activation == kSituv2) return linear_beta * tanh(u / linear_beta);
  return u;
}

// f(Activation<...>{}), which is a constant in it: the switch is outside of f's loops.
template <int32_t kActivation>
struct Activation {
  AITER_DEVICE constexpr operator int32_t() const { return kActivation; }
};
template <class F>
AITER_DEVICE void with_activation(int32_t activation, F&& f) {
  switch (activation) {
    case kGelu:
      return f(Activation<kGelu>{});
    case kSwiglu:
      return f(Activation<kSwiglu>{});
    case kSituv2:
      return f(Activation<kSituv2>{});
    case kGeluTanh:
      return f(Activation<kGeluTanh>{});
    default:
      return f(Activation<kSilu>{});
  }
}

struct Slope {
  float value, slope;
};

// f = g s, f' = s + f (1 - s) z' for s = sigmoid(z(g))
AITER_DEVICE Slope swish_slope(float g, float s, float z_slope) {
  const float f = g * s;
  return {f, fma(f * (1.0f - s), z_slope, s)};
}

AITER_DEVICE Slope gate_slope(int32_t activation, float g, float beta) {
  switch (activation) {
    case kGelu: {
      const Normal n = normal(g);
      return {g * n.distribution, fma(g * 0.39894228040f, n.bell, n.distribution)};
    }
    case kSwiglu:
      return swish_slope(g, sigmoid(1.702f * g), 1.702f);
    case kSituv2: {
      const float t = tanh(g / beta), s = sigmoid(g), f = beta * t * s;
      return {f, fma(f, 1.0f - s, (1.0f - t * t) * s)};
    }
    case kGeluTanh: {
      const float bounded = max(min(g, 20.0f), -20.0f);  // flat beyond; NaN passes
      const float g2 = bounded * bounded;
      const float s = sigmoid(bounded * fma(g2, 0.07135481627f, 1.59576912161f));
      return {g * s, swish_slope(bounded, s, fma(g2, 3 * 0.07135481627f, 1.59576912161f)).slope};
    }
    default:
      return swish_slope(g, sigmoid(g), 1.0f);
  }
}

AITER_DEVICE Slope up_slope(int32_t activation, float u, float linear_beta) {
  if (activation == kSwiglu) return {u + 1.0f, 1.0f};
  if (activation == kSituv2) {
    const float t = tanh(u / linear_beta);
    return {linear_beta * t, 1.0f - t * t};
  }
  return {u, 1.0f};
}

}  // namespace aiter
