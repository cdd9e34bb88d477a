#include "aiter/norm.h"
#include "ops/norm/norm_quant/norm_quant_args.h"
#include "ops/norm/norm_quant_checks.h"
#include "ops/quant/quantize_checks.h"

namespace aiter {

AITER_CPU_ROW(norm_quant_cpu_simd, NormQuantArgs)
AITER_CPU_ROW(norm_quant_cpu_ref, NormQuantArgs)

static void norm_quant_hip_vec(const NormQuantArgs& given, const Call& call) {
  static constexpr QuantKernels rms = AITER_QUANT_KERNELS(norm_quant, hip_vec_rms);
  static constexpr QuantKernels layer = AITER_QUANT_KERNELS(norm_quant, hip_vec_layer);
  if (given.norm.hidden == 0) return;
  NormQuantArgs args = given;
  args.norm.threads_per_row = norm_quant_threads(args, call);
  const RowNormArgs& norm = args.norm;
  const bool plain = norm.w && (norm.b || args.kind == NormKind::kRms) &&
                     norm.w_dtype == norm.dtype && !norm.gemma && !norm.model_sensitive &&
                     !norm.y && !norm.x_bias && !args.gate;
  const QuantKernels& kernels = args.kind == NormKind::kRms ? rms : layer;
  const Kernel& kernel = kernels.of(args.out, norm.dtype, plain);
  const bool loops = &kernel == &kernels.any[norm.dtype];
  const int64_t rows = norm.x_rows.count, threads = norm.threads_per_row;
  launch(kernel, call,
         loops ? row_grid(rows, threads, call)
               : quant_grid(rows, threads, device_of(call.device).wave),
         args);
}

static void norm_quant_hip_any(const NormQuantArgs& args, const Call& call) {
  static constexpr Kernel kernel{"norm_quant", "norm_quant_hip_any"};
  if (args.norm.hidden == 0) return;
  launch(kernel, call, norm_quant_any_grid(args), args);
}

static constexpr Row<NormQuantProblem, NormQuantArgs> kRows[] = {
#include "ops/norm/norm_quant/norm_quant.def"
};
AITER_OP(norm, norm_quant)

}  // namespace aiter

extern "C" aiter_status aiter_norm_quant(const aiter_tensor* x, const aiter_tensor* x_bias,
                                         const aiter_tensor* residual_in, const aiter_tensor* w,
                                         const aiter_tensor* b, const aiter_tensor* gate,
                                         const aiter_tensor* smooth, const aiter_tensor* y,
                                         const aiter_tensor* y_scale,
                                         const aiter_tensor* unquantized,
                                         const aiter_tensor* residual_out,
                                         const aiter_norm_quant_opts* opts_, aiter_stream stream) {
  return aiter::entry("norm_quant", [&] {
    using namespace aiter;
    const Check check("norm_quant");
    const auto opts = check.options<aiter_norm_quant_opts>(opts_, AITER_NORM_QUANT_OPTS_INIT);
    check.require(opts.kind == AITER_NORM_RMS || opts.kind == AITER_NORM_LAYER,
                  "opts.kind is %d, expected 0 (rms) or 1 (layer)", opts.kind);
    const bool rms = opts.kind == AITER_NORM_RMS;
    check.require(rms || (!opts.gemma && !opts.model_sensitive),
                  "opts.gemma and model_sensitive are %d and %d, expected 0 for a layer norm",
                  opts.gemma, opts.model_sensitive);
    check.require(!rms || (!b && !x_bias), "%s is given, expected NULL for an RMS norm",
                  b ? "b" : "x_bias");
    NormQuantArgs args{};
    args.kind = rms ? NormKind::kRms : NormKind::kLayer;
    args.norm.eps = opts.eps;
    args.norm.gemma = opts.gemma != 0;
    args.norm.model_sensitive = opts.model_sensitive != 0;
    const NormQuantTensors tensors{.norm = {.x = x,
                                            .x_bias = x_bias,
                                            .residual_in = residual_in,
                                            .w = w,
                                            .b = b,
                                            .y = unquantized,
                                            .residual_out = residual_out},
                                   .gate = gate,
                                   .smooth = smooth,
                                   .y = y,
                                   .y_scale = y_scale};
    const NormQuantProblem problem =
        check_norm_quant(check, tensors, residual_in || residual_out, opts.quant, &args);
    dispatch(norm_quant_op, kRows, problem, args, x->device, stream, opts.flags);
  });
}
