// Gated activations, in fp32.
#pragma once

#include "ck/core/math.h"

namespace aiter {

AITER_DEVICE float sigmoid(float x) {
  const float e = exp(-abs(x));  // at most 1: nothing overflows, and the tail stays accurate
  return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

// The normal distribution, relatively accurate in both tails: exp(-a^2 / 2) t P(t) for -a, with
// t = 1 / (1 + 0.35 a) and P fitted to a relative error of 3e-8 (as src/simd/activation.h).
AITER_DEVICE float normal_distribution(float x) {
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
  const float tail = exp(a * a * -0.5f) * (t * p);
  return x < 0.0f ? tail : 1.0f - tail;
}

// f(gate) * up for an aiter_activation.
AITER_DEVICE float act_and_mul(int32_t activation, float gate, float up) {
  constexpr int32_t kGelu = 1, kSwiglu = 2, kGeluTanh = 4;
  switch (activation) {
    case kGelu:
      return gate * normal_distribution(gate) * up;
    case kSwiglu:
      return gate * sigmoid(1.702f * gate) * (up + 1.0f);
    case kGeluTanh:
      // g * (1 + tanh(u)) / 2 = g * sigmoid(2 u), u = sqrt(2 / pi) (g + 0.044715 g^3)
      return gate * sigmoid(gate * fma(gate * gate, 0.07135481627f, 1.59576912161f)) * up;
    default:
      return gate * sigmoid(gate) * up;
  }
}

}  // namespace aiter
