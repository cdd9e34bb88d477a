// Gated activations of a piece of a row, on the CPU.
#pragma once

#include "ops/activation/gated_args.h"
#include "simd/activation.h"

namespace aiter::AITER_ISA {

// Gates and ups (i ... i + n) of a row of x or bias.
template <class T>
AITER_INLINE Pair load_gate_up(const T* row, const GatedArgs& a, int64_t i, int n) {
  if (!a.interleaved) return {load_some(row + i, n), load_some(row + a.d + i, n)};
  const T* p = row + 2 * i;
  if (n == kLanes) return deinterleave({load(p), load(p + kLanes)});
  const int first = 2 * n < kLanes ? 2 * n : kLanes;
  return deinterleave({load_some(p, first), load_n(p + first, 2 * n - first)});
}

template <class T>
AITER_INLINE void store_gate_up(T* row, const GatedArgs& a, int64_t i, int n, Pair v) {
  if (!a.interleaved) {
    store_some(row + i, v.a, n), store_some(row + a.d + i, v.b, n);
    return;
  }
  T* p = row + 2 * i;
  v = interleave(v);
  const int first = 2 * n < kLanes ? 2 * n : kLanes;
  store_some(p, v.a, first);
  if (n == kLanes)
    store(p + kLanes, v.b);
  else if (2 * n > first)
    store_n(p + first, v.b, 2 * n - first);
}

// The row of bias, null without one; false for an id that is no expert's.
AITER_INLINE bool find_bias(const GatedArgs& a, int64_t r, const float*& bias) {
  bias = a.bias;
  if (!a.expert_ids) return true;
  const int64_t expert = a.id_dtype == DType::kI32 ? static_cast<const int32_t*>(a.expert_ids)[r]
                                                   : static_cast<const int64_t*>(a.expert_ids)[r];
  if (expert < 0 || expert >= a.experts) return false;
  bias += expert * 2 * a.d;
  return true;
}

AITER_INLINE Pair clamp_gate_up(const GatedArgs& a, Pair v) {
  const Vec limit = set1(a.limit), lowest = set1(-a.limit);
  return {min(limit, v.a), max(lowest, min(limit, v.b))};  // in this order NaN passes
}

// out[0, n) = results (begin ... begin + n) of row r, in fp32.
template <class X, class Act>
void activate(const GatedArgs& a, const Act& act, int64_t r, int64_t begin, int64_t n, float* out) {
  const float* bias;
  if (!find_bias(a, r, bias)) {
    for (int64_t i = 0; i < n; ++i) out[i] = 0;
    return;
  }
  const X* x = static_cast<const X*>(a.x) + a.x_rows.offset(r);
  for_lanes(n, [&](int64_t j, int lanes) {
    Pair v = load_gate_up(x, a, begin + j, lanes);
    if (bias) {
      const Pair b = load_gate_up(bias, a, begin + j, lanes);
      v = {v.a + b.a, v.b + b.b};
    }
    v = clamp_gate_up(a, v);
    store_some(out + j, gated(act, v.a, v.b), lanes);
  });
  if (!a.weights) return;
  const int64_t row = a.weights_rows.offset(r);
  auto multiply = [&](const auto* w) {
    w += row;
    for_lanes(n, [&](int64_t j, int lanes) {
      const Vec weight = a.weight_per_row ? set1(to_float(*w)) : load_some(w + begin + j, lanes);
      store_some(out + j, load_some(out + j, lanes) * weight, lanes);
    });
  };
  if (a.weights_dtype == DType::kF32)
    multiply(static_cast<const float*>(a.weights));
  else
    multiply(static_cast<const X*>(a.weights));
}

// ---- the same plainly ---------------------------------------------------------------------------

inline double plain_sigmoid(double x) { return 1 / (1 + __builtin_exp(-x)); }

// A function of gate or up, and its derivative.
struct PlainSlope {
  double value, slope;
};

inline PlainSlope plain_gate(const GatedArgs& a, double g) {
  auto swish = [&](double z, double z_slope) {  // g * sigmoid(z)
    const double s = plain_sigmoid(z);
    return PlainSlope{g * s, s + g * s * (1 - s) * z_slope};
  };
  switch (a.activation) {
    case AITER_ACTIVATION_SILU:
      return swish(g, 1);
    case AITER_ACTIVATION_SWIGLU:
      return swish(1.702 * g, 1.702);
    case AITER_ACTIVATION_GELU: {
      const double distribution = 0.5 * __builtin_erfc(-g * 0.70710678118654752440);
      return {g * distribution,
              distribution + g * 0.39894228040143267794 * __builtin_exp(-g * g / 2)};
    }
    case AITER_ACTIVATION_SITUV2: {
      const double t = __builtin_tanh(g / a.beta), s = plain_sigmoid(g);
      return {a.beta * t * s, (1 - t * t) * s + a.beta * t * s * (1 - s)};
    }
    default: {
      const double c = 2 * 0.79788456080286535588;
      return swish(c * (g + 0.044715 * g * g * g), c * (1 + 3 * 0.044715 * g * g));
    }
  }
}

inline PlainSlope plain_up(const GatedArgs& a, double u) {
  switch (a.activation) {
    case AITER_ACTIVATION_SWIGLU:
      return {u + 1, 1};
    case AITER_ACTIVATION_SITUV2: {
      const double t = __builtin_tanh(u / a.linear_beta);
      return {a.linear_beta * t, 1 - t * t};
    }
    default:
      return {u, 1};
  }
}

// Result i of row r.
template <class X>
float activate_plainly(const GatedArgs& a, int64_t r, int64_t i) {
  const float* bias;
  if (!find_bias(a, r, bias)) return 0;
  const X* x = static_cast<const X*>(a.x) + a.x_rows.offset(r);
  const int64_t at_gate = a.interleaved ? 2 * i : i, at_up = a.interleaved ? 2 * i + 1 : a.d + i;
  float gate = to_float(x[at_gate]), up = to_float(x[at_up]);
  if (bias) gate += bias[at_gate], up += bias[at_up];
  if (gate > a.limit) gate = a.limit;
  if (up > a.limit) up = a.limit;
  if (up < -a.limit) up = -a.limit;
  float y = static_cast<float>(plain_gate(a, gate).value * plain_up(a, up).value);
  if (a.weights) {
    const int64_t w = a.weights_rows.offset(r) + (a.weight_per_row ? 0 : i);
    y *= a.weights_dtype == DType::kF32 ? static_cast<const float*>(a.weights)[w]
                                        : to_float(static_cast<const X*>(a.weights)[w]);
  }
  return y;
}

// Calls f(X{}, Y{}) with the C++ types of x and of an array of its dtype or, for f32, a shorter
// one.
template <class F>
void with_types(const GatedArgs& a, DType y, F&& f) {
  if (a.dtype == y)
    with_float_type(y, [&](auto t) { f(t, t); });
  else
    with_float_type(y, [&](auto t) { f(float{}, t); });
}

}  // namespace aiter::AITER_ISA
