// Exponential noise, and the score of a token under it: the same bits on CPUs and GPUs.
#pragma once

#include "ops/sampling/philox.h"

namespace aiter {

template <class To, class From>
AITER_EVERYWHERE To bits_of(From from) {
#ifdef AITER_DEVICE_CODE
  return bit_cast<To>(from);
#else
  return __builtin_bit_cast(To, from);
#endif
}

// -log(u) for a u in (0, 1) made of 32 random bits; small results have all their digits.
// simd/noise.h has it for vectors.
AITER_EVERYWHERE float exponential_of(uint32_t random) {
  // u = 1 - v for v < 1/2, else w: d = m - 1 with u = m * 2^e.
  const bool upper = random >> 31;
  const float part =
      (static_cast<float>(static_cast<int32_t>(upper ? ~random : random)) + 0.5f) * 0x1p-32f;
  const int32_t bits = bits_of<int32_t>(part);
  const int32_t e = upper ? (bits - 0x3f400000) >> 23 : 0;
  const float d = upper ? bits_of<float>(bits - e * (1 << 23)) - 1.0f : -part;
  const float s = d / (d + 2.0f), z = s * s;
  float p = z * (1.0f / 13) + 1.0f / 11;
  p = p * z + 1.0f / 9;
  p = p * z + 1.0f / 7;
  p = p * z + 1.0f / 5;
  p = p * z + 1.0f / 3;
  p = p * z + 1.0f;
  const float n = static_cast<float>(-e);
  return n * 0.693359375f - ((s + s) * p + n * 2.12194440e-4f);
}

// The logarithm of a positive number to a few units in the last place of a double.
AITER_EVERYWHERE double log_of(double x) {
  const int64_t bits = bits_of<int64_t>(x);
  const int64_t e = (bits - 0x3fe8000000000000) >> 52;
  const double d = bits_of<double>(bits - e * (int64_t{1} << 52)) - 1.0;
  const double s = d / (d + 2.0), z = s * s;
  double p = 0;
  for (int i = 23; i > 0; i -= 2) p = p * z + 1.0 / i;
  const double n = static_cast<double>(e);
  return n * 0.693147180369123816490 + ((s + s) * p + n * 1.90821492927058770002e-10);
}

// log(exp(logit / temperature) / (noise + eps)); NaN where there is no such number.
AITER_EVERYWHERE double score_of(float logit, float temperature, float noise, float eps) {
  const double infinity = bits_of<double>(int64_t{0x7ff} << 52);
  const double divisor = static_cast<double>(noise) + static_cast<double>(eps);
  const double scaled = static_cast<double>(logit) / static_cast<double>(temperature);
  if (!(divisor > 0)) return divisor == 0 ? scaled + infinity : infinity - infinity;
  return divisor > 1.7e308 ? -infinity : scaled - log_of(divisor);
}

// Scores in float are off by less than this: such that come near the best one are compared as
// doubles.
AITER_EVERYWHERE float uncertainty(float best) {
  return 1e-6f * ((best < 0 ? -best : best) + 100.0f);
}

constexpr float kLeastTemperature = 1e-5f;  // but 0

}  // namespace aiter
