#include "aiter/norm.h"
#include "ops/norm/layernorm/layernorm_args.h"
#include "ops/norm/row_norm_checks.h"

namespace aiter {

AITER_CPU_ROW(layernorm_cpu_simd, RowNormArgs)
AITER_CPU_ROW(layernorm_cpu_ref, RowNormArgs)

static void layernorm_hip_row(const LayernormArgs& args, const Call& call) {
  static constexpr FloatKernels norm = AITER_FLOAT_KERNELS(layernorm, hip_row),
                                add_norm = AITER_FLOAT_KERNELS(layernorm, hip_row_add);
  few_rows_norm_hip(norm, add_norm, args, call);
}

static void layernorm_hip_vec(const LayernormArgs& args, const Call& call) {
  static constexpr FloatKernels norm = AITER_FLOAT_KERNELS(layernorm, hip_vec),
                                add_norm = AITER_FLOAT_KERNELS(layernorm, hip_vec_add);
  row_norm_hip(norm, add_norm, 16, 4, args, call);
}

static void layernorm_hip_any(const LayernormArgs& args, const Call& call) {
  static constexpr FloatKernels norm = AITER_FLOAT_KERNELS(layernorm, hip_any),
                                add_norm = AITER_FLOAT_KERNELS(layernorm, hip_any_add);
  row_norm_hip(norm, add_norm, 1, 4, args, call);
}

static constexpr Row<RowNormProblem, LayernormArgs> kRows[] = {
#include "ops/norm/layernorm/layernorm.def"
};
AITER_OP(norm, layernorm)

// Both entry points: add says whether the residual is there.
static void layernorm(const Check& check, const RowNormTensors& tensors, bool add,
                      const aiter_layernorm_opts* opts_, aiter_stream stream) {
  const auto opts = check.options<aiter_layernorm_opts>(opts_, AITER_LAYERNORM_OPTS_INIT);
  LayernormArgs args{};
  args.eps = opts.eps;
  const RowNormProblem problem = check_row_norm(check, tensors, add, false, &args);
  dispatch(layernorm_op, kRows, problem, args, tensors.x->device, stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_layernorm(const aiter_tensor* x, const aiter_tensor* x_bias,
                                        const aiter_tensor* w, const aiter_tensor* b,
                                        const aiter_tensor* y, const aiter_layernorm_opts* opts,
                                        aiter_stream stream) {
  return aiter::entry("layernorm", [&] {
    aiter::layernorm(aiter::Check("layernorm"), {.x = x, .x_bias = x_bias, .w = w, .b = b, .y = y},
                     false, opts, stream);
  });
}

extern "C" aiter_status aiter_add_layernorm(const aiter_tensor* x, const aiter_tensor* x_bias,
                                            const aiter_tensor* residual_in, const aiter_tensor* w,
                                            const aiter_tensor* b, const aiter_tensor* y,
                                            const aiter_tensor* residual_out,
                                            const aiter_layernorm_opts* opts, aiter_stream stream) {
  return aiter::entry("add_layernorm", [&] {
    aiter::layernorm(aiter::Check("add_layernorm"),
                     {.x = x,
                      .x_bias = x_bias,
                      .residual_in = residual_in,
                      .w = w,
                      .b = b,
                      .y = y,
                      .residual_out = residual_out},
                     true, opts, stream);
  });
}
