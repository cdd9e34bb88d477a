// Norms of rows with a quantized result: a row is normalized to fp32 in the cache, and quantized
// from there.
#pragma once

#include "ops/norm/norm_quant.h"
#include "simd/activation.h"
#include "simd/norm.h"
#include "simd/quantize.h"

namespace aiter::AITER_ISA {

// The unquantized copy of row r.
template <class T>
AITER_INLINE void store_norm(const RowNormArgs& a, int64_t r, const float* row, bool streamed) {
  if (!a.y) return;
  auto copy = [&](auto* y) {
    map_lanes(
        y + a.y_rows.offset(r), a.hidden, streamed, [](Vec v) { return v; }, NothingAhead{}, row);
  };
  if (a.y_dtype == DType::kF32)
    copy(static_cast<float*>(a.y));
  else
    copy(static_cast<T*>(a.y));
}

template <NormKind kKind, class T, class W>
void norm_quant_rows(const NormQuantArgs& a) {
  const RowNormArgs& norm = a.norm;
  const int64_t hidden = norm.hidden, cols = a.out.cols;
  const int64_t rows = norm.x_rows.count / a.heads;
  const int64_t code_bytes = rows * cols * code_bits(a.out.spec.code) / 8;
  const bool codes_streamed = worth_streaming(a.out.codes, code_bytes, 1);
  const bool y_streamed = norm_streamed<T>(norm, norm.y);
  const bool sum_streamed = norm_streamed<T>(norm, norm.residual_out);
  for_rows(rows, cols, cols, [&](int64_t begin, int64_t end, float* buffer) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t h = 0; h < a.heads; ++h) {
        const int64_t r = row * a.heads + h;
        float* v = buffer + h * hidden;
        const RowAhead<T> ahead(norm, r, begin * a.heads, end * a.heads);
        norm_row<kKind, T, W>(norm, r, v, v, false, sum_streamed, ahead);
        if (a.gate)
          map_lanes(
              v, hidden, false, [](Vec x, Vec gate) { return x * silu(gate); }, NothingAhead{}, v,
              static_cast<const T*>(a.gate) + a.gate_rows.offset(r));
        store_norm<T>(norm, r, v, y_streamed);
      }
      if (a.smooth)
        map_lanes(
            buffer, cols, false, [](Vec x, Vec factor) { return x * factor; }, NothingAhead{},
            buffer, a.smooth);
      quantize_row(a.out, row, buffer, codes_streamed);
    }
    stream_fence();
  });
}

template <NormKind kKind, class T, class W>
void plain_norm_quant_rows(const NormQuantArgs& a) {
  const RowNormArgs& norm = a.norm;
  float* buffer = reinterpret_cast<float*>(scratch(a.out.cols * 4));
  for (int64_t row = 0; row < norm.x_rows.count / a.heads; ++row) {
    for (int64_t h = 0; h < a.heads; ++h) {
      const int64_t r = row * a.heads + h;
      float* v = buffer + h * norm.hidden;
      plain_norm_row<kKind, T, W>(norm, r, v);
      for (int64_t i = 0; i < norm.hidden; ++i) {
        if (a.gate) {
          const float z = to_float(static_cast<const T*>(a.gate)[a.gate_rows.offset(r) + i]);
          v[i] *= static_cast<float>(z / (1 + __builtin_exp(-z)));
        }
      }
      store_norm<T>(norm, r, v, false);
    }
    if (a.smooth)
      for (int64_t i = 0; i < a.out.cols; ++i) buffer[i] *= a.smooth[i];
    quantize_row(a.out, row, buffer);
  }
}

// Calls f(kind, T{}, W{}) with a constant kind, where there is something to do.
template <class F>
AITER_INLINE void with_norm_quant_types(const NormQuantArgs& a, F&& f) {
  if (a.norm.x_rows.count == 0 || a.norm.hidden == 0) return;
  with_norm_types(a.norm, [&]<class T, class W>(T t, W w) {
    if (a.kind == NormKind::kRms)
      f.template operator()<NormKind::kRms>(t, w);
    else
      f.template operator()<NormKind::kLayer>(t, w);
  });
}

}  // namespace aiter::AITER_ISA
