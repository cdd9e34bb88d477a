#include <algorithm>

#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/activation/act_and_mul/act_and_mul_args.h"
#include "ops/activation/gated_checks.h"

namespace aiter {

struct ActAndMulProblem {
  DType x_dtype, y_dtype;
  int64_t tokens, d;
  int32_t activation;
  bool aligned16;  // gates, ups and results begin at, and are, multiples of 16 bytes
  bool plain;      // halves of gates and ups, and nothing but a limit
};

AITER_CPU_ROW(act_and_mul_cpu_simd, ActAndMulArgs)
AITER_CPU_ROW(act_and_mul_cpu_ref, ActAndMulArgs)

// Kernels by the types of x and y.
struct ActAndMulKernels {
  Kernel f32_f32, f32_f16, f32_bf16, f16_f16, bf16_bf16;
  const Kernel& of(DType x, DType y) const {
    if (x == DType::kF16) return f16_f16;
    if (x == DType::kBF16) return bf16_bf16;
    return y == DType::kF32 ? f32_f32 : y == DType::kF16 ? f32_f16 : f32_bf16;
  }
};
#define AITER_ACT_AND_MUL_KERNELS(row)               \
  {{"act_and_mul", "act_and_mul_" #row "_f32_f32"},  \
   {"act_and_mul", "act_and_mul_" #row "_f32_f16"},  \
   {"act_and_mul", "act_and_mul_" #row "_f32_bf16"}, \
   {"act_and_mul", "act_and_mul_" #row "_f16_f16"},  \
   {"act_and_mul", "act_and_mul_" #row "_bf16_bf16"}}

static void act_and_mul_hip(const ActAndMulKernels& kernels, int64_t pack,
                            const ActAndMulArgs& args, const Call& call) {
  const int64_t packs = (args.d + pack - 1) / pack;
  // Latency decides over little work: a pack for each thread, and blocks all over the device.
  const bool little = args.x_rows.count * packs <= 1 << 17;
  const int64_t each = little ? 1 : ActAndMulArgs::kPacks;
  const int64_t threads =
      std::clamp<int64_t>((packs / each + 63) / 64 * 64, 64, little ? 128 : 256);
  const int64_t pieces = (packs + threads * each - 1) / (threads * each);
  launch(kernels.of(args.dtype, args.y_dtype), call,
         {.x = std::min<int64_t>(args.x_rows.count, 1 << 20),
          .y = std::min<int64_t>(pieces, 1 << 15),
          .threads = static_cast<int>(threads)},
         args);
}

// See ck/activation/gated_plain.h.
static void act_and_mul_hip_plain(const ActAndMulArgs& args, const Call& call) {
  static constexpr ActAndMulKernels kernels = AITER_ACT_AND_MUL_KERNELS(hip_plain);
  const int64_t packs = args.d * dtype_bytes(args.dtype) / 16;
  // Latency decides over little work: a pack for each thread, and blocks all over the device.
  const bool little = args.x_rows.count * packs <= 1 << 17;
  const int64_t each = little ? 1 : ActAndMulArgs::kPacks;
  const int64_t threads =
      std::clamp<int64_t>((packs / each + 63) / 64 * 64, 64, little ? 128 : 256);
  const ActAndMulPlainArgs plain{args.x, args.y,          args.x_rows, args.y_rows,
                                 args.d, args.activation, args.limit};
  launch(kernels.of(args.dtype, args.y_dtype), call,
         {.x = std::min<int64_t>(args.x_rows.count, 1 << 20),
          .y = std::min<int64_t>((packs + threads * each - 1) / (threads * each), 1 << 15),
          .threads = static_cast<int>(threads)},
         plain);
}

static void act_and_mul_hip_vec(const ActAndMulArgs& args, const Call& call) {
  static constexpr ActAndMulKernels kernels = AITER_ACT_AND_MUL_KERNELS(hip_vec);
  act_and_mul_hip(kernels, 16 / dtype_bytes(args.dtype), args, call);
}

static void act_and_mul_hip_any(const ActAndMulArgs& args, const Call& call) {
  static constexpr ActAndMulKernels kernels = AITER_ACT_AND_MUL_KERNELS(hip_any);
  act_and_mul_hip(kernels, 1, args, call);
}

static constexpr Row<ActAndMulProblem, ActAndMulArgs> kRows[] = {
#include "ops/activation/act_and_mul/act_and_mul.def"
};
AITER_OP(activation, act_and_mul)

static void act_and_mul(const aiter_tensor* x_, const aiter_tensor* bias,
                        const aiter_tensor* expert_ids, const aiter_tensor* weights,
                        const aiter_tensor* y_, const aiter_act_and_mul_opts* opts_,
                        aiter_stream stream) {
  const Check check("act_and_mul");
  const auto opts = check.options<aiter_act_and_mul_opts>(opts_, AITER_ACT_AND_MUL_OPTS_INIT);
  const Arg x = check.tensor("x", x_);
  const GatedTensors tensors{x, check.optional("bias", bias),
                             check.optional("expert_ids", expert_ids),
                             check.optional("weights", weights)};
  ActAndMulArgs args{};
  static_cast<GatedArgs&>(args) = check_gated(check, tensors, opts);
  const Arg y = check.tensor("y", y_);
  check_half_of(y, x);
  args.y = y.data(), args.y_rows = y.rows(), args.y_dtype = y.dtype();
  const bool plain = !args.bias && !args.weights && !args.interleaved &&
                     args.activation != AITER_ACTIVATION_SITUV2;
  const ActAndMulProblem problem{
      x.dtype(), y.dtype(),       args.x_rows.count,
      args.d,    opts.activation, gated_aligned16(args, args.y, args.y_rows, args.y_dtype),
      plain};
  dispatch(act_and_mul_op, kRows, problem, args, x.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_act_and_mul(const aiter_tensor* x, const aiter_tensor* bias,
                                          const aiter_tensor* expert_ids,
                                          const aiter_tensor* weights, const aiter_tensor* y,
                                          const aiter_act_and_mul_opts* opts, aiter_stream stream) {
  return aiter::entry("act_and_mul",
                      [&] { aiter::act_and_mul(x, bias, expert_ids, weights, y, opts, stream); });
}
