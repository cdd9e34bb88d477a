// Vectors of floats for the CPU rows: one source, compiled once per instruction set.
//
// Include it only from files that aiter_op() compiles per instruction set (<op>_cpu.cc and the
// headers they share). Everything is in the namespace aiter::AITER_ISA, so that no inline function
// compiled for one machine can be linked into code for another; for the same reason such files use
// no templates of the C++ library.
//
//   Vec                         kLanes floats
//   load(p), load_n(p, n)       from float, f16, bf16 (and int8/uint8): n < kLanes reads n, rest 0
//   store(p, v), store_n(p, v, n)   to float, f16, bf16 (round to nearest even)
//   stream(p, v)                past the caches; p aligned to the vector
//   load_pair<O>(p), store_pair<O>(p, v, streamed)   two vectors at once, their lanes in order or, where
//                               that is cheaper (bf16 on AVX-512), even ones first; see map_lanes
//   swap_pairs(v)               lanes 1 0 3 2 5 4 ...
//   deinterleave({v, w})        the even lanes of v and w, and the odd ones; interleave undoes it
//   + - * /  fma(a, b, c) = a * b + c   min max abs sqrt floor
//   exp (<= 2 ulp)  exp2 (<= 3 ulp, a third faster)  reduce_add reduce_max
//
// NaN: arithmetic keeps it; min(a, b) and max(a, b) return b when either is NaN.
#pragma once

#include <stdint.h>
#include <string.h>

#include "core/dtype.h"

#ifndef AITER_ISA
#error "compile this file through aiter_op(), which sets AITER_ISA"
#endif

#if AITER_ISA_LEVEL > 0
#include <immintrin.h>
#endif

#define AITER_INLINE inline __attribute__((always_inline))

namespace aiter::AITER_ISA {

// ---- scalars ------------------------------------------------------------------------------------

AITER_INLINE float to_float(float x) { return x; }
AITER_INLINE float to_float(bf16 x) { return __builtin_bit_cast(float, uint32_t{x.bits} << 16); }
AITER_INLINE float to_float(f16 x) {
  return static_cast<float>(__builtin_bit_cast(_Float16, x.bits));
}
AITER_INLINE float to_float(int8_t x) { return x; }
AITER_INLINE float to_float(uint8_t x) { return x; }

template <class T>
T from_float(float x);
template <>
AITER_INLINE float from_float<float>(float x) {
  return x;
}
template <>
AITER_INLINE bf16 from_float<bf16>(float x) {
  uint32_t u = __builtin_bit_cast(uint32_t, x);
  if (x != x) return bf16{static_cast<uint16_t>(u >> 16 | 0x40)};  // keep NaN a quiet NaN
  return bf16{static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
template <>
AITER_INLINE f16 from_float<f16>(float x) {
  return f16{__builtin_bit_cast(uint16_t, static_cast<_Float16>(x))};
}

// ---- AVX-512 ------------------------------------------------------------------------------------
#if AITER_ISA_LEVEL == 2

constexpr int kLanes = 16;
struct Vec {
  __m512 v;
};
struct Pair {
  Vec a, b;
};

AITER_INLINE __mmask16 lanes_mask(int n) { return static_cast<__mmask16>((1u << n) - 1); }

AITER_INLINE Vec set1(float x) { return {_mm512_set1_ps(x)}; }
AITER_INLINE Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
AITER_INLINE Vec load(const bf16* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16))};
}
AITER_INLINE Vec load(const f16* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
AITER_INLINE Vec load(const int8_t* p) {
  return {_mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
AITER_INLINE Vec load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(lanes_mask(n), p)}; }
AITER_INLINE Vec load_n(const bf16* p, int n) {
  return {_mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes_mask(n), p)), 16))};
}
AITER_INLINE Vec load_n(const f16* p, int n) {
  return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes_mask(n), p))};
}
AITER_INLINE Vec load_n(const int8_t* p, int n) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes_mask(n), p)))};
}
// vcvtneps2bf16 flushes denormals to zero; they take the slow way to be rounded like all others.
inline __attribute__((noinline)) __m256i to_bf16_slowly(__m512 x) {
  float from[16];
  bf16 to[16];
  memcpy(from, &x, sizeof(x));
  for (int i = 0; i < 16; ++i) to[i] = from_float<bf16>(from[i]);
  return __builtin_bit_cast(__m256i, to);
}
AITER_INLINE __m256i to_bf16(__m512 x) {
  if (__builtin_expect(_mm512_fpclass_ps_mask(x, 0x20) != 0, 0)) return to_bf16_slowly(x);
  return (__m256i)_mm512_cvtneps_pbh(x);
}
AITER_INLINE __m512i to_bf16(__m512 x, __m512 y) {
  const __mmask16 dx = _mm512_fpclass_ps_mask(x, 0x20), dy = _mm512_fpclass_ps_mask(y, 0x20);
  if (__builtin_expect(!_kortestz_mask16_u8(dx, dy), 0))
    return _mm512_inserti64x4(_mm512_castsi256_si512(to_bf16_slowly(x)), to_bf16_slowly(y), 1);
  return (__m512i)_mm512_cvtne2ps_pbh(y, x);
}
AITER_INLINE __m512i to_f16(__m512 x, __m512 y) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtps_ph(x, 0)), _mm512_cvtps_ph(y, 0),
                            1);
}
AITER_INLINE void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
AITER_INLINE void store(bf16* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16(a.v));
}
AITER_INLINE void store(f16* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, 0));
}
AITER_INLINE void store_n(float* p, Vec a, int n) { _mm512_mask_storeu_ps(p, lanes_mask(n), a.v); }
AITER_INLINE void store_n(bf16* p, Vec a, int n) {
  _mm256_mask_storeu_epi16(p, lanes_mask(n), to_bf16(a.v));
}
AITER_INLINE void store_n(f16* p, Vec a, int n) {
  _mm256_mask_storeu_epi16(p, lanes_mask(n), _mm512_cvtps_ph(a.v, 0));
}
AITER_INLINE void stream(float* p, Vec a) { _mm512_stream_ps(p, a.v); }
AITER_INLINE void write_line(void* p, __m512i line, bool streamed) {
  if (streamed)
    _mm512_stream_si512(static_cast<__m512i*>(p), line);
  else
    _mm512_storeu_si512(p, line);
}
AITER_INLINE void stream_fence() { _mm_sfence(); }

