#include "ops/norm/rmsnorm/rmsnorm_args.h"
#include "simd/cache.h"
#include "simd/parallel.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

// One row at a time: it stays in the cache between the two passes, so memory sees each element once
// in and once out. Outputs beyond the caches are written past them (simd/cache.h).
template <class T, class W>
void rmsnorm_rows(const RmsnormArgs& a, bool y_streamed, bool sum_streamed, int64_t begin,
                  int64_t end) {
  const W* w = static_cast<const W*>(a.w);
  const int64_t hidden = a.hidden;
  const bool gemma = a.gemma, model_sensitive = a.model_sensitive;  // in registers: y may alias a
  for (int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
    Vec sums[4] = {zero(), zero(), zero(), zero()};
    auto add_square = [&](int k, Vec v) { sums[k] = fma(v, v, sums[k]); };
    const T* in = nullptr;
    auto add = [](Vec v, Vec residual) { return rounded<T>(v + residual); };
    if (a.residual_in) {
      in = static_cast<const T*>(a.residual_in) + a.residual_in_rows.offset(r);
      T* out = static_cast<T*>(a.residual_out) + a.residual_out_rows.offset(r);
      if (sum_streamed) {  // the second pass adds again rather than wait for the memory
        auto add_and_square = [&](Vec v, Vec residual) {
          v = add(v, residual);
          add_square(0, v);
          return v;
        };
        map_lanes(out, hidden, true, add_and_square, NothingAhead{}, x, in);
      } else {
        map_lanes(out, hidden, false, [](Vec v, Vec z) { return v + z; }, NothingAhead{}, x, in);
        x = out, in = nullptr;
      }
    }
    if (!in) each_lanes(hidden, add_square, x);
    const float sum = reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3]));
    const Vec scale = set1(1.0f / __builtin_sqrtf(sum / static_cast<float>(hidden) + a.eps));
    auto normalize = [&](Vec v) {
      v = v * scale;
      return model_sensitive ? rounded<T>(v) : v;
    };
    auto gain = [&](Vec weight) { return gemma ? weight + set1(1.0f) : weight; };
    // The second pass reads nothing from memory: time to fetch a later row.
    const int64_t later = row_ahead(r, begin, end, hidden * static_cast<int64_t>(sizeof(T)));
    const T *next_x = nullptr, *next_in = nullptr;
    if (later >= 0) {
      next_x = static_cast<const T*>(a.x) + a.x_rows.offset(later);
      if (a.residual_in)
        next_in = static_cast<const T*>(a.residual_in) + a.residual_in_rows.offset(later);
    }
    auto ahead = [&](int64_t i) {
      if (next_x) prefetch<true>(next_x + i, kAhead);
      if (next_in) prefetch<true>(next_in + i, kAhead);
    };
    auto write = [&](auto f, auto*... arrays) {
      map_lanes(y, hidden, y_streamed, f, ahead, arrays...);
    };
    if (in && w)
      write([&](Vec v, Vec z, Vec g) { return normalize(add(v, z)) * gain(g); }, x, in, w);
    else if (in)
      write([&](Vec v, Vec z) { return normalize(add(v, z)); }, x, in);
    else if (w)
      write([&](Vec v, Vec g) { return normalize(v) * gain(g); }, x, w);
    else
      write(normalize, x);
  }
  if (y_streamed || sum_streamed) stream_fence();
}

template <class T, class W>
void rmsnorm_plain(const RmsnormArgs& a) {
  const W* w = static_cast<const W*>(a.w);
  for (int64_t r = 0; r < a.x_rows.count; ++r) {
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
    if (a.residual_in) {
      const T* in = static_cast<const T*>(a.residual_in) + a.residual_in_rows.offset(r);
      T* out = static_cast<T*>(a.residual_out) + a.residual_out_rows.offset(r);
      for (int64_t i = 0; i < a.hidden; ++i)
        out[i] = from_float<T>(to_float(x[i]) + to_float(in[i]));
      x = out;
    }
    double sum = 0;
    for (int64_t i = 0; i < a.hidden; ++i) {
      const double v = to_float(x[i]);
      sum += v * v;
    }
    const float scale =
        static_cast<float>(1 / __builtin_sqrt(sum / static_cast<double>(a.hidden) + a.eps));
    for (int64_t i = 0; i < a.hidden; ++i) {
      float v = to_float(x[i]) * scale;
      if (a.model_sensitive) v = to_float(from_float<T>(v));
      if (w) v *= a.gemma ? 1 + to_float(w[i]) : to_float(w[i]);
      y[i] = from_float<T>(v);
    }
  }
}

// Calls f(T{}, W{}) with the types of x and w.
template <class F>
void with_types(const RmsnormArgs& a, F&& f) {
  with_float_type(a.dtype, [&](auto t) {
    if (a.w_dtype == DType::kF32)
      f(t, float{});
    else
      f(t, t);
  });
}

}  // namespace

void rmsnorm_cpu_simd(const RmsnormArgs& a) {
  with_types(a, [&]<class T, class W>(T, W) {
    // What is written over an input is in the cache already.
    const int64_t bytes = a.x_rows.count * a.hidden * static_cast<int64_t>(sizeof(T));
    const bool y_streamed =
        a.y != a.x && a.y != a.residual_in && worth_streaming(a.y, bytes, sizeof(T));
    const bool sum_streamed = a.residual_out != a.x && a.residual_out != a.residual_in &&
                              worth_streaming(a.residual_out, bytes, sizeof(T));
    const int64_t grain = 16384 / (a.hidden + 1) + 1;  // rows worth a thread of their own
    parallel_for(a.x_rows.count, grain, [&](int64_t begin, int64_t end) {
      rmsnorm_rows<T, W>(a, y_streamed, sum_streamed, begin, end);
    });
  });
}

void rmsnorm_cpu_ref(const RmsnormArgs& a) {
  with_types(a, [&]<class T, class W>(T, W) { rmsnorm_plain<T, W>(a); });
}

}  // namespace aiter::AITER_ISA
