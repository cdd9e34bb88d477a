#include <algorithm>

#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/activation/act_and_mul_backward/act_and_mul_backward_args.h"
#include "ops/activation/gated_checks.h"

namespace aiter {

struct ActAndMulBackwardProblem {
  DType x_dtype, dy_dtype;
  int64_t tokens, d;
  int32_t activation;
  bool aligned16;  // gates, ups and gradients begin at, and are, multiples of 16 bytes
};

AITER_CPU_ROW(act_and_mul_backward_cpu_simd, ActAndMulBackwardArgs)
AITER_CPU_ROW(act_and_mul_backward_cpu_ref, ActAndMulBackwardArgs)

// Kernels by the types of x and dy.
struct ActAndMulBackwardKernels {
  Kernel f32_f32, f32_f16, f32_bf16, f16_f16, bf16_bf16;
  const Kernel& of(DType x, DType dy) const {
    if (x == DType::kF16) return f16_f16;
    if (x == DType::kBF16) return bf16_bf16;
    return dy == DType::kF32 ? f32_f32 : dy == DType::kF16 ? f32_f16 : f32_bf16;
  }
};
#define AITER_ACT_AND_MUL_BACKWARD_KERNELS(row)                        \
  {{"act_and_mul_backward", "act_and_mul_backward_" #row "_f32_f32"},  \
   {"act_and_mul_backward", "act_and_mul_backward_" #row "_f32_f16"},  \
   {"act_and_mul_backward", "act_and_mul_backward_" #row "_f32_bf16"}, \
   {"act_and_mul_backward", "act_and_mul_backward_" #row "_f16_f16"},  \
   {"act_and_mul_backward", "act_and_mul_backward_" #row "_bf16_bf16"}}

static void act_and_mul_backward_hip(const ActAndMulBackwardKernels& kernels, int64_t pack,
                                     const ActAndMulBackwardArgs& args, const Call& call) {
  const int64_t packs = (args.d + pack - 1) / pack;
  const int64_t threads = std::clamp<int64_t>((packs + 63) / 64 * 64, 64, 256);
  launch(kernels.of(args.dtype, args.dy_dtype), call,
         {.x = std::min<int64_t>(args.x_rows.count, 1 << 20),
          .y = std::min<int64_t>((packs + threads - 1) / threads, 1 << 15),
          .threads = static_cast<int>(threads)},
         args);
}

static void act_and_mul_backward_hip_vec(const ActAndMulBackwardArgs& args, const Call& call) {
  static constexpr ActAndMulBackwardKernels kernels = AITER_ACT_AND_MUL_BACKWARD_KERNELS(hip_vec);
  act_and_mul_backward_hip(kernels, 16 / dtype_bytes(args.dtype), args, call);
}

static void act_and_mul_backward_hip_any(const ActAndMulBackwardArgs& args, const Call& call) {
  static constexpr ActAndMulBackwardKernels kernels = AITER_ACT_AND_MUL_BACKWARD_KERNELS(hip_any);
  act_and_mul_backward_hip(kernels, 1, args, call);
}

static constexpr Row<ActAndMulBackwardProblem, ActAndMulBackwardArgs> kRows[] = {
#include "ops/activation/act_and_mul_backward/act_and_mul_backward.def"
};
AITER_OP(activation, act_and_mul_backward)

static void act_and_mul_backward(const aiter_tensor* dy_, const aiter_tensor* x_,
                                 const aiter_tensor* dx_, const aiter_act_and_mul_opts* opts_,
                                 aiter_stream stream) {
  const Check check("act_and_mul_backward");
  const auto opts = check.options<aiter_act_and_mul_opts>(opts_, AITER_ACT_AND_MUL_OPTS_INIT);
  check.require(!opts.quant, "opts.quant is given, expected NULL");
  const Arg x = check.tensor("x", x_);
  ActAndMulBackwardArgs args{};
  static_cast<GatedArgs&>(args) = check_gated(check, {x, {}, {}, {}}, opts);
  const Arg dy = check.tensor("dy", dy_);
  check_half_of(dy, x);
  args.dy = dy.data(), args.dy_rows = dy.rows(), args.dy_dtype = dy.dtype();
  const Arg dx = check.tensor("dx", dx_);
  dx.dtype_of(x).shape_of(x).unit_last_stride().on_device_of(x);
  args.dx = dx.data(), args.dx_rows = dx.rows();
  const bool aligned16 = gated_aligned16(args, args.dy, args.dy_rows, args.dy_dtype) &&
                         is_aligned16(args.dx, args.dx_rows, dtype_bytes(args.dtype));
  const ActAndMulBackwardProblem problem{x.dtype(), dy.dtype(),      args.x_rows.count,
                                         args.d,    opts.activation, aligned16};
  dispatch(act_and_mul_backward_op, kRows, problem, args, x.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_act_and_mul_backward(const aiter_tensor* dy, const aiter_tensor* x,
                                                   const aiter_tensor* dx,
                                                   const aiter_act_and_mul_opts* opts,
                                                   aiter_stream stream) {
  return aiter::entry("act_and_mul_backward",
                      [&] { aiter::act_and_mul_backward(dy, x, dx, opts, stream); });
}