AITER_INLINE Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
AITER_INLINE Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
AITER_INLINE Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
AITER_INLINE Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
AITER_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
AITER_INLINE Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
AITER_INLINE Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
AITER_INLINE Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
AITER_INLINE Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
AITER_INLINE Vec round(Vec a) { return {_mm512_roundscale_ps(a.v, 0)}; }
AITER_INLINE Vec floor(Vec a) { return {_mm512_roundscale_ps(a.v, 9)}; }
AITER_INLINE Vec swap_pairs(Vec a) { return {_mm512_permute_ps(a.v, 0xb1)}; }
AITER_INLINE Pair deinterleave(Pair p) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  return {{_mm512_permutex2var_ps(p.a.v, even, p.b.v)},
          {_mm512_permutex2var_ps(p.a.v, odd, p.b.v)}};
}
AITER_INLINE Pair interleave(Pair p) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  return {{_mm512_permutex2var_ps(p.a.v, low, p.b.v)},
          {_mm512_permutex2var_ps(p.a.v, high, p.b.v)}};
}
AITER_INLINE float reduce_add(Vec a) { return _mm512_reduce_add_ps(a.v); }
AITER_INLINE float reduce_max(Vec a) { return _mm512_reduce_max_ps(a.v); }
// a * 2^n for integral n; over- and underflow as in IEEE.
AITER_INLINE Vec scale_by_pow2(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }
// a where a < b is false, else c
AITER_INLINE Vec select_lt(Vec a, Vec b, Vec if_less, Vec otherwise) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), otherwise.v, if_less.v)};
}

// ---- AVX2 ---------------------------------------------------------------------------------------
#elif AITER_ISA_LEVEL == 1

constexpr int kLanes = 8;
struct Vec {
  __m256 v;
};
struct Pair {
  Vec a, b;
};

