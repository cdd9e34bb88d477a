// Norms of few rows, where latency is all: a block has one row, a thread one pack of it, and everything
// is read at once.
#pragma once

#include "ck/norm/row_norm.h"

namespace aiter {

// kAdd: there may be a bias of x and a residual.
template <class T, NormKind kKind, bool kAdd>
AITER_DEVICE void norm_row(const RowNormArgs& a) {
  constexpr bool kLayer = kKind == NormKind::kLayer;
  constexpr int N = kPackSize<T, true>, kWaves = 1024 / kWave;
  const int64_t r = block_index_x();
  const int i = thread_index() * N;
  const bool valid = i < a.hidden;
  const float hidden = static_cast<float>(a.hidden);
  T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
  float v[N], gain[N], bias[N], mean = 0, squares = 0;
  WaveMoments part{};
  if (valid) {
    Pack<T, N> pack = load_pack<N>(static_cast<const T*>(a.x) + a.x_rows.offset(r) + i), residual;
    if (kAdd && a.residual_in)
      residual =
          load_pack<N>(static_cast<const T*>(a.residual_in) + a.residual_in_rows.offset(r) + i);
    if (a.w) load_floats<N, T>(a.w, a.w_dtype, i, gain);
    if (kLayer && a.b) load_floats<N, T>(a.b, a.w_dtype, i, bias);
    pack.to_floats(v);
    if (kLayer && kAdd && a.x_bias) {
      float add[N];
      load_floats<N>(static_cast<const T*>(a.x_bias) + i, add);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] += add[k];
    }
    if (kAdd && a.residual_in) {
      float add[N];
      residual.to_floats(add);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] += add[k];
      pack = Pack<T, N>::from_floats(v);
      pack.to_floats(v);  // the norm is that of the rounded sum
      store_pack<N>(static_cast<T*>(a.residual_out) + a.residual_out_rows.offset(r) + i, pack);
    }
    part.count = N;
    AITER_UNROLL
    for (int k = 0; k < N; ++k) part.total += v[k];
  }
  if constexpr (kLayer) {
    AITER_SHARED WaveMoments shared[kWaves];
    part.center_at_mean(kWave);
    if (valid) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) {
        const float deviation = v[k] - part.center;
        part.squares = fma(deviation, deviation, part.squares);
      }
    }
    part.squares = wave_reduce<Sum>(part.squares);
    part = parts_of_waves<kWaves>(part, shared);
    mean = divide_fast(wave_reduce<Sum, kWaves>(part.total), hidden);
    squares = wave_reduce<Sum, kWaves>(part.squares_about(mean));
  } else {
    AITER_SHARED float scratch[kWaves];
    if (valid) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) squares = fma(v[k], v[k], squares);
    }
    squares = block_sum_once(squares, scratch);
  }
  const float scale = rsqrt_fast(fma(squares, reciprocal_fast(hidden), a.eps));
  if (valid) {
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] = (kLayer ? v[k] - mean : v[k]) * scale;
    if (!kLayer && a.model_sensitive) Pack<T, N>::from_floats(v).to_floats(v);
    if (a.w) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] *= !kLayer && a.gemma ? gain[k] + 1.0f : gain[k];
    }
    if (kLayer && a.b) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] += bias[k];
    }
    store_floats<N>(y + i, v);
  }
  for (int64_t c = a.hidden + thread_index(); c < a.y_cols; c += block_threads())
    y[c] = from_float<T>(0.0f);
}

}  // namespace aiter

#define AITER_NORM_ROW(op, kind, T)                                      \
  AITER_KERNEL(op##_hip_row_##T, 1024)(const aiter::RowNormArgs a) {     \
    aiter::wait_for_previous_kernel();                                   \
    aiter::norm_row<aiter::T, aiter::kind, false>(a);                    \
  }                                                                      \
  AITER_KERNEL(op##_hip_row_add_##T, 1024)(const aiter::RowNormArgs a) { \
    aiter::wait_for_previous_kernel();                                   \
    aiter::norm_row<aiter::T, aiter::kind, true>(a);                     \
  }
