#include "ck/elementwise/elementwise.h"
#include "ops/elementwise/binary/binary_args.h"

namespace aiter {

// f(op) with op(a, b) for an aiter_binary_op.
template <class C, class F>
AITER_DEVICE void with_binary_op(int32_t op, F&& f) {
  switch (op) {
    case 0:
      return f([] AITER_LAMBDA(C a, C b) { return a + b; });
    case 1:
      return f([] AITER_LAMBDA(C a, C b) { return a - b; });
    case 2:
      return f([] AITER_LAMBDA(C a, C b) { return a * b; });
    default:  // integers are divided as floats
      if constexpr (static_cast<C>(0.5) != C{}) f([] AITER_LAMBDA(C a, C b) { return a / b; });
  }
}

}  // namespace aiter

#define AITER_BINARY(T)                                                                   \
  AITER_KERNEL(binary_hip_vec_##T, 256)(const aiter::BinaryArgs a) {                      \
    aiter::wait_for_previous_kernel();                                                    \
    aiter::with_binary_op<float>(                                                         \
        a.op, [&] AITER_LAMBDA(auto op) { aiter::elementwise_vec<aiter::T, 2>(a, op); }); \
  }
AITER_BINARY(f32)
AITER_BINARY(f16)
AITER_BINARY(bf16)
#define AITER_BINARY_ANY(name, C)                                                                 \
  AITER_KERNEL(binary_hip_any_##name, 256)(const aiter::BinaryArgs a) {                           \
    aiter::wait_for_previous_kernel();                                                            \
    aiter::with_binary_op<C>(a.op,                                                                \
                             [&] AITER_LAMBDA(auto op) { aiter::elementwise_any<C, 2>(a, op); }); \
  }
AITER_BINARY_ANY(f32, float)
AITER_BINARY_ANY(f64, double)
AITER_BINARY_ANY(i64, aiter::uint64_t)
