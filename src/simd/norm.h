// Norms of rows: statistics, then what is written.
//
// A row at a time: it stays in the cache between the passes, so memory sees each element once in
// and once out. Outputs beyond the caches are written past them (simd/cache.h).
#pragma once

#include "ops/norm/row_norm.h"
#include "simd/cache.h"
#include "simd/parallel.h"
#include "simd/scratch.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {

// A number v of the row becomes (v - mean) * scale; mean is 0 for kRms.
struct Moments {
  float mean, scale;
};

// Of the n numbers f(x[i]...), f being lane by lane.
template <NormKind kKind, class F, class... X>
AITER_INLINE Moments row_moments(int64_t n, float eps, F&& f, const X*... x) {
  const int64_t whole = n - n % kLanes;
  const float count = static_cast<float>(n);
  float shift = 0;  // of the numbers, so that their squares leave room for the variance
  if (kKind == NormKind::kLayer) store_n(&shift, f(load_n(x, 1)...), 1);
  for (bool again = false;; again = true) {
    const Vec shifts = set1(shift);
    Vec sums[4] = {zero(), zero(), zero(), zero()};
    Vec squares[4] = {zero(), zero(), zero(), zero()};
    auto add = [&](int k, Vec v) {
      if constexpr (kKind == NormKind::kLayer) v = v - shifts, sums[k] = sums[k] + v;
      squares[k] = fma(v, v, squares[k]);
    };
    each_lanes(whole, [&](int k, auto... v) { add(k, f(v...)); }, x...);
    if (whole < n) {
      const int rest = static_cast<int>(n - whole);
      float last[kLanes];
      store(last, shifts);  // lanes beyond the row add nothing
      store_n(last, f(load_n(x + whole, rest)...), rest);
      add(0, load(last));
    }
    auto total = [](const Vec(&v)[4]) { return reduce_add((v[0] + v[1]) + (v[2] + v[3])); };
    const float mean = total(sums) / count;  // beyond the shift
    float variance = total(squares) / count - mean * mean;
    // The subtraction has cost few bits, or else the mean is now known well enough to go again.
    if (again || !(mean * mean > 16 * variance)) {
      if (variance < 0) variance = 0;
      return {shift + mean, 1.0f / __builtin_sqrtf(variance + eps)};
    }
    shift += mean;
  }
}

// y[0, hidden) = the norm of the row f(x[i]...), with a's weights.
template <NormKind kKind, class T, class W, class Y, class Ahead, class F, class... X>
AITER_INLINE void normalize(const RowNormArgs& a, Y* y, bool streamed, Ahead&& ahead, F&& f,
                            const X*... x) {
  const int64_t hidden = a.hidden;
  const Moments moments = row_moments<kKind>(hidden, a.eps, f, x...);
  const Vec mean = set1(moments.mean), scale = set1(moments.scale);
  // In registers: y may alias a.
  const bool gemma = a.gemma, model_sensitive = a.model_sensitive;
  auto normal = [&](auto... parts) {
    Vec v = f(parts...);
    if constexpr (kKind == NormKind::kLayer) return (v - mean) * scale;
    v = v * scale;
    return model_sensitive ? rounded<T>(v) : v;
  };
  auto gain = [&](Vec weight) {
    return kKind == NormKind::kRms && gemma ? weight + set1(1.0f) : weight;
  };
  auto write = [&](auto g, const auto*... arrays) {
    map_lanes(y, hidden, streamed, g, ahead, arrays...);
  };
  const W *w = static_cast<const W*>(a.w), *b = static_cast<const W*>(a.b);
  if constexpr (kKind == NormKind::kLayer) {
    if (w && b)
      return write([&](Vec g, Vec z, auto... v) { return fma(normal(v...), gain(g), z); }, w, b,
                   x...);
    if (b) return write([&](Vec z, auto... v) { return normal(v...) + z; }, b, x...);
  }
  if (w)
    write([&](Vec g, auto... v) { return normal(v...) * gain(g); }, w, x...);
  else
    write(normal, x...);
}

// Row r: adds what is to be added, and writes the norm. buffer: hidden floats where a has x_bias.
template <NormKind kKind, class T, class W, class Y, class Ahead>
AITER_INLINE void norm_row(const RowNormArgs& a, int64_t r, float* buffer, Y* y, bool y_streamed,
                           bool sum_streamed, Ahead&& ahead) {
  const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
  const T* bias = static_cast<const T*>(a.x_bias);
  auto same = [](Vec v) { return v; };
  if (!a.residual_in) {
    if (!bias) return normalize<kKind, T, W>(a, y, y_streamed, ahead, same, x);
    map_lanes(buffer, a.hidden, false, [](Vec v, Vec z) { return v + z; }, NothingAhead{}, x, bias);
    return normalize<kKind, T, W>(a, y, y_streamed, ahead, same, buffer);
  }
  const T* in = static_cast<const T*>(a.residual_in) + a.residual_in_rows.offset(r);
  T* out = static_cast<T*>(a.residual_out) + a.residual_out_rows.offset(r);
  if (bias)
    map_lanes(
        out, a.hidden, false, [](Vec v, Vec residual, Vec z) { return v + z + residual; },
        NothingAhead{}, x, in, bias);
  else
    map_lanes(
        out, a.hidden, sum_streamed, [](Vec v, Vec residual) { return v + residual; },
        NothingAhead{}, x, in);
  auto add = [](Vec v, Vec residual) { return rounded<T>(v + residual); };
  if (sum_streamed && !bias)  // add again rather than wait for the memory
    normalize<kKind, T, W>(a, y, y_streamed, ahead, add, x, in);
  else
    normalize<kKind, T, W>(a, y, y_streamed, ahead, same, static_cast<const T*>(out));
}

