// What the attention rows of the CPU share: the mathematics of the softmax, and finding keys.
#pragma once

#include "ops/attention/attention_args.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {

// ---- mathematics --------------------------------------------------------------------------------

constexpr float kLog2E = 1.44269504f;
constexpr float kLn2 = 0.693147181f;
constexpr float kInf = __builtin_inff();

// 2^x for x <= 0: relative error 2e-7; 0 for -infinity; NaN stays NaN.
AITER_INLINE Vec exp2_of_negative(Vec x) {
  x = max(set1(-160.0f), x);
  const Vec n = round(x);
  const Vec r = x - n;
  Vec p = set1(0.00132647273f);
  p = fma(p, r, set1(0.00967151299f));
  p = fma(p, r, set1(0.0555073358f));
  p = fma(p, r, set1(0.240222424f));
  p = fma(p, r, set1(0.693147004f));
  p = fma(p, r, set1(1.0f));
  return scale_by_pow2(p, n);
}

// By e^(2x) - 1, which keeps the relative accuracy of small x.
AITER_INLINE Vec tanh(Vec x) {
  const Vec y = min(set1(20.0f), max(set1(-20.0f), x + x));
  const Vec n = round(y * set1(kLog2E));
  Vec r = fma(n, set1(-0.693359375f), y);
  r = fma(n, set1(2.12194440e-4f), r);
  Vec p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  p = fma(p * r, r, r);  // e^r - 1
  const Vec pow = scale_by_pow2(set1(1.0f), n);
  const Vec expm1 = fma(pow, p, pow - set1(1.0f));
  return expm1 / (expm1 + set1(2.0f));
}

AITER_INLINE float first_lane(Vec x) {
  float all[kLanes];
  store(all, x);
  return all[0];
}

#if AITER_ISA_LEVEL == 2
// Indices of vpermt2w that put 16-bit elements of two vectors in turns.
AITER_INLINE __m512i interleave_low() {
  const __m512i i = _mm512_cvtepu16_epi32(
      _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  return _mm512_add_epi32(_mm512_or_si512(i, _mm512_slli_epi32(i, 16)),
                          _mm512_set1_epi32(32 << 16));
}
AITER_INLINE __m512i interleave_high() {
  return _mm512_add_epi32(interleave_low(), _mm512_set1_epi32(16 << 16 | 16));
}
#endif

struct Denominator {
  float factor;  // of the sums over v
  float lse;
};

// From the largest score in base 2 and the sum of 2^(score - top), without the sink.
AITER_INLINE Denominator denominator(const AttentionArgs& a, int64_t head, float top, float sum) {
  float factor = 1;
  if (a.sink) {
    const float sink = a.sink[head] * kLog2E, before = top;
    top = sink > top ? sink : top;
    factor = before == top ? 1 : __builtin_exp2f(before - top);
    sum = sum * factor + __builtin_exp2f(sink - top);
  }
  if (sum == 0) return {0, -kInf};
  return {factor / sum, top * kLn2 + __builtin_logf(sum)};
}

// ---- rows ---------------------------------------------------------------------------------------

// Pointers to the rows of K and V of n keys from `first` on.
AITER_INLINE void find_rows(const AttentionArgs& a, const AttentionSequence& seq, int64_t b,
                            int64_t kv_head, int64_t first, int64_t n, const void** k,
                            const void** v) {
  const int64_t size = a.kv_dtype == DType::kF32 ? 4 : 2;
  const int64_t k_step = a.k_strides.token * size, v_step = a.v_strides.token * size;
  const char* k0 = static_cast<const char*>(a.k) + kv_head * a.k_strides.head * size;
  const char* v0 = static_cast<const char*>(a.v) + kv_head * a.v_strides.head * size;
  const int32_t* pages = nullptr;
  int64_t page = b, token = seq.k_begin + first, run = n;
  if (a.block_table) {
    pages = a.block_table + b * a.block_table_stride + first / a.block;
    page = *pages, token = first % a.block, run = a.block - token;
  }
  for (int64_t j = 0; j < n;) {
    const char* kr = k0 + page * a.k_strides.outer * size + token * k_step;
    const char* vr = v0 + page * a.v_strides.outer * size + token * v_step;
    for (; run > 0 && j < n; --run, ++j) {
      k[j] = kr, v[j] = vr;
      kr += k_step, vr += v_step;
    }
    if (j < n) page = *++pages, token = 0, run = a.block;
  }
}

// The element of q or out where a row begins, as an offset. b counts where sequences are dense.
AITER_INLINE int64_t row_offset(const AttentionArgs& a, const AttentionArgs::Strides& s, int64_t b,
                                int64_t token, int64_t head) {
  return (a.cu_seqlens_q ? 0 : b) * s.outer + token * s.token + head * s.head;
}

// Calls f(Constant<N>{}) with N = n, but at most kMax; n is at least 1.
template <int N>
struct Constant {};
template <int kMax, class F>
AITER_INLINE void with_constant(int64_t n, F&& f) {
  if constexpr (kMax > 1)
    if (n < kMax) return with_constant<kMax - 1>(n, f);
  f(Constant<kMax>{});
}

// Defined with flash_attn_varlen; one query a sequence is a case of it.
void attention_tiles(const AttentionArgs& a);
void attention_plain(const AttentionArgs& a);

}  // namespace aiter::AITER_ISA
