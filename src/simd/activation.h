// Gated activations on vectors, for the CPU rows: f(gate, up), in fp32.
#pragma once

#include "aiter/activation.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {

constexpr float kLog2e = 1.44269504f;

// g * sigmoid(factor * g)
AITER_INLINE Vec swish(Vec g, float factor) {
  return g / (set1(1.0f) + exp2(g * set1(-kLog2e * factor)));
}
AITER_INLINE Vec silu(Vec g) { return swish(g, 1.0f); }

// g * Phi(g), relatively accurate in both tails: Phi(-a) = exp(-a^2 / 2) t P(t) with
// t = 1 / (1 + 0.35 a), P fitted to a relative error of 3e-8.
AITER_INLINE Vec gelu(Vec g) {
  const Vec a = min(set1(15.0f), abs(g));  // Phi(-15) is 0; in this order NaN passes
  const Vec t = set1(1.0f) / fma(a, set1(0.35f), set1(1.0f));
  Vec p = set1(-0.029145939275622368f);
  p = fma(p, t, set1(0.1439717411994934f));
  p = fma(p, t, set1(-0.2557143270969391f));
  p = fma(p, t, set1(0.15917424857616425f));
  p = fma(p, t, set1(-0.02310989983379841f));
  p = fma(p, t, set1(0.10550802946090698f));
  p = fma(p, t, set1(0.11983285844326019f));
  p = fma(p, t, set1(0.13986186683177948f));
  p = fma(p, t, set1(0.13962140679359436f));
  const Vec tail = exp2(a * a * set1(-0.5f * kLog2e)) * (t * p);
  return g * select_lt(g, zero(), tail, set1(1.0f) - tail);
}

// g * (1 + tanh(u)) / 2 = g * sigmoid(2 u), u = sqrt(2 / pi) (g + 0.044715 g^3)
AITER_INLINE Vec gelu_tanh(Vec g) {
  const Vec u2 = g * fma(g * g, set1(0.07135481627f), set1(1.59576912161f));
  return g / (set1(1.0f) + exp2(u2 * set1(-kLog2e)));
}

struct Silu {
  static AITER_INLINE Vec apply(Vec gate, Vec up) { return silu(gate) * up; }
};
struct Gelu {
  static AITER_INLINE Vec apply(Vec gate, Vec up) { return gelu(gate) * up; }
};
struct GeluTanh {
  static AITER_INLINE Vec apply(Vec gate, Vec up) { return gelu_tanh(gate) * up; }
};
struct Swiglu {
  static AITER_INLINE Vec apply(Vec gate, Vec up) {
    return swish(gate, 1.702f) * (up + set1(1.0f));
  }
};

// Calls f(Act{}) with one of the above.
template <class F>
AITER_INLINE void with_activation(int32_t activation, F&& f) {
  switch (activation) {
    case AITER_ACTIVATION_SILU:
      return f(Silu{});
    case AITER_ACTIVATION_GELU:
      return f(Gelu{});
    case AITER_ACTIVATION_GELU_TANH:
      return f(GeluTanh{});
    case AITER_ACTIVATION_SWIGLU:
      return f(Swiglu{});
    default:
      return;
  }
}

}  // namespace aiter::AITER_ISA
