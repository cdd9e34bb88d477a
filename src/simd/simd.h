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
//   stream(p, v)                store that bypasses the caches; p aligned to kLanes elements
//   swap_pairs(v)               lanes 1 0 3 2 5 4 ...
//   + - * /  fma(a, b, c) = a * b + c   min max abs sqrt  exp (<= 2 ulp)  reduce_add reduce_max
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
AITER_INLINE Vec load_n(const float* p, int n) {
  return {_mm512_maskz_loadu_ps(lanes_mask(n), p)};
}
AITER_INLINE Vec load_n(const bf16* p, int n) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(
      _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes_mask(n), p)), 16))};
}
AITER_INLINE Vec load_n(const f16* p, int n) {
  return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes_mask(n), p))};
}
AITER_INLINE Vec load_n(const int8_t* p, int n) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes_mask(n), p)))};
}
// vcvtneps2bf16 flushes denormals to zero; this rounds them like every other value.
AITER_INLINE __m256i to_bf16(__m512 x) {
  __m512i u = _mm512_castps_si512(x);
  __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
  __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  r = _mm512_mask_or_epi32(r, nan, u, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16));
}
AITER_INLINE void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
AITER_INLINE void store(bf16* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bf16(a.v));
}
AITER_INLINE void store(f16* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, 0));
}
AITER_INLINE void store_n(float* p, Vec a, int n) {
  _mm512_mask_storeu_ps(p, lanes_mask(n), a.v);
}
AITER_INLINE void store_n(bf16* p, Vec a, int n) {
  _mm256_mask_storeu_epi16(p, lanes_mask(n), to_bf16(a.v));
}
AITER_INLINE void store_n(f16* p, Vec a, int n) {
  _mm256_mask_storeu_epi16(p, lanes_mask(n), _mm512_cvtps_ph(a.v, 0));
}
AITER_INLINE void stream(float* p, Vec a) { _mm512_stream_ps(p, a.v); }
AITER_INLINE void stream(bf16* p, Vec a) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), to_bf16(a.v));
}
AITER_INLINE void stream(f16* p, Vec a) {
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a.v, 0));
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
AITER_INLINE Vec swap_pairs(Vec a) { return {_mm512_permute_ps(a.v, 0xb1)}; }
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
AITER_INLINE Vec swap_pairs(Vec a) { return {_mm256_permute_ps(a.v, 0xb1)}; }
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
AITER_INLINE Vec swap_pairs(Vec a) {
  return {__builtin_shufflevector(a.v, a.v, 1, 0, 3, 2, 5, 4, 7, 6)};
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

// p[i] = f(i, n) for whole vectors and the tail, as in for_lanes. `streamed` bypasses the caches
// (see simd/cache.h); p must then be aligned to its elements.
template <class T, class F>
AITER_INLINE void write_lanes(T* p, int64_t count, bool streamed, F&& f) {
  int64_t i = 0;
  if (streamed) {
    const uintptr_t past = reinterpret_cast<uintptr_t>(p) % (kLanes * sizeof(T)) / sizeof(T);
    if (past) {
      i = kLanes - past < static_cast<uint64_t>(count) ? kLanes - past : count;
      store_n(p, f(int64_t{0}, static_cast<int>(i)), static_cast<int>(i));
    }
    for (; i + kLanes <= count; i += kLanes) stream(p + i, f(i, kLanes));
  } else {
    for (; i + kLanes <= count; i += kLanes) store(p + i, f(i, kLanes));
  }
  if (i < count) store_n(p + i, f(i, static_cast<int>(count - i)), static_cast<int>(count - i));
}

// Calls f(T{}) with the C++ type of a float dtype.
template <class F>
AITER_INLINE void with_float_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32: return f(float{});
    case DType::kF16: return f(f16{});
    case DType::kBF16: return f(bf16{});
    default: return;
  }
}

}  // namespace aiter::AITER_ISA
