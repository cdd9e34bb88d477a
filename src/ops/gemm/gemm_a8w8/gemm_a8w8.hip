// y = (x w^T) * x_scale * w_scale + bias: a wave makes one column of y for up to kRows rows of x; its
// lanes share out k, so that w is read once for those rows. Sums are exact.
#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "ops/gemm/gemm_a8w8/gemm_a8w8_args.h"

namespace aiter {

template <bool kAligned>
AITER_DEVICE void gemm_a8w8(const GemmA8w8Args& a) {
  constexpr int kRows = GemmA8w8Args::kRows, N = kAligned ? 16 : 1;  // bytes of a lane at a time
  const int lane = thread_index() % kWave, waves = block_threads() / kWave;
  const int64_t n = static_cast<int64_t>(block_index_x()) * waves + thread_index() / kWave;
  if (n >= a.n) return;
  const int8_t* w = a.w + n * a.w_stride;
  const int64_t row_step = static_cast<int64_t>(grid_blocks_y()) * kRows;
  for (int64_t m = static_cast<int64_t>(block_index_y()) * kRows; m < a.x_rows.count;
       m += row_step) {
    const int rows = static_cast<int>(min<int64_t>(kRows, a.x_rows.count - m));
    const int8_t* x[kRows];
    int32_t sums[kRows] = {};
    AITER_UNROLL
    for (int r = 0; r < kRows; ++r) x[r] = a.x + a.x_rows.offset(m + (r < rows ? r : 0));
    for (int64_t k = lane * N; k < a.k; k += kWave * N) {
      if constexpr (kAligned) {
        const auto v = *reinterpret_cast<const Words4*>(w + k);
        AITER_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const auto u = *reinterpret_cast<const Words4*>(x[r] + k);
          sums[r] = dot4(u.w, v.w, dot4(u.z, v.z, dot4(u.y, v.y, dot4(u.x, v.x, sums[r]))));
        }
      } else {
        AITER_UNROLL
        for (int r = 0; r < kRows; ++r) sums[r] += x[r][k] * w[k];
      }
    }
    AITER_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if (r >= rows) continue;
      float y = static_cast<float>(wave_reduce<Sum>(sums[r])) * a.x_scale[m + r] * a.w_scale[n];
      if (a.bias) y += load_float(a.bias, n, a.bias_dtype);
      if (lane == 0) store_float(a.y, a.y_rows.offset(m + r) + n, a.y_dtype, y);
    }
  }
}

}  // namespace aiter

AITER_KERNEL(gemm_a8w8_hip_vec, 256)(const aiter::GemmA8w8Args a) {
  aiter::wait_for_previous_kernel();
  aiter::gemm_a8w8<true>(a);
}
AITER_KERNEL(gemm_a8w8_hip_any, 256)(const aiter::GemmA8w8Args a) {
  aiter::wait_for_previous_kernel();
  aiter::gemm_a8w8<false>(a);
}