AITER_INLINE __m256i lanes_mask(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

AITER_INLINE Vec set1(float x) { return {_mm256_set1_ps(x)}; }
AITER_INLINE Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
AITER_INLINE Vec load(const bf16* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16))};
}
AITER_INLINE Vec load(const f16* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
AITER_INLINE Vec load(const int8_t* p) {
  return {_mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
}
AITER_INLINE Vec load_n(const float* p, int n) { return {_mm256_maskload_ps(p, lanes_mask(n))}; }
template <class T>
AITER_INLINE Vec load_n(const T* p, int n) {
  T whole[kLanes] = {};
  memcpy(whole, p, n * sizeof(T));
  return load(whole);
}
AITER_INLINE __m128i to_bf16(__m256 x) {
  __m256i u = _mm256_castps_si256(x);
  __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
  __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  r = _mm256_srli_epi32(_mm256_blendv_epi8(r, quiet, nan), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}
AITER_INLINE void store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
AITER_INLINE void store(bf16* p, Vec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_bf16(a.v));
}
AITER_INLINE void store(f16* p, Vec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.v, 0));
}
AITER_INLINE void store_n(float* p, Vec a, int n) { _mm256_maskstore_ps(p, lanes_mask(n), a.v); }
template <class T>
AITER_INLINE void store_n(T* p, Vec a, int n) {
  T whole[kLanes];
  store(whole, a);
  memcpy(p, whole, n * sizeof(T));
}
AITER_INLINE void stream(float* p, Vec a) { _mm256_stream_ps(p, a.v); }
AITER_INLINE void stream(bf16* p, Vec a) {
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), to_bf16(a.v));
}
AITER_INLINE void stream(f16* p, Vec a) {
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.v, 0));
}
AITER_INLINE void stream_fence() { _mm_sfence(); }

