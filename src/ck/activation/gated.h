// Gated activations of N neighbouring results of a row.
#pragma once

#include "ck/core/activation.h"
#include "ck/core/pack.h"
#include "ops/activation/gated_args.h"

namespace aiter {

// N gates and N ups as they lie in memory: of two halves, or (interleaved) 2 N in a row.
template <int N>
struct GateUp {
  float gate[N], up[N];

  template <class T>
  AITER_DEVICE void load(const T* row, const GatedArgs& a, int64_t i) {
    load_floats<N>(row + (a.interleaved ? 2 * i : i), gate);
    load_floats<N>(row + (a.interleaved ? 2 * i + N : a.d + i), up);
  }
  template <class T>
  AITER_DEVICE void store(T* row, const GatedArgs& a, int64_t i) const {
    store_floats<N>(row + (a.interleaved ? 2 * i : i), gate);
    store_floats<N>(row + (a.interleaved ? 2 * i + N : a.d + i), up);
  }
  // From the order of memory to gates and ups, and back.
  AITER_DEVICE void separate(const GatedArgs& a) {
    if (!a.interleaved) return;
    float all[2 * N];
    AITER_UNROLL
    for (int k = 0; k < N; ++k) all[k] = gate[k], all[N + k] = up[k];
    AITER_UNROLL
    for (int k = 0; k < N; ++k) gate[k] = all[2 * k], up[k] = all[2 * k + 1];
  }
  AITER_DEVICE void join(const GatedArgs& a) {
    if (!a.interleaved) return;
    float all[2 * N];
    AITER_UNROLL
    for (int k = 0; k < N; ++k) all[2 * k] = gate[k], all[2 * k + 1] = up[k];
    AITER_UNROLL
    for (int k = 0; k < N; ++k) gate[k] = all[k], up[k] = all[N + k];
  }
};

// The row of bias, null without one; false for an id that is no expert's.
AITER_DEVICE bool find_bias(const GatedArgs& a, int64_t r, const float*& bias) {
  bias = a.bias;
  if (!a.expert_ids) return true;
  const int64_t expert = a.id_dtype == DType::kI32 ? static_cast<const int32_t*>(a.expert_ids)[r]
                                                   : static_cast<const int64_t*>(a.expert_ids)[r];
  if (expert < 0 || expert >= a.experts) return false;
  bias += expert * 2 * a.d;
  return true;
}

// y = results (i ... i + N) of row r, of what was loaded from there. `bias` is that of find_bias.
template <class X, int N>
AITER_DEVICE void activate(const GatedArgs& a, GateUp<N> v, const float* bias, int64_t r, int64_t i,
                           float (&y)[N]) {
  if (bias) {
    GateUp<N> b;
    b.load(bias, a, i);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v.gate[k] += b.gate[k], v.up[k] += b.up[k];
  }
  v.separate(a);
  with_activation(a.activation, [&] AITER_LAMBDA(auto activation) {
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      const float gate = min(v.gate[k], a.limit);  // NaN passes
      const float up = max(min(v.up[k], a.limit), -a.limit);
      y[k] = gate_of(activation, gate, a.beta) * up_of(activation, up, a.linear_beta);
    }
  });
  if (!a.weights) return;
  const int64_t row = a.weights_rows.offset(r);
  if (a.weight_per_row) {
    const float weight = load_float(a.weights, row, a.weights_dtype);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) y[k] *= weight;
  } else {
    float weight[N];
    load_floats<N, X>(a.weights, a.weights_dtype, row + i, weight);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) y[k] *= weight[k];
  }
}

}  // namespace aiter