// Prefetches a later row while row r of [begin, end) is written: that pass reads nothing from
// memory.
template <class T>
struct RowAhead {
  const T *x = nullptr, *residual = nullptr;
  AITER_INLINE RowAhead(const RowNormArgs& a, int64_t r, int64_t begin, int64_t end) {
    const int64_t later = row_ahead(r, begin, end, a.hidden * static_cast<int64_t>(sizeof(T)));
    if (later < 0) return;
    x = static_cast<const T*>(a.x) + a.x_rows.offset(later);
    if (a.residual_in)
      residual = static_cast<const T*>(a.residual_in) + a.residual_in_rows.offset(later);
  }
  AITER_INLINE void operator()(int64_t i) const {
    if (x) prefetch<true>(x + i, kAhead);
    if (residual) prefetch<true>(residual + i, kAhead);
  }
};

// What is written over an input is in the cache already.
template <class T>
AITER_INLINE bool norm_streamed(const RowNormArgs& a, const void* out) {
  const int64_t bytes = a.x_rows.count * a.hidden * static_cast<int64_t>(sizeof(T));
  return out && out != a.x && out != a.residual_in && worth_streaming(out, bytes, sizeof(T));
}

// f(begin, end, buffer) over all rows, of `elements` each, with `floats` floats for each thread.
template <class F>
AITER_INLINE void for_rows(int64_t rows, int64_t elements, int64_t floats, F&& f) {
  const int64_t pieces = row_pieces(rows, elements);
  floats = (floats + 15) & -16;
  float* buffers = nullptr;
  if (floats) buffers = reinterpret_cast<float*>(scratch(pieces * floats * 4));
  parallel_tasks(pieces, [&](int64_t piece, int) {
    f(rows * piece / pieces, rows * (piece + 1) / pieces, buffers + piece * floats);
  });
}

template <NormKind kKind, class T, class W>
void norm_rows(const RowNormArgs& a) {
  const bool y_streamed = norm_streamed<T>(a, a.y);
  const bool sum_streamed = norm_streamed<T>(a, a.residual_out);
  for_rows(a.x_rows.count, a.hidden, a.x_bias ? a.hidden : 0,
           [&](int64_t begin, int64_t end, float* buffer) {
             for (int64_t r = begin; r < end; ++r) {
               T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
               const RowAhead<T> ahead(a, r, begin, end);
               norm_row<kKind, T, W>(a, r, buffer, y, y_streamed, sum_streamed, ahead);
               for (int64_t i = a.hidden; i < a.y_cols; ++i) y[i] = from_float<T>(0.0f);
             }
             if (y_streamed || sum_streamed) stream_fence();
           });
}

// The norm of row r in fp32, by obvious code.
template <NormKind kKind, class T, class W>
void plain_norm_row(const RowNormArgs& a, int64_t r, float* y) {
  const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
  const T* bias = static_cast<const T*>(a.x_bias);
  const W *w = static_cast<const W*>(a.w), *b = static_cast<const W*>(a.b);
  for (int64_t i = 0; i < a.hidden; ++i)
    y[i] = bias ? to_float(x[i]) + to_float(bias[i]) : to_float(x[i]);
  if (a.residual_in) {
    const T* in = static_cast<const T*>(a.residual_in) + a.residual_in_rows.offset(r);
    T* out = static_cast<T*>(a.residual_out) + a.residual_out_rows.offset(r);
    for (int64_t i = 0; i < a.hidden; ++i) {
      out[i] = from_float<T>(y[i] + to_float(in[i]));
      y[i] = to_float(out[i]);
    }
  }
  const double count = static_cast<double>(a.hidden);
  double mean = 0, squares = 0;
  if (kKind == NormKind::kLayer) {
    for (int64_t i = 0; i < a.hidden; ++i) mean += y[i];
    mean /= count;
  }
  for (int64_t i = 0; i < a.hidden; ++i) squares += (y[i] - mean) * (y[i] - mean);
  const float scale = static_cast<float>(1 / __builtin_sqrt(squares / count + a.eps));
  for (int64_t i = 0; i < a.hidden; ++i) {
    float v = static_cast<float>(y[i] - mean) * scale;
    if (a.model_sensitive) v = to_float(from_float<T>(v));
    if (w) v *= a.gemma ? 1 + to_float(w[i]) : to_float(w[i]);
    if (b) v += to_float(b[i]);
    y[i] = v;
  }
}

template <NormKind kKind, class T, class W>
void plain_norm_rows(const RowNormArgs& a) {
  float* row = reinterpret_cast<float*>(scratch(a.hidden * 4));
  for (int64_t r = 0; r < a.x_rows.count; ++r) {
    plain_norm_row<kKind, T, W>(a, r, row);
    T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
    for (int64_t i = 0; i < a.y_cols; ++i) y[i] = from_float<T>(i < a.hidden ? row[i] : 0.0f);
  }
}

// Calls f(T{}, W{}) with the types of x and of the weights.
template <class F>
AITER_INLINE void with_norm_types(const RowNormArgs& a, F&& f) {
  with_float_type(a.dtype, [&](auto t) {
    if (a.w_dtype == DType::kF32)
      f(t, float{});
    else
      f(t, t);
  });
}

// The rows cpu_simd and cpu_ref of an operator.
template <NormKind kKind>
AITER_INLINE void norm_simd(const RowNormArgs& a) {
  with_norm_types(a, [&]<class T, class W>(T, W) { norm_rows<kKind, T, W>(a); });
}
template <NormKind kKind>
AITER_INLINE void norm_ref(const RowNormArgs& a) {
  with_norm_types(a, [&]<class T, class W>(T, W) { plain_norm_rows<kKind, T, W>(a); });
}

}  // namespace aiter::AITER_ISA
