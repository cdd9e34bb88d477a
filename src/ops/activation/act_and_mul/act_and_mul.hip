// A block works on a piece of one row: a pack of gates, the same of ups, one of results at a time.
#include "ck/activation/gated.h"
#include "ck/activation/gated_plain.h"
#include "ops/activation/act_and_mul/act_and_mul_args.h"

namespace aiter {

template <class X, class Y, bool kAligned>
AITER_DEVICE void act_and_mul(const ActAndMulArgs& a) {
  constexpr int N = kPackSize<X, kAligned>;
  constexpr int kPacks = ActAndMulArgs::kPacks;
  const int threads = block_threads();
  const int64_t piece = static_cast<int64_t>(threads) * N * kPacks;
  const int64_t pieces = (a.d + piece - 1) / piece;  // of a row
  const int64_t row_step = grid_blocks();
  for (int64_t r = block_index_x(); r < a.x_rows.count; r += row_step) {
    const X* x = static_cast<const X*>(a.x) + a.x_rows.offset(r);
    Y* y = static_cast<Y*>(a.y) + a.y_rows.offset(r);
    const float* bias;
    const bool known = find_bias(a, r, bias);
    for (int64_t p = block_index_y(); p < pieces; p += grid_blocks_y()) {
      GateUp<N> v[kPacks];
      AITER_UNROLL
      for (int c = 0; c < kPacks; ++c) {
        const int64_t i = p * piece + (static_cast<int64_t>(c) * threads + thread_index()) * N;
        if (i < a.d) v[c].load(x, a, i);
      }
      AITER_UNROLL
      for (int c = 0; c < kPacks; ++c) {
        const int64_t i = p * piece + (static_cast<int64_t>(c) * threads + thread_index()) * N;
        if (i < a.d) {
          float result[N] = {};
          if (known) activate<X>(a, v[c], bias, r, i, result);
          store_floats<N>(y + i, result);
        }
      }
    }
  }
}

}  // namespace aiter

#define AITER_ACT_AND_MUL(row, aligned, X, Y)                                      \
  AITER_KERNEL(act_and_mul_##row##_##X##_##Y, 256)(const aiter::ActAndMulArgs a) { \
    aiter::wait_for_previous_kernel();                                             \
    aiter::act_and_mul<aiter::X, aiter::Y, aligned>(a);                            \
  }
#define AITER_GATED_PLAIN(X, Y)                      \
  AITER_KERNEL(act_and_mul_hip_plain_##X##_##Y, 256) \
  (const aiter::ActAndMulPlainArgs a) {              \
    aiter::wait_for_previous_kernel();               \
    aiter::gated_plain<aiter::X, aiter::Y>(a);       \
  }
#define AITER_ACT_AND_MUL_TYPES(row, aligned) \
  AITER_ACT_AND_MUL(row, aligned, f32, f32)   \
  AITER_ACT_AND_MUL(row, aligned, f32, f16)   \
  AITER_ACT_AND_MUL(row, aligned, f32, bf16)  \
  AITER_ACT_AND_MUL(row, aligned, f16, f16)   \
  AITER_ACT_AND_MUL(row, aligned, bf16, bf16)
AITER_GATED_PLAIN(f32, f32)
AITER_GATED_PLAIN(f32, f16)
AITER_GATED_PLAIN(f32, bf16)
AITER_GATED_PLAIN(f16, f16)
AITER_GATED_PLAIN(bf16, bf16)
AITER_ACT_AND_MUL_TYPES(hip_vec, true)
AITER_ACT_AND_MUL_TYPES(hip_any, false)
