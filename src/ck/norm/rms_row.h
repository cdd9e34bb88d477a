// RMS norm of few rows, where latency is all: a block has one row, a thread one pack of it, and
// everything is read at once.
#pragma once

#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "ops/norm/row_norm.h"

namespace aiter {

template <class T, bool kAdd>
AITER_DEVICE void rms_row(const RowNormArgs& a) {
  constexpr int N = kPackSize<T, true>;
  AITER_SHARED float scratch[1024 / kWave];
  const int64_t r = block_index_x();
  const int i = thread_index() * N;
  const bool valid = i < a.hidden;
  T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
  Pack<T, N> pack;
  float v[N], gain[N], sum = 0;
  if (valid) {
    pack = load_pack<N>(static_cast<const T*>(a.x) + a.x_rows.offset(r) + i);
    Pack<T, N> residual;
    if (kAdd)
      residual =
          load_pack<N>(static_cast<const T*>(a.residual_in) + a.residual_in_rows.offset(r) + i);
    if (a.w) load_floats<N, T>(a.w, a.w_dtype, i, gain);
    pack.to_floats(v);
    if (kAdd) {
      float add[N];
      residual.to_floats(add);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] += add[k];
      pack = Pack<T, N>::from_floats(v);
      pack.to_floats(v);  // the norm is that of the rounded sum
      store_pack<N>(static_cast<T*>(a.residual_out) + a.residual_out_rows.offset(r) + i, pack);
    }
    AITER_UNROLL
    for (int k = 0; k < N; ++k) sum = fma(v[k], v[k], sum);
  }
  sum = block_sum_once(sum, scratch);
  const float scale = rsqrt_fast(fma(sum, reciprocal_fast(static_cast<float>(a.hidden)), a.eps));
  if (valid) {
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] *= scale;
    if (a.model_sensitive) Pack<T, N>::from_floats(v).to_floats(v);
    if (a.w) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] *= a.gemma ? gain[k] + 1.0f : gain[k];
    }
    store_floats<N>(y + i, v);
  }
  for (int64_t c = a.hidden + thread_index(); c < a.y_cols; c += block_threads())
    y[c] = from_float<T>(0.0f);
}

}  // namespace aiter
