#include "aiter/elementwise.h"
#include "ops/elementwise/elementwise_checks.h"
#include "ops/elementwise/fused_mul_add/fused_mul_add_args.h"

namespace aiter {

AITER_CPU_ROW(fused_mul_add_cpu_simd, FusedMulAddArgs)
AITER_CPU_ROW(fused_mul_add_cpu_ref, FusedMulAddArgs)

static void fused_mul_add_hip_vec(const FusedMulAddArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(fused_mul_add, hip_vec);
  elementwise_hip_vec(kernels, args, call);
}

static void fused_mul_add_hip_any(const FusedMulAddArgs& args, const Call& call) {
  static constexpr Kernel kernel{"fused_mul_add", "fused_mul_add_hip_any"};
  elementwise_hip_any(kernel, args, call);
}

static constexpr Row<ElementwiseProblem, FusedMulAddArgs> kRows[] = {
#include "ops/elementwise/fused_mul_add/fused_mul_add.def"
};
AITER_OP(elementwise, fused_mul_add)

static void fused_mul_add(const aiter_tensor* x_, const aiter_tensor* a_, const aiter_tensor* b_,
                          const aiter_tensor* y_, const aiter_fused_mul_add_opts* opts_,
                          aiter_stream stream) {
  const Check check("fused_mul_add");
  const auto opts = check.options<aiter_fused_mul_add_opts>(opts_, AITER_FUSED_MUL_ADD_OPTS_INIT);
  const Arg x = check.tensor("x", x_), a = check.optional("a", a_), b = check.optional("b", b_),
            y = check.tensor("y", y_);
  for (const Arg* t : {&x, &a, &b, &y})
    if (*t) t->dtype({DType::kF32, DType::kF16, DType::kBF16});
  FusedMulAddArgs args = check_elementwise(check, {{x, 0}, {a, opts.a}, {b, opts.b}}, y);
  args.common = y.dtype();
  dispatch(fused_mul_add_op, kRows, problem_of(args, 3), args, y.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_fused_mul_add(const aiter_tensor* x, const aiter_tensor* a,
                                            const aiter_tensor* b, const aiter_tensor* y,
                                            const aiter_fused_mul_add_opts* opts,
                                            aiter_stream stream) {
  return aiter::entry("fused_mul_add", [&] { aiter::fused_mul_add(x, a, b, y, opts, stream); });
}
