// Sine and cosine of vectors of floats.
#pragma once

#include "simd/simd.h"

namespace aiter::AITER_ISA {

// x - n pi / 2, for |x| < 2^23 to 2^-29
AITER_INLINE Vec minus_quarter_turns(Vec x, Vec n) {
#if AITER_ISA_LEVEL > 0
  Vec r = fma(n, set1(-1.57079637050628662f), x);  // exact
  r = fma(n, set1(4.37113882867379e-8f), r);
  return fma(n, set1(1.71512451e-15f), r);
#else  // no fused multiply-add: in double precision
  for (int i = 0; i < kLanes; ++i)
    x.v[i] = static_cast<float>(static_cast<double>(x.v[i]) -
                                static_cast<double>(n.v[i]) * 1.57079632679489662);
  return x;
#endif
}

// To 2^-23 for |x| < 2^23. Beyond, some angle's; NaN for infinity and NaN.
AITER_INLINE void sincos(Vec x, Vec& sine, Vec& cosine) {
  const Vec one = set1(1.0f), half = set1(0.5f);
  const Vec n = round(x * set1(0.636619772367581343f));
  const Vec r = min(one, max(-one, minus_quarter_turns(x, n)));
  const Vec z = r * r;
  Vec s = fma(z, set1(-1.9515295891e-4f), set1(8.3321608736e-3f));
  s = fma(z, s, set1(-1.6666654611e-1f));
  s = fma(r * z, s, r);
  Vec c = fma(z, set1(2.443315711809948e-5f), set1(-1.388731625493765e-3f));
  c = fma(z, c, set1(4.166664568298827e-2f));
  c = fma(z * z, c, fma(z, -half, one));
  const Vec turns = n - set1(4.0f) * floor(n * set1(0.25f));  // 0, 1, 2, 3
  const Vec odd = turns - set1(2.0f) * floor(turns * half);
  const Vec sine_abs = select_lt(odd, half, s, c), cosine_abs = select_lt(odd, half, c, s);
  sine = select_lt(turns, set1(1.5f), sine_abs, -sine_abs);
  const Vec middle = abs(turns - set1(1.5f));  // 1/2 for 1 and 2
  cosine = select_lt(middle, one, -cosine_abs, cosine_abs);
}

}  // namespace aiter::AITER_ISA
