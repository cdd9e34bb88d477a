// Norms of few rows, where latency is all: a block has one row, a thread one pack of it, and everything
// is read at once.
#pragma once

#include "ck/norm/row_norm.h"

namespace aiter {

template <class T, NormKind kKind, bool kAdd>
AITER_DEVICE void norm_row(const RowNormArgs& a) {
  constexpr int N = kPackSize<T, true>;
  AITER_SHARED float scratch[1024 / kWave];
  RowNorm<T, N, 1, kKind, kAdd, true> row(a, scratch);
  const int64_t r = block_index_x();
  const int i = row.t * N;
  const bool valid = i < row.in_registers;
  float gain[N] = {}, bias[N] = {};
  row.read(r, [&] AITER_LAMBDA() {
    if (valid && a.w) load_floats<N, T>(a.w, a.w_dtype, i, gain);
    if (valid && kKind == NormKind::kLayer && a.b) load_floats<N, T>(a.b, a.w_dtype, i, bias);
  });
  T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
  if (valid) {
    float v[N];
    row.numbers(row.v[0], i, v);
    normalize<T, kKind>(
        a, row.mean, row.scale, v,
        [&] AITER_LAMBDA(float (&to)[N]) {
          AITER_UNROLL
          for (int k = 0; k < N; ++k) to[k] = gain[k];
        },
        [&] AITER_LAMBDA(float (&to)[N]) {
          AITER_UNROLL
          for (int k = 0; k < N; ++k) to[k] = bias[k];
        });
    store_floats<N>(y + i, v);
  }
  for (int64_t c = a.hidden + row.t; c < a.y_cols; c += row.threads) y[c] = from_float<T>(0.0f);
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
