// Sine and cosine: the arithmetic of src/simd/sincos.h.
#pragma once

#include "ck/core/math.h"

namespace aiter {

// To 2^-23 for |x| < 2^23. Beyond, some angle's; NaN for infinity and NaN.
AITER_DEVICE void sincos(float x, float& sine, float& cosine) {
  const float n = round_even(x * 0.636619772367581343f);
  float r = fma(n, -1.57079637050628662f, x);  // exact
  r = fma(n, 4.37113882867379e-8f, r);
  r = fma(n, 1.71512451e-15f, r);
  r = r > 1.0f ? 1.0f : r < -1.0f ? -1.0f : r;
  const float z = r * r;
  float s = fma(z, -1.9515295891e-4f, 8.3321608736e-3f);
  s = fma(z, s, -1.6666654611e-1f);
  s = fma(r * z, s, r);
  float c = fma(z, 2.443315711809948e-5f, -1.388731625493765e-3f);
  c = fma(z, c, 4.166664568298827e-2f);
  c = fma(z * z, c, fma(z, -0.5f, 1.0f));
  const float turns = n - 4.0f * floor(n * 0.25f);  // 0, 1, 2, 3
  const bool odd = turns == 1.0f || turns == 3.0f;
  sine = odd ? c : s, cosine = odd ? s : c;
  if (turns >= 2.0f) sine = -sine;
  if (turns == 1.0f || turns == 2.0f) cosine = -cosine;
}

}  // namespace aiter