AITER_INLINE Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
AITER_INLINE Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
AITER_INLINE Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
AITER_INLINE Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
AITER_INLINE Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
AITER_INLINE Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
AITER_INLINE Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
AITER_INLINE Vec abs(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
AITER_INLINE Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
AITER_INLINE Vec round(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | 8)}; }
AITER_INLINE Vec floor(Vec a) { return {_mm256_floor_ps(a.v)}; }
AITER_INLINE Vec swap_pairs(Vec a) { return {_mm256_permute_ps(a.v, 0xb1)}; }
AITER_INLINE Pair deinterleave(Pair p) {
  auto in_order = [](__m256 v) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8));
  };
  return {{in_order(_mm256_shuffle_ps(p.a.v, p.b.v, 0x88))},
          {in_order(_mm256_shuffle_ps(p.a.v, p.b.v, 0xdd))}};
}
AITER_INLINE Pair interleave(Pair p) {
  const __m256 low = _mm256_unpacklo_ps(p.a.v, p.b.v), high = _mm256_unpackhi_ps(p.a.v, p.b.v);
  return {{_mm256_permute2f128_ps(low, high, 0x20)}, {_mm256_permute2f128_ps(low, high, 0x31)}};
}
AITER_INLINE float reduce_add(Vec a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
AITER_INLINE float reduce_max(Vec a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
AITER_INLINE Vec scale_by_pow2(Vec a, Vec n) {
  // Two factors, so that results down to the denormals and up to infinity come out right.
  __m256i i = _mm256_cvtps_epi32(n.v);
  __m256i half = _mm256_srai_epi32(i, 1);
  auto pow2 = [](__m256i e) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
  };
  return {_mm256_mul_ps(_mm256_mul_ps(a.v, pow2(half)), pow2(_mm256_sub_epi32(i, half)))};
}
AITER_INLINE Vec select_lt(Vec a, Vec b, Vec if_less, Vec otherwise) {
  return {_mm256_blendv_ps(otherwise.v, if_less.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
}

// ---- portable: the compiler's own vectors -------------------------------------------------------
#else

constexpr int kLanes = 8;
typedef float FloatV __attribute__((vector_size(32)));
typedef int32_t IntV __attribute__((vector_size(32)));
struct Vec {
  FloatV v;
};
struct Pair {
  Vec a, b;
};

AITER_INLINE Vec set1(float x) { return {FloatV{x, x, x, x, x, x, x, x}}; }  // -0 too
template <class T>
AITER_INLINE Vec load_n(const T* p, int n) {
  Vec r{};
  for (int i = 0; i < n && i < kLanes; ++i) r.v[i] = to_float(p[i]);
  return r;
}
template <class T>
AITER_INLINE Vec load(const T* p) {
  return load_n(p, kLanes);
}
AITER_INLINE Vec load(const float* p) {
  Vec r;
  memcpy(&r.v, p, sizeof(r.v));
  return r;
}
template <class T>
AITER_INLINE void store_n(T* p, Vec a, int n) {
  for (int i = 0; i < n && i < kLanes; ++i) p[i] = from_float<T>(a.v[i]);
}
template <class T>
AITER_INLINE void store(T* p, Vec a) {
  store_n(p, a, kLanes);
}
AITER_INLINE void store(float* p, Vec a) { memcpy(p, &a.v, sizeof(a.v)); }
template <class T>
AITER_INLINE void stream(T* p, Vec a) {
  store(p, a);
}
AITER_INLINE void stream_fence() {}

AITER_INLINE Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
AITER_INLINE Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
AITER_INLINE Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
AITER_INLINE Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
AITER_INLINE Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
AITER_INLINE Vec min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }
AITER_INLINE Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
AITER_INLINE Vec abs(Vec a) {
  return {reinterpret_cast<FloatV>(reinterpret_cast<IntV>(a.v) & 0x7fffffff)};
}
AITER_INLINE Vec sqrt(Vec a) {
  for (int i = 0; i < kLanes; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
  return a;
}
AITER_INLINE Vec round(Vec a) {
  for (int i = 0; i < kLanes; ++i) a.v[i] = __builtin_rintf(a.v[i]);
  return a;
}
AITER_INLINE Vec floor(Vec a) {
  for (int i = 0; i < kLanes; ++i) a.v[i] = __builtin_floorf(a.v[i]);
  return a;
}
AITER_INLINE Vec swap_pairs(Vec a) {
  return {__builtin_shufflevector(a.v, a.v, 1, 0, 3, 2, 5, 4, 7, 6)};
}
AITER_INLINE Pair deinterleave(Pair p) {
  return {{__builtin_shufflevector(p.a.v, p.b.v, 0, 2, 4, 6, 8, 10, 12, 14)},
          {__builtin_shufflevector(p.a.v, p.b.v, 1, 3, 5, 7, 9, 11, 13, 15)}};
}
AITER_INLINE Pair interleave(Pair p) {
  return {{__builtin_shufflevector(p.a.v, p.b.v, 0, 8, 1, 9, 2, 10, 3, 11)},
          {__builtin_shufflevector(p.a.v, p.b.v, 4, 12, 5, 13, 6, 14, 7, 15)}};
}
AITER_INLINE float reduce_add(Vec a) {
  float s = 0;
  for (int i = 0; i < kLanes; ++i) s += a.v[i];
  return s;
}
AITER_INLINE float reduce_max(Vec a) {
  float s = a.v[0];
  for (int i = 1; i < kLanes; ++i) s = s > a.v[i] ? s : a.v[i];
  return s;
}
AITER_INLINE Vec scale_by_pow2(Vec a, Vec n) {
  IntV i = __builtin_convertvector(n.v, IntV);
  IntV half = i >> 1;
  auto pow2 = [](IntV e) { return reinterpret_cast<FloatV>((e + 127) << 23); };
  return {a.v * pow2(half) * pow2(i - half)};
}
AITER_INLINE Vec select_lt(Vec a, Vec b, Vec if_less, Vec otherwise) {
  return {a.v < b.v ? if_less.v : otherwise.v};
}
#endif

// ---- the same for all ---------------------------------------------------------------------------

AITER_INLINE Vec zero() { return set1(0.0f); }
AITER_INLINE Vec operator-(Vec a) { return set1(-0.0f) - a; }

// e^x, <= 2 ulp; 0 and infinity at the ends, NaN stays NaN.
AITER_INLINE Vec exp(Vec x) {
  const Vec bounded = min(set1(89.0f), max(set1(-104.0f), x));  // NaN passes through both
  const Vec n = round(bounded * set1(1.44269504088896341f));
  Vec r = fma(n, set1(-0.693359375f), bounded);
  r = fma(n, set1(2.12194440e-4f), r);
  Vec p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  p = fma(p * r, r, r) + set1(1.0f);
  return scale_by_pow2(p, n);
}

// 2^x, <= 3 ulp; 0 and infinity at the ends, NaN stays NaN.
AITER_INLINE Vec exp2(Vec x) {
#if AITER_ISA_LEVEL == 2
  const Vec f{_mm512_reduce_ps(x.v, 9)};  // x - floor(x), 0 for infinity; scalef floors by itself
#else
  x = min(set1(129.0f), max(set1(-150.0f), x));  // NaN passes through both
  const Vec n = floor(x), f = x - n;
  x = n;
#endif
  Vec p = set1(0.0018671300495043397f);
  p = fma(p, f, set1(0.009017030708491802f));
  p = fma(p, f, set1(0.05579991266131401f));
  p = fma(p, f, set1(0.24016444385051727f));
  p = fma(p, f, set1(0.6931512951850891f));
  p = fma(p, f, set1(1.0f));
  return scale_by_pow2(p, x);
}

AITER_INLINE Vec sigmoid(Vec x) { return set1(1.0f) / (set1(1.0f) + exp(-x)); }

// Calls f(index, n): whole vectors with n = kLanes (a constant after inlining), then the tail.
template <class F>
AITER_INLINE void for_lanes(int64_t count, F&& f) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) f(i, kLanes);
  if (i < count) f(i, static_cast<int>(count - i));
}
template <class T>
AITER_INLINE Vec load_some(const T* p, int n) {
  return n == kLanes ? load(p) : load_n(p, n);
}
template <class T>
AITER_INLINE void store_some(T* p, Vec v, int n) {
  if (n == kLanes)
    store(p, v);
  else
    store_n(p, v, n);
}

// v as it comes back from an array of T.
template <class T>
AITER_INLINE Vec rounded(Vec v) {
  T stored[kLanes];
  store(stored, v);
  return load(stored);
}
template <>
AITER_INLINE Vec rounded<float>(Vec v) {
  return v;
}

// Two vectors of neighbouring elements. kEvenFirst: a has the even, b the odd ones.
template <bool kEvenFirst, class T>
AITER_INLINE Pair load_pair(const T* p) {
  return {load(p), load(p + kLanes)};
}
// p is aligned to 64 bytes when streamed (past the caches).
template <bool kEvenFirst, class T>
AITER_INLINE void store_pair(T* p, Pair v, bool streamed) {
#if AITER_ISA_LEVEL == 2
  if constexpr (__is_same(T, bf16)) {
    write_line(p, to_bf16(v.a.v, v.b.v), streamed);
  } else if constexpr (__is_same(T, f16)) {
    write_line(p, to_f16(v.a.v, v.b.v), streamed);
  } else
#endif
  {
    if (streamed)
      stream(p, v.a), stream(p + kLanes, v.b);
    else
      store(p, v.a), store(p + kLanes, v.b);
  }
}
#if AITER_ISA_LEVEL == 2
// bf16 are the upper halves of floats: a shift gives the even ones, a mask the odd ones.
template <>
AITER_INLINE Pair load_pair<true, bf16>(const bf16* p) {
  const __m512i both = _mm512_loadu_si512(p), odd = _mm512_set1_epi32(-65536);
  return {{_mm512_castsi512_ps(_mm512_slli_epi32(both, 16))},
          {_mm512_castsi512_ps(_mm512_and_si512(both, odd))}};
}
template <>
AITER_INLINE void store_pair<true, bf16>(bf16* p, Pair v, bool streamed) {
  alignas(64) static constexpr uint16_t kZip[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                    21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                    11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i zip = _mm512_load_si512(kZip);
  write_line(p, _mm512_permutexvar_epi16(zip, to_bf16(v.a.v, v.b.v)), streamed);
}
#endif

// Pointer-like: one number, at every index.
template <class T>
struct Repeated {
  Vec number;
  AITER_INLINE Repeated operator+(int64_t) const { return *this; }
};
template <class T>
AITER_INLINE Vec load_some(Repeated<T> x, int) {
  return x.number;
}
template <bool kEvenFirst, class T>
AITER_INLINE Pair load_pair(Repeated<T> x) {
  return {x.number, x.number};
}
template <class X>
struct ElementOf;
template <class T>
struct ElementOf<T*> {
  typedef T Type;
};
template <class T>
struct ElementOf<const T*> {
  typedef T Type;
};
template <class T>
struct ElementOf<Repeated<T>> {
  typedef T Type;
};

// Lanes keep their place as long as all arrays of an expression have the same order.
template <class... T>
inline constexpr bool kAllBf16 = (__is_same(T, bf16) && ...);

// y[i] = f(x[i]...), for vectors of floats: f(Vec...) -> Vec, called in any order. `streamed` writes
// past the caches (see simd/cache.h); y must then be aligned to its elements. ahead(i) is called
// before every kAhead elements, to prefetch as many of a later row.
constexpr int kAhead = 8 * kLanes;  // prefetches in bursts keep the memory busy, single ones do not
template <class Y, class F, class Ahead, class... X>
AITER_INLINE void map_lanes(Y* y, int64_t count, bool streamed, F&& f, Ahead&& ahead, X... x) {
  constexpr bool kEvenFirst = kAllBf16<Y, typename ElementOf<X>::Type...>;
  int64_t i = 0;
  auto up_to = [&](int64_t end) {
    while (i < end) {
      const int n = end - i < kLanes ? static_cast<int>(end - i) : kLanes;
      store_some(y + i, f(load_some(x + i, n)...), n);
      i += n;
    }
  };
  if (streamed) {
    const int64_t aligned = -reinterpret_cast<uintptr_t>(y) % 64 / sizeof(Y);
    up_to(aligned < count ? aligned : count);
  }
  while (i + 2 * kLanes <= count) {
    ahead(i);
    const int64_t end = count - i < kAhead ? count : i + kAhead;
    for (; i + 2 * kLanes <= end; i += 2 * kLanes) {
      auto each = [&](auto... pair) { return Pair{f(pair.a...), f(pair.b...)}; };
      store_pair<kEvenFirst>(y + i, each(load_pair<kEvenFirst>(x + i)...), streamed);
    }
  }
  up_to(count);
}

struct NothingAhead {
  AITER_INLINE void operator()(int64_t) const {}
};

// kAgain: the elements are read more than once.
template <bool kAgain, class T>
AITER_INLINE void prefetch(const T* p, int elements) {
  const int bytes = elements * static_cast<int>(sizeof(T));
  for (int at = 0; at < bytes; at += 64)
    __builtin_prefetch(reinterpret_cast<const char*>(p) + at, 0, kAgain ? 3 : 0);
  asm volatile("");  // else gcc takes callers for functions without effect and drops them
}

// Which row of [begin, end) to prefetch while computing row r, or -1: the hardware loses its track at
// the seams of short rows, and reads nothing while a second pass is under way.
AITER_INLINE int64_t row_ahead(int64_t r, int64_t begin, int64_t end, int64_t row_bytes) {
  if (row_bytes > 65536 || (end - begin) * row_bytes < 1 << 20) return -1;  // long; cached anyway
  const int64_t ahead = r + 1 + 4096 / (row_bytes + 1);
  return ahead < end ? ahead : -1;
}

// Calls f(k, x[i]...) for all vectors of floats, in any order and filled up with zeros; k is 0 to 3 in
// turns, so that sums can be kept in four parts.
template <class F, class... X>
AITER_INLINE void each_lanes(int64_t count, F&& f, const X*... x) {
  constexpr bool kEvenFirst = kAllBf16<X...>;
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    auto each = [&](int k, auto... pair) { f(k, pair.a...), f(k + 1, pair.b...); };
    each(0, load_pair<kEvenFirst>(x + i)...);
    each(2, load_pair<kEvenFirst>(x + i + 2 * kLanes)...);
  }
  for_lanes(count - i, [&](int64_t j, int n) { f(0, load_some(x + i + j, n)...); });
}

// Calls f(T{}) with the C++ type of a float dtype.
template <class F>
AITER_INLINE void with_float_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32:
      return f(float{});
    case DType::kF16:
      return f(f16{});
    case DType::kBF16:
      return f(bf16{});
    default:
      return;
  }
}

}  // namespace aiter::AITER_ISA
