#include "aiter/elementwise.h"
#include "ops/elementwise/elementwise_checks.h"
#include "ops/elementwise/unary/unary_args.h"

namespace aiter {

AITER_CPU_ROW(unary_cpu_simd, UnaryArgs)
AITER_CPU_ROW(unary_cpu_ref, UnaryArgs)

static void unary_hip_vec(const UnaryArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(unary, hip_vec);
  elementwise_hip_vec(kernels, args, call);
}

static void unary_hip_any(const UnaryArgs& args, const Call& call) {
  static constexpr Kernel kernel{"unary", "unary_hip_any"};
  elementwise_hip_any(kernel, args, call);
}

static constexpr Row<ElementwiseProblem, UnaryArgs> kRows[] = {
#include "ops/elementwise/unary/unary.def"
};
AITER_OP(elementwise, unary)

static void unary(const aiter_tensor* x_, const aiter_tensor* y_, const aiter_unary_opts* opts_,
                  aiter_stream stream) {
  const Check check("unary");
  const auto opts = check.options<aiter_unary_opts>(opts_, AITER_UNARY_OPTS_INIT);
  check.require(opts.op >= AITER_UNARY_SIGMOID && opts.op <= AITER_UNARY_GELU_TANH,
                "opts.op is %d, expected an aiter_unary_op (0 to 5)", opts.op);
  const Arg x = check.tensor("x", x_), y = check.tensor("y", y_);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16});
  y.dtype({DType::kF32, DType::kF16, DType::kBF16});
  UnaryArgs args = check_elementwise(check, {{x, 0}}, y);
  args.common = y.dtype();
  args.op = opts.op;
  dispatch(unary_op, kRows, problem_of(args, 1), args, y.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_unary(const aiter_tensor* x, const aiter_tensor* y,
                                    const aiter_unary_opts* opts, aiter_stream stream) {
  return aiter::entry("unary", [&] { aiter::unary(x, y, opts, stream); });
}
