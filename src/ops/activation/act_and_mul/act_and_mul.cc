#include <algorithm>

#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/activation/act_and_mul/act_and_mul_args.h"
#include "ops/activation/gated_checks.h"
#include "ops/quant/quantize_checks.h"

namespace aiter {

struct ActAndMulProblem {
  DType x_dtype, y_dtype;  // y_dtype: of the codes, if quantized
  int64_t tokens, d;
  int32_t activation;
  bool aligned16;  // gates, ups and results begin at, and are, multiples of 16 bytes
  bool plain;      // halves of gates and ups, and nothing but a limit; not quantized
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

static void act_and_mul_quant_hip(const FloatKernels& kernels, int64_t pack, ActAndMulArgs args,
                                  const Call& call) {
  if (args.x_rows.count == 0 || args.d == 0) return;
  const int64_t wave = device_of(call.device).wave;
  const int64_t chunks = args.x_rows.count < 512 ? 1 : 2;  // latency decides over few rows
  args.threads_per_row = quant_threads_per_row(args.out, pack, chunks, wave);
  const int64_t block = args.threads_per_row <= wave ? 128 : args.threads_per_row;
  const int64_t rows_per_block = block / args.threads_per_row;
  const int64_t blocks = (args.x_rows.count + rows_per_block - 1) / rows_per_block;
  launch(kernels[args.dtype], call,
         {.x = std::min<int64_t>(blocks, 1 << 20), .threads = static_cast<int>(block)}, args);
}

static void act_and_mul_codes_hip(const Kernel& kernel, ActAndMulArgs args, const Call& call) {
  if (args.d == 0) return;
  const int64_t wave = device_of(call.device).wave;
  args.threads_per_row = quant_threads_per_row(args.out, ActAndMulArgs::kColumns, 1, wave);
  launch(kernel, call, quant_grid(args.x_rows.count, args.threads_per_row, wave), args);
}

// Halves of gates and ups, and nothing but a limit: see ck/activation/gated_plain.h.
static bool is_plain(const ActAndMulArgs& args) {
  return !args.bias && !args.weights && !args.interleaved && !args.expert_ids &&
         args.activation != AITER_ACTIVATION_SITUV2;
}

static void act_and_mul_hip_vec(const ActAndMulArgs& args, const Call& call) {
  static constexpr ActAndMulKernels kernels = AITER_ACT_AND_MUL_KERNELS(hip_vec);
  static constexpr QuantKernels quant = AITER_QUANT_KERNELS(act_and_mul, hip_quant_vec);
  const int64_t pack = 16 / dtype_bytes(args.dtype);
  constexpr int64_t kColumns = ActAndMulArgs::kColumns;
  const QuantOut& q = args.out;
  const bool fits =
      q.group_cols < q.cols ? args.d < 1 << 30 : args.d <= 512 * ActAndMulArgs::kPacks * kColumns;
  const bool plain = is_plain(args) && fits && args.activation != AITER_ACTIVATION_GELU;
  const Kernel& kernel = quant.of(q, args.dtype, plain);
  if (q.codes && &kernel != &quant.any[args.dtype])
    act_and_mul_codes_hip(kernel, args, call);
  else if (q.codes)
    act_and_mul_quant_hip(quant.any, pack, args, call);
  else
    act_and_mul_hip(kernels, pack, args, call);
}

static void act_and_mul_hip_any(const ActAndMulArgs& args, const Call& call) {
  static constexpr ActAndMulKernels kernels = AITER_ACT_AND_MUL_KERNELS(hip_any);
  static constexpr FloatKernels quant = AITER_FLOAT_KERNELS(act_and_mul, hip_quant_any);
  if (args.out.codes)
    act_and_mul_quant_hip(quant, 4, args, call);  // four codes fill bytes, of whatever kind
  else
    act_and_mul_hip(kernels, 1, args, call);
}

static constexpr Row<ActAndMulProblem, ActAndMulArgs> kRows[] = {
#include "ops/activation/act_and_mul/act_and_mul.def"
};
AITER_OP(activation, act_and_mul)

static void act_and_mul(const aiter_tensor* x_, const aiter_tensor* bias,
                        const aiter_tensor* expert_ids, const aiter_tensor* weights,
                        const aiter_tensor* y_, const aiter_tensor* y_scale,
                        const aiter_act_and_mul_opts* opts_, aiter_stream stream) {
  const Check check("act_and_mul");
  const auto opts = check.options<aiter_act_and_mul_opts>(opts_, AITER_ACT_AND_MUL_OPTS_INIT);
  const Arg x = check.tensor("x", x_);
  const GatedTensors tensors{x, check.optional("bias", bias),
                             check.optional("expert_ids", expert_ids),
                             check.optional("weights", weights)};
  ActAndMulArgs args{};
  static_cast<GatedArgs&>(args) = check_gated(check, tensors, opts);
  ActAndMulProblem problem{x.dtype(), DType::kNone, args.x_rows.count, args.d, opts.activation,
                           false,     false};
  if (opts.quant) {
    args.out = check_quant_out(check, x, args.d, {"y", y_}, {"y_scale", y_scale}, opts.quant);
    problem.y_dtype = args.out.spec.code;
    problem.aligned16 = gated_aligned16(args, args.x, args.x_rows, args.dtype);
  } else {
    check.require(!y_scale, "y_scale is a tensor, expected NULL, as opts.quant is NULL");
    const Arg y = check.tensor("y", y_);
    check_half_of(y, x);
    args.y = y.data(), args.y_rows = y.rows(), args.y_dtype = problem.y_dtype = y.dtype();
    problem.aligned16 = gated_aligned16(args, args.y, args.y_rows, args.y_dtype);
    problem.plain = is_plain(args);
  }
  dispatch(act_and_mul_op, kRows, problem, args, x.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_act_and_mul(const aiter_tensor* x, const aiter_tensor* bias,
                                          const aiter_tensor* expert_ids,
                                          const aiter_tensor* weights, const aiter_tensor* y,
                                          const aiter_tensor* y_scale,
                                          const aiter_act_and_mul_opts* opts, aiter_stream stream) {
  return aiter::entry("act_and_mul", [&] {
    aiter::act_and_mul(x, bias, expert_ids, weights, y, y_scale, opts, stream);
  });
}
