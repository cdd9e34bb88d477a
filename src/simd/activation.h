// Activations on vectors, in fp32, for the CPU rows.
#pragma once

#include "aiter/activation.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {

constexpr float kLog2e = 1.44269504f;

// 1 / (1 + e^(-factor * x)), faster than sigmoid() of simd.h
AITER_INLINE Vec sigmoid_of(Vec x, float factor) {
  return set1(1.0f) / (set1(1.0f) + exp2(x * set1(-kLog2e * factor)));
}

// tanh(x) = a / b <= 1, fitted to a relative error of 3e-7; larger arguments count as 8. b is at most
// 176 / kShrink.
template <int kShrink = 1>
AITER_INLINE Pair tanh_fraction(Vec x) {
  constexpr float k = 1.0f / kShrink;
  x = max(set1(-8.0f), min(set1(8.0f), x));  // in this order NaN passes
  const Vec s = x * x;
  Vec a = set1(-6.142316682166087e-09f * k);
  a = fma(a, s, set1(7.162510715824058e-06f * k));
  a = fma(a, s, set1(0.002696410860471559f * k));
  a = fma(a, s, set1(0.1271231209430664f * k));
  a = fma(a, s, set1(0.9999997849526137f * k));
  Vec b = set1(0.0001967453597041324f * k);
  b = fma(b, s, set1(0.022850305626202452f * k));
  b = fma(b, s, set1(0.4604547351954004f * k));
  b = fma(b, s, set1(k));
  return {a * x, b};
}
AITER_INLINE Vec tanh(Vec x) {
  const Pair t = tanh_fraction(x);
  const Vec limit = select_lt(x, zero(), set1(-1.0f), set1(1.0f));
  return select_lt(set1(8.0f), abs(x), limit, t.a / t.b);
}

// g * sigmoid(factor * g)
AITER_INLINE Vec swish(Vec g, float factor) {
  return g / (set1(1.0f) + exp2(g * set1(-kLog2e * factor)));
}
AITER_INLINE Vec silu(Vec g) { return swish(g, 1.0f); }

// Phi(g), relatively accurate in both tails: Phi(-a) = exp(-a^2 / 2) t P(t) with
// t = 1 / (1 + 0.35 a), P fitted to a relative error of 3e-8; and exp(-g^2 / 2).
struct Normal {
  Vec distribution, bell;
};
AITER_INLINE Normal normal(Vec g) {
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
  const Vec bell = exp2(a * a * set1(-0.5f * kLog2e));
  const Vec tail = bell * (t * p);
  return {select_lt(g, zero(), tail, set1(1.0f) - tail), bell};
}
AITER_INLINE Vec gelu(Vec g) { return g * normal(g).distribution; }

// g * (1 + tanh(u)) / 2 = g * sigmoid(2 u), u = sqrt(2 / pi) (g + 0.044715 g^3)
AITER_INLINE Vec gelu_tanh_argument(Vec g) {
  return g * fma(g * g, set1(0.07135481627f), set1(1.59576912161f));
}
AITER_INLINE Vec gelu_tanh(Vec g) {
  return g / (set1(1.0f) + exp2(gelu_tanh_argument(g) * set1(-kLog2e)));
}

// A gated activation is gate(g) * up(u). gate_slope and up_slope give the same functions (a) and
// their derivatives (b).
struct PlainUp {
  static AITER_INLINE Vec up(Vec u) { return u; }
  static AITER_INLINE Pair up_slope(Vec u) { return {u, set1(1.0f)}; }
};
// f = g s, f' = s + f (1 - s) z' for s = sigmoid(z(g))
AITER_INLINE Pair swish_slope(Vec g, Vec s, Vec z_slope) {
  const Vec f = g * s;
  return {f, fma(f * (set1(1.0f) - s), z_slope, s)};
}
struct Silu : PlainUp {
  static AITER_INLINE Vec gate(Vec g) { return silu(g); }
  static AITER_INLINE Pair gate_slope(Vec g) {
    return swish_slope(g, sigmoid_of(g, 1.0f), set1(1.0f));
  }
};
struct Gelu : PlainUp {
  static AITER_INLINE Vec gate(Vec g) { return gelu(g); }
  static AITER_INLINE Pair gate_slope(Vec g) {
    const Normal n = normal(g);
    return {g * n.distribution, fma(g * set1(0.39894228040f), n.bell, n.distribution)};
  }
};
struct GeluTanh : PlainUp {
  static AITER_INLINE Vec gate(Vec g) { return gelu_tanh(g); }
  static AITER_INLINE Pair gate_slope(Vec g) {
    const Vec bounded = max(set1(-20.0f), min(set1(20.0f), g));  // flat beyond; NaN passes
    const Vec z_slope = fma(bounded * bounded, set1(3 * 0.07135481627f), set1(1.59576912161f));
    const Vec s = sigmoid_of(gelu_tanh_argument(bounded), 1.0f);
    return {g * s, swish_slope(bounded, s, z_slope).b};
  }
};
struct Swiglu {
  static AITER_INLINE Vec gate(Vec g) { return swish(g, 1.702f); }
  static AITER_INLINE Vec up(Vec u) { return u + set1(1.0f); }
  static AITER_INLINE Pair gate_slope(Vec g) {
    return swish_slope(g, sigmoid_of(g, 1.702f), set1(1.702f));
  }
  static AITER_INLINE Pair up_slope(Vec u) { return {up(u), set1(1.0f)}; }
};
struct Situv2 {
  float beta, linear_beta;
  AITER_INLINE Pair gate_slope(Vec g) const {
    const Vec t = tanh(g / set1(beta)), s = sigmoid_of(g, 1.0f), f = set1(beta) * t * s;
    return {f, fma(f, set1(1.0f) - s, (set1(1.0f) - t * t) * s)};
  }
  AITER_INLINE Pair up_slope(Vec u) const {
    const Vec t = tanh(u / set1(linear_beta));
    return {set1(linear_beta) * t, set1(1.0f) - t * t};
  }
};

template <class Act>
AITER_INLINE Vec gated(const Act& act, Vec gate, Vec up) {
  return act.gate(gate) * act.up(up);
}
AITER_INLINE Vec gated(const Situv2& act, Vec gate, Vec up) {  // as one fraction
  const Pair g = tanh_fraction<256>(gate * set1(1 / act.beta));
  const Pair u = tanh_fraction<256>(up * set1(1 / act.linear_beta));
  const Vec sigmoid = set1(1.0f) + exp2(gate * set1(-kLog2e));
  return g.a * u.a * set1(act.beta * act.linear_beta) / (g.b * u.b * sigmoid);
}

// Calls f(act) with one of the above.
template <class F>
AITER_INLINE void with_activation(int32_t activation, float beta, float linear_beta, F&& f) {
  switch (activation) {
    case AITER_ACTIVATION_SILU:
      return f(Silu{});
    case AITER_ACTIVATION_GELU:
      return f(Gelu{});
    case AITER_ACTIVATION_GELU_TANH:
      return f(GeluTanh{});
    case AITER_ACTIVATION_SWIGLU:
      return f(Swiglu{});
    case AITER_ACTIVATION_SITUV2:
      return f(Situv2{beta, linear_beta});
    default:
      return;
  }
}

}  // namespace aiter::AITER_ISA
