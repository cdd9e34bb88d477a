// A thread makes a pack of gradients of gates and one of ups.
#include "ck/activation/gated.h"
#include "ops/activation/act_and_mul_backward/act_and_mul_backward_args.h"

namespace aiter {

template <class X, class Y, bool kAligned>
AITER_DEVICE void act_and_mul_backward(const ActAndMulBackwardArgs& a) {
  constexpr int N = kPackSize<X, kAligned>;
  const int64_t row_step = grid_blocks();
  const int64_t step = static_cast<int64_t>(grid_blocks_y()) * block_threads() * N;
  const int64_t first =
      (static_cast<int64_t>(block_index_y()) * block_threads() + thread_index()) * N;
  for (int64_t r = block_index_x(); r < a.x_rows.count; r += row_step) {
    const X* x = static_cast<const X*>(a.x) + a.x_rows.offset(r);
    const Y* dy = static_cast<const Y*>(a.dy) + a.dy_rows.offset(r);
    X* dx = static_cast<X*>(a.dx) + a.dx_rows.offset(r);
    for (int64_t i = first; i < a.d; i += step) {
      GateUp<N> v;
      float g[N];
      v.load(x, a, i);
      load_floats<N>(dy + i, g);
      v.separate(a);
      with_activation(a.activation, [&] AITER_LAMBDA(auto activation) {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) {
          const float gate_in = min(v.gate[k], a.limit);  // NaN passes
          const float up_in = max(min(v.up[k], a.limit), -a.limit);
          const Slope gate = gate_slope(activation, gate_in, a.beta);
          const Slope up = up_slope(activation, up_in, a.linear_beta);
          v.gate[k] = v.gate[k] > a.limit ? 0.0f : g[k] * up.value * gate.slope;
          v.up[k] = abs(v.up[k]) > a.limit ? 0.0f : g[k] * gate.value * up.slope;
        }
      });
      v.join(a);
      v.store(dx, a, i);
    }
  }
}

}  // namespace aiter

#define AITER_ACT_AND_MUL_BACKWARD(row, aligned, X, Y)           \
  AITER_KERNEL(act_and_mul_backward_##row##_##X##_##Y,           \
               256)(const aiter::ActAndMulBackwardArgs a) {      \
    aiter::wait_for_previous_kernel();                           \
    aiter::act_and_mul_backward<aiter::X, aiter::Y, aligned>(a); \
  }
#define AITER_ACT_AND_MUL_BACKWARD_TYPES(row, aligned) \
  AITER_ACT_AND_MUL_BACKWARD(row, aligned, f32, f32)   \
  AITER_ACT_AND_MUL_BACKWARD(row, aligned, f32, f16)   \
  AITER_ACT_AND_MUL_BACKWARD(row, aligned, f32, bf16)  \
  AITER_ACT_AND_MUL_BACKWARD(row, aligned, f16, f16)   \
  AITER_ACT_AND_MUL_BACKWARD(row, aligned, bf16, bf16)
AITER_ACT_AND_MUL_BACKWARD_TYPES(hip_vec, true)
AITER_ACT_AND_MUL_BACKWARD_TYPES(hip_any, false)
