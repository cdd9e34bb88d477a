// y = x w^T + bias for weights of 4 or 8 bits in groups of 32: a wave makes one column of y for up to
// kRows rows of x. Its lanes take a group of w each at a time, so that w is read once for those rows,
// in whole vectors. x and the sums are fp32.
#pragma once

#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "ck/gemm/group_narrow.h"
#include "ops/gemm/group_gemm.h"

namespace aiter {

// The codes of a group as floats, without scale and minimum.
template <int kBits, bool kAligned>
AITER_DEVICE void load_codes(const uint8_t* codes, float (&to)[kGroup]) {
  if constexpr (kBits == 4) {
    uint8_t bytes[16];
    if (kAligned) {
      const auto words = *reinterpret_cast<const Words4*>(codes);
      __builtin_memcpy(bytes, &words, 16);
    } else {
      AITER_UNROLL
      for (int i = 0; i < 16; ++i) bytes[i] = codes[i];
    }
    AITER_UNROLL
    for (int i = 0; i < 16; ++i) {
      to[2 * i] = static_cast<float>(bytes[i] & 15);
      to[2 * i + 1] = static_cast<float>(bytes[i] >> 4);
    }
  } else {
    int8_t bytes[32];
    if (kAligned) {
      const auto* words = reinterpret_cast<const Words4*>(codes);
      __builtin_memcpy(bytes, words, 16);
      __builtin_memcpy(bytes + 16, words + 1, 16);
    } else {
      AITER_UNROLL
      for (int i = 0; i < 32; ++i) bytes[i] = static_cast<int8_t>(codes[i]);
    }
    AITER_UNROLL
    for (int i = 0; i < 32; ++i) to[i] = static_cast<float>(bytes[i]);
  }
}

template <int kBits, class X, bool kAligned>
AITER_DEVICE void group_gemm(const GroupGemmArgs& a) {
  constexpr int kRows = kGroupGemmRows, kBytes = kGroup * kBits / 8;
  constexpr int N = kPackSize<X, kAligned>;
  const GroupWeight& w = a.w;
  const int lane = thread_index() % kWave;
  const int waves = block_threads() / kWave;
  const int64_t n = static_cast<int64_t>(block_index_x()) * waves + thread_index() / kWave;
  if (n >= w.n) return;
  const uint8_t* codes = w.codes + n * w.codes_stride;
  const int64_t groups = w.k / kGroup;
  const int64_t row_step = static_cast<int64_t>(grid_blocks_y()) * kRows;
  for (int64_t m = static_cast<int64_t>(block_index_y()) * kRows; m < a.x_rows.count;
       m += row_step) {
    const int rows = static_cast<int>(min<int64_t>(kRows, a.x_rows.count - m));
    const X* x[kRows];
    float sums[kRows];
    AITER_UNROLL
    for (int r = 0; r < kRows; ++r) {
      x[r] = static_cast<const X*>(a.x) + a.x_rows.offset(m + (r < rows ? r : 0));
      sums[r] = 0;
    }
    for (int64_t g = lane; g < groups; g += kWave) {
      float c[kGroup];
      load_codes<kBits, kAligned>(codes + g * kBytes, c);
      const float scale = load_float(w.scale, n * w.scale_stride + g, w.scale_dtype);
      const float least = w.min ? load_float(w.min, n * w.min_stride + g, w.scale_dtype) : 0.0f;
      AITER_UNROLL
      for (int i = 0; i < kGroup; ++i) c[i] = fma(c[i], scale, least);
      AITER_UNROLL
      for (int r = 0; r < kRows; ++r) {
        if (r >= rows) continue;
        AITER_UNROLL
        for (int i = 0; i < kGroup; i += N) {
          float v[N];
          load_floats<N>(x[r] + g * kGroup + i, v);
          AITER_UNROLL
          for (int k = 0; k < N; ++k) sums[r] = fma(v[k], c[i + k], sums[r]);
        }
      }
    }
    AITER_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (r >= rows) continue;
      float y = wave_reduce<Sum>(sums[r]);
      if (a.bias) y += load_float(a.bias, n, a.bias_dtype);
      if (lane == 0) store_float(a.y, a.y_rows.offset(m + r) + n, a.y_dtype, y);
    }
  }
}

}  // namespace aiter

#define AITER_GROUP_GEMM(op, bits, row, aligned, X)                   \
  AITER_KERNEL(op##_##row##_##X, 256)(const aiter::GroupGemmArgs a) { \
    aiter::wait_for_previous_kernel();                                \
    aiter::group_gemm<bits, aiter::X, aligned>(a);                    \
  }
#if defined(AITER_AMD)
#define AITER_GROUP_NARROW_KERNELS(op, bits)
#else
#define AITER_GROUP_NARROW(op, bits, X, tiles)                                    \
  AITER_KERNEL(op##_hip_narrow##tiles##_##X, 256)(const aiter::GroupGemmArgs a) { \
    AITER_DYNAMIC_SHARED(shared);                                                 \
    aiter::wait_for_previous_kernel();                                            \
    aiter::GroupNarrow<bits, aiter::X, tiles>(a, shared).run(shared);             \
  }
#define AITER_GROUP_NARROW_KERNELS(op, bits) \
  AITER_GROUP_NARROW(op, bits, f16, 1)       \
  AITER_GROUP_NARROW(op, bits, f16, 4)       \
  AITER_GROUP_NARROW(op, bits, bf16, 1)      \
  AITER_GROUP_NARROW(op, bits, bf16, 4)
#endif
#define AITER_GROUP_GEMM_KERNELS(op, bits)        \
  AITER_GROUP_NARROW_KERNELS(op, bits)            \
  AITER_GROUP_GEMM(op, bits, hip_vec, true, f32)  \
  AITER_GROUP_GEMM(op, bits, hip_vec, true, f16)  \
  AITER_GROUP_GEMM(op, bits, hip_vec, true, bf16) \
  AITER_GROUP_GEMM(op, bits, hip_any, false, f32) \
  AITER_GROUP_GEMM(op, bits, hip_any, false, f16) \
  AITER_GROUP_GEMM(op, bits, hip_any, false, bf16)
