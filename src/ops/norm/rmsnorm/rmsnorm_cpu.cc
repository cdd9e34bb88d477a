#include "ops/norm/rmsnorm/rmsnorm_args.h"
#include "simd/parallel.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

// One row at a time: it stays in the cache between the two passes, so memory sees each element once
// in and once out.
template <class T, class W>
void rmsnorm_rows(const RmsnormArgs& a, int64_t begin, int64_t end) {
  const W* w = static_cast<const W*>(a.w);
  const int64_t hidden = a.hidden;
  const Vec one = set1(1.0f);
  for (int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
    Vec sums[4] = {zero(), zero(), zero(), zero()};
    if (a.residual_in) {
      const T* in = static_cast<const T*>(a.residual_in) + a.residual_in_rows.offset(r);
      T* out = static_cast<T*>(a.residual_out) + a.residual_out_rows.offset(r);
      for_lanes(hidden, [&](int64_t i, int n) {
        store_some(out + i, load_some(x + i, n) + load_some(in + i, n), n);
        const Vec v = load_some(out + i, n);  // the rounded sum
        sums[0] = fma(v, v, sums[0]);
      });
      x = out;
    } else {
      int64_t i = 0;
      for (; i + 4 * kLanes <= hidden; i += 4 * kLanes)
        for (int k = 0; k < 4; ++k) {
          const Vec v = load(x + i + k * kLanes);
          sums[k] = fma(v, v, sums[k]);
        }
      for_lanes(hidden - i, [&](int64_t j, int n) {
        const Vec v = load_some(x + i + j, n);
        sums[0] = fma(v, v, sums[0]);
      });
    }
    const float sum = reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3]));
    const Vec scale = set1(1.0f / __builtin_sqrtf(sum / static_cast<float>(hidden) + a.eps));
    for_lanes(hidden, [&](int64_t i, int n) {
      Vec v = load_some(x + i, n) * scale;
      if (a.model_sensitive) {
        T rounded[kLanes];
        store(rounded, v);
        v = load(rounded);
      }
      if (w) {
        const Vec gain = load_some(w + i, n);
        v = v * (a.gemma ? gain + one : gain);
      }
      store_some(y + i, v, n);
    });
  }
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
    const int64_t grain = 16384 / (a.hidden + 1) + 1;  // rows worth a thread of their own
    parallel_for(a.x_rows.count, grain, [&](int64_t begin, int64_t end) {
      rmsnorm_rows<T, W>(a, begin, end);
    });
  });
}

void rmsnorm_cpu_ref(const RmsnormArgs& a) {
  with_types(a, [&]<class T, class W>(T, W) { rmsnorm_plain<T, W>(a); });
}

}  // namespace aiter::AITER_ISA
