#include <cmath>

#include "aiter/activation.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "ops/activation/act_and_mul/act_and_mul_args.h"

namespace aiter {

struct ActAndMulProblem {
  DType x_dtype, y_dtype;
  int64_t tokens, d;
  int32_t activation;
};

AITER_CPU_ROW(act_and_mul_cpu_simd, ActAndMulArgs)
AITER_CPU_ROW(act_and_mul_cpu_ref, ActAndMulArgs)

static constexpr Row<ActAndMulProblem, ActAndMulArgs> kRows[] = {
#include "ops/activation/act_and_mul/act_and_mul.def"
};
AITER_OP(activation, act_and_mul)

static void act_and_mul(const aiter_tensor* x_, const aiter_tensor* y_,
                        const aiter_act_and_mul_opts* opts_, aiter_stream stream) {
  const Check check("act_and_mul");
  const auto opts = check.options<aiter_act_and_mul_opts>(opts_, AITER_ACT_AND_MUL_OPTS_INIT);
  switch (opts.activation) {
    case AITER_ACTIVATION_SILU: case AITER_ACTIVATION_GELU: case AITER_ACTIVATION_SWIGLU:
    case AITER_ACTIVATION_GELU_TANH:
      break;
    default:
      check.require(false, "opts.activation is %d, expected an aiter_activation (0, 1, 2 or 4)",
                    opts.activation);
  }
  check.require(opts.limit >= 0, "opts.limit is %g, expected at least 0", opts.limit);

  const Arg x = check.tensor("x", x_);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();
  if (x.dim(-1) % 2)
    x.refuse("has last extent %lld, expected an even one (gate and up)",
             static_cast<long long>(x.dim(-1)));
  const int64_t d = x.dim(-1) / 2;

  const Arg y = check.tensor("y", y_);
  if (x.dtype() == DType::kF32)
    y.dtype({DType::kF32, DType::kF16, DType::kBF16});
  else
    y.dtype_of(x);
  y.rank(x.rank()).unit_last_stride().on_device_of(x);
  for (int i = 0; i < x.rank(); ++i) {
    const int64_t expected = i + 1 == x.rank() ? d : x.dim(i);
    if (y.dim(i) != expected)
      y.refuse("has extent %lld in dimension %d, expected %lld (x's shape, the last one halved)",
               static_cast<long long>(y.dim(i)), i, static_cast<long long>(expected));
  }

  ActAndMulArgs args{};
  args.x = x.data(), args.x_rows = x.rows(), args.x_dtype = x.dtype();
  args.y = y.data(), args.y_rows = y.rows(), args.y_dtype = y.dtype();
  args.d = d;
  args.activation = opts.activation;
  args.limit = opts.limit > 0 ? opts.limit : INFINITY;
  const ActAndMulProblem problem{x.dtype(), y.dtype(), args.x_rows.count, d, opts.activation};
  dispatch(act_and_mul_op, kRows, problem, args, x.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_act_and_mul(const aiter_tensor* x, const aiter_tensor* y,
                                          const aiter_act_and_mul_opts* opts,
                                          aiter_stream stream) {
  return aiter::entry("act_and_mul", [&] { aiter::act_and_mul(x, y, opts, stream); });
}
