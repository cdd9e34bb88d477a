#include "ck/elementwise/elementwise.h"
#include "ops/elementwise/fused_mul_add/fused_mul_add_args.h"

namespace aiter {

struct MulAdd {
  AITER_DEVICE float operator()(float x, float a, float b) const { return fma(x, a, b); }
};

}  // namespace aiter

#define AITER_FUSED_MUL_ADD(T)                                                   \
  AITER_KERNEL(fused_mul_add_hip_vec_##T, 256)(const aiter::FusedMulAddArgs a) { \
    aiter::wait_for_previous_kernel();                                           \
    aiter::elementwise_vec<aiter::T, 3>(a, aiter::MulAdd{});                     \
  }
AITER_FUSED_MUL_ADD(f32)
AITER_FUSED_MUL_ADD(f16)
AITER_FUSED_MUL_ADD(bf16)
AITER_KERNEL(fused_mul_add_hip_any, 256)(const aiter::FusedMulAddArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::elementwise_any<float, 3>(a, aiter::MulAdd{});
}
