// y = x w^T + bias, plain: a wave makes one column of y for up to kRows rows of x; its lanes share
// out k, so that w is read once for those rows. Sums are fp32.
#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "ck/gemm/gemm_narrow.h"
#include "ck/gemm/gemm_tiles.h"
#include "ops/gemm/gemm_a16w16/gemm_a16w16_args.h"

namespace aiter {

template <class T, bool kAligned>
AITER_DEVICE void gemm_a16w16(const GemmA16w16Args& a) {
  constexpr int kRows = GemmA16w16Args::kRows, N = kPackSize<T, kAligned>;
  const int lane = thread_index() % kWave, waves = block_threads() / kWave;
  const int64_t n = static_cast<int64_t>(block_index_x()) * waves + thread_index() / kWave;
  if (n >= a.n) return;
  const T* w = static_cast<const T*>(a.w) + n * a.w_stride;
  const int64_t row_step = static_cast<int64_t>(grid_blocks_y()) * kRows;
  for (int64_t m = static_cast<int64_t>(block_index_y()) * kRows; m < a.x_rows.count;
       m += row_step) {
    const int rows = static_cast<int>(min<int64_t>(kRows, a.x_rows.count - m));
    const T* x[kRows];
    float sums[kRows];
    AITER_UNROLL
    for (int r = 0; r < kRows; ++r) {
      x[r] = static_cast<const T*>(a.x) + a.x_rows.offset(m + (r < rows ? r : 0));
      sums[r] = 0;
    }
    for (int64_t k = lane * N; k < a.k; k += kWave * N) {
      float v[N];
      load_floats<N>(w + k, v);
      AITER_UNROLL
      for (int r = 0; r < kRows; ++r) {
        if (r >= rows) continue;
        float u[N];
        load_floats<N>(x[r] + k, u);
        AITER_UNROLL
        for (int i = 0; i < N; ++i) sums[r] = fma(u[i], v[i], sums[r]);
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

#define AITER_GEMM_A16W16(row, aligned, T)                                    \
  AITER_KERNEL(gemm_a16w16_##row##_##T, 256)(const aiter::GemmA16w16Args a) { \
    aiter::wait_for_previous_kernel();                                        \
    aiter::gemm_a16w16<aiter::T, aligned>(a);                                 \
  }
AITER_GEMM_A16W16(hip_vec, true, f32)
AITER_GEMM_A16W16(hip_vec, true, f16)
AITER_GEMM_A16W16(hip_vec, true, bf16)
AITER_GEMM_A16W16(hip_any, false, f32)
AITER_GEMM_A16W16(hip_any, false, f16)
AITER_GEMM_A16W16(hip_any, false, bf16)

#if !defined(AITER_AMD)
#define AITER_GEMM_NARROW(T, tiles)                                                       \
  AITER_KERNEL(gemm_a16w16_hip_narrow##tiles##_##T, 512)(const aiter::GemmA16w16Args a) { \
    AITER_DYNAMIC_SHARED(shared);                                                         \
    aiter::wait_for_previous_kernel();                                                    \
    aiter::gemm_narrow<aiter::T, tiles>(a, shared);                                       \
  }
#define AITER_GEMM_TILES(T, m, n, warps_m, warps_n, stages)                  \
  AITER_KERNEL(gemm_a16w16_hip_tiles##m##x##n##_##T, 32 * warps_m * warps_n) \
  (const aiter::GemmA16w16Args a) {                                          \
    AITER_DYNAMIC_SHARED(shared);                                            \
    aiter::wait_for_previous_kernel();                                       \
    using Tile = aiter::GemmTile<m, n, warps_m, warps_n, stages>;            \
    aiter::gemm_tiles<aiter::T, Tile>(a, shared);                            \
  }
#define AITER_GEMM_MMA(T)              \
  AITER_GEMM_NARROW(T, 1)              \
  AITER_GEMM_NARROW(T, 2)              \
  AITER_GEMM_TILES(T, 32, 32, 2, 2, 6) \
  AITER_GEMM_TILES(T, 64, 128, 2, 2, 4)
AITER_GEMM_MMA(f16)
AITER_GEMM_MMA(bf16)
#endif
