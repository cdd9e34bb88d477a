// Exponential noise in vectors, bit for bit that of ops/sampling/noise.h, for the CPU rows.
#pragma once

#include "ops/sampling/noise.h"
#include "simd/radix_select.h"

namespace aiter::AITER_ISA {

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint64_t LongWords __attribute__((vector_size(4 * kLanes)));

AITER_INLINE Vec exponential_of(Words random) {
  const Ints upper = (Ints)random >> 31;
  const Floats part = (__builtin_convertvector((Ints)random ^ upper, Floats) + 0.5f) * 0x1p-32f;
  const Ints bits = (Ints)part, e = ((bits - 0x3f400000) >> 23) & upper;
  const Floats m = (Floats)(bits - (e << 23)) - 1.0f;
  const Floats d = (Floats)(((Ints)m & upper) | ((Ints)-part & ~upper));
  const Floats s = d / (d + 2.0f), z = s * s;
  Floats p = z * (1.0f / 13) + 1.0f / 11;
  p = p * z + 1.0f / 9;
  p = p * z + 1.0f / 7;
  p = p * z + 1.0f / 5;
  p = p * z + 1.0f / 3;
  p = p * z + 1.0f;
  const Floats n = __builtin_convertvector(-e, Floats);
  const Floats x = n * 0.693359375f - ((s + s) * p + n * 2.12194440e-4f);
  Vec result;
  memcpy(&result, &x, sizeof(x));
  return result;
}

// log(x) to 1e-6, of positive normal numbers.
AITER_INLINE Vec log_about(Vec x) {
  const Ints bits = (Ints)x.v, e = (bits - 0x3f400000) >> 23;
  const Floats d = (Floats)(bits - (e << 23)) - 1.0f;
  const Floats s = d / (d + 2.0f), z = s * s;
  Floats p = z * (1.0f / 7) + 1.0f / 5;
  p = p * z + 1.0f / 3;
  p = p * z + 1.0f;
  const Floats y = __builtin_convertvector(e, Floats) * 0.693147181f + (s + s) * p;
  Vec result;
  memcpy(&result, &y, sizeof(y));
  return result;
}

// Products of the even lanes, as 64 bits.
AITER_INLINE LongWords multiply_even(Words a, uint32_t b) {
#if AITER_ISA_LEVEL == 2
  return (LongWords)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi32(static_cast<int32_t>(b)));
#elif AITER_ISA_LEVEL == 1
  return (LongWords)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi32(static_cast<int32_t>(b)));
#else
  return ((LongWords)a & 0xffffffffu) * uint64_t{b};
#endif
}
struct Product {
  Words low, high;
};
AITER_INLINE Product multiply(Words a, uint32_t b) {
  const LongWords even = multiply_even(a, b), odd = multiply_even((Words)((LongWords)a >> 32), b);
  const LongWords lower = LongWords{} + 0xffffffffu;
  return {(Words)((even & lower) | odd << 32), (Words)(even >> 32 | (odd & ~lower))};
}

// Lanes of a and b by turns.
struct Zipped {
  Words low, high;
};
AITER_INLINE Zipped zip(Words a, Words b) {
#if AITER_ISA_LEVEL == 2
  return {
      __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
      __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)};
#else
  return {__builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11),
          __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)};
#endif
}

// Noise of the elements first to first + 4 * kLanes - 1, first a multiple of 4: element v is made of
// word v % 4 of block v / 4.
constexpr int kNoise = 4 * kLanes;
AITER_INLINE void exponentials(const Philox& random, int64_t first, Vec (&noise)[4]) {
  Words lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = static_cast<uint32_t>(i);
  Words c0 = Words{} + static_cast<uint32_t>(random.offset),
        c1 = Words{} + static_cast<uint32_t>(random.offset >> 32), c2 = Words{} + random.n,
        c3 = lane + static_cast<uint32_t>(first / 4);
  uint32_t k0 = static_cast<uint32_t>(random.seed), k1 = static_cast<uint32_t>(random.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const Product a = multiply(c0, 0xd2511f53u), b = multiply(c2, 0xcd9e8d57u);
    c0 = b.high ^ c1 ^ k0;
    c1 = b.low;
    c2 = a.high ^ c3 ^ k1;
    c3 = a.low;
    k0 += 0x9e3779b9u, k1 += 0xbb67ae85u;
  }
  const Zipped a = zip(c0, c2), b = zip(c1, c3);
  const Zipped low = zip(a.low, b.low), high = zip(a.high, b.high);
  noise[0] = exponential_of(low.low), noise[1] = exponential_of(low.high);
  noise[2] = exponential_of(high.low), noise[3] = exponential_of(high.high);
}

}  // namespace aiter::AITER_ISA
