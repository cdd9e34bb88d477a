// Turning one head by a row of the tables, as ops/kvcache/cache_turn.h describes it.
#pragma once

#include "ops/kvcache/cache_turn.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {

// b cos + a sin, rounded as the vectors round it.
AITER_INLINE float turned_second(float a, float b, float cos, float sin) {
#if AITER_ISA_LEVEL > 0
  return __builtin_fmaf(a, sin, b * cos);
#else
  return a * sin + b * cos;
#endif
}

struct PlainTurn {
  template <class T>
  void operator()(const CacheTurn& a, int64_t row, const T* in, T* out) const {
    with_float_type(a.dtype, [&]<class C>(C) {
      const C* cos = static_cast<const C*>(a.cos) + row * a.cos_stride;
      const C* sin = static_cast<const C*>(a.sin) + row * a.sin_stride;
      for (int64_t p = 0; p < a.pairs; ++p) {
        const int64_t i = a.first(p), j = i + a.apart();
        const float x = to_float(in[i]), y = to_float(in[j]);
        const float c = to_float(cos[p]), s = to_float(sin[p]);
        out[i] = from_float<T>(x * c - y * s);
        out[j] = from_float<T>(turned_second(x, y, c, s));
      }
    });
  }
};

struct VectorTurn {
  template <class T>
  void operator()(const CacheTurn& a, int64_t row, const T* in, T* out) const {
    if (a.interleaved) return PlainTurn{}(a, row, in, out);
    with_float_type(a.dtype, [&]<class C>(C) {
      const C* cos = static_cast<const C*>(a.cos) + row * a.cos_stride;
      const C* sin = static_cast<const C*>(a.sin) + row * a.sin_stride;
      for_lanes(a.pairs, [&](int64_t p, int n) {
        const Vec x = load_some(in + p, n), y = load_some(in + a.pairs + p, n);
        const Vec c = load_some(cos + p, n), s = load_some(sin + p, n);
        store_some(out + p, x * c - y * s, n);
        store_some(out + a.pairs + p, fma(x, s, y * c), n);
      });
    });
  }
};

}  // namespace aiter::AITER_ISA
