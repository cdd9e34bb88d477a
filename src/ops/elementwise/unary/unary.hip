#include "ck/core/activation.h"
#include "ck/elementwise/elementwise.h"
#include "ops/elementwise/unary/unary_args.h"

namespace aiter {

// f(op) with op(x) for an aiter_unary_op.
template <class F>
AITER_DEVICE void with_unary_op(int32_t op, F&& f) {
  switch (op) {
    case 0:
      return f([] AITER_LAMBDA(float x) { return sigmoid(x); });
    case 1:
      return f([] AITER_LAMBDA(float x) { return tanh(x); });
    case 2:
      return f([] AITER_LAMBDA(float x) { return x < 0.0f ? 0.0f : x; });
    case 3:
      return f([] AITER_LAMBDA(float x) { return x * sigmoid(x); });
    case 4:
      return f([] AITER_LAMBDA(float x) { return gelu(x); });
    default:
      return f([] AITER_LAMBDA(float x) { return gelu_tanh(x); });
  }
}

}  // namespace aiter

#define AITER_UNARY(T)                                                                    \
  AITER_KERNEL(unary_hip_vec_##T, 256)(const aiter::UnaryArgs a) {                        \
    aiter::wait_for_previous_kernel();                                                    \
    aiter::with_unary_op(                                                                 \
        a.op, [&] AITER_LAMBDA(auto op) { aiter::elementwise_vec<aiter::T, 1>(a, op); }); \
  }
AITER_UNARY(f32)
AITER_UNARY(f16)
AITER_UNARY(bf16)
AITER_KERNEL(unary_hip_any, 256)(const aiter::UnaryArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::with_unary_op(a.op,
                       [&] AITER_LAMBDA(auto op) { aiter::elementwise_any<float, 1>(a, op); });
}
