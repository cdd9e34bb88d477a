#include <algorithm>

#include "aiter/norm.h"
#include "ops/norm/rmsnorm/rmsnorm_args.h"
#include "ops/norm/row_norm_checks.h"

namespace aiter {

AITER_CPU_ROW(rmsnorm_cpu_simd, RowNormArgs)
AITER_CPU_ROW(rmsnorm_cpu_ref, RowNormArgs)

// Rows for which a block has one each: few, or long ones with a residual, which takes registers.
static bool row_a_block(const RowNormProblem& p) {
  const int64_t bytes = p.hidden * dtype_bytes(p.dtype);
  const int64_t most = bytes < 2048 ? 512 : p.add ? 1 << 20 : (8 << 20) / bytes;
  return p.aligned16 && bytes <= 16384 && p.rows <= most;
}

static void rmsnorm_hip_row(const RmsnormArgs& args, const Call& call) {
  static constexpr FloatKernels norm = AITER_FLOAT_KERNELS(rmsnorm, hip_row),
                                add_norm = AITER_FLOAT_KERNELS(rmsnorm, hip_row_add);
  few_rows_norm_hip(norm, add_norm, args, call);
}

static void rmsnorm_hip_vec(const RmsnormArgs& args, const Call& call) {
  static constexpr FloatKernels norm = AITER_FLOAT_KERNELS(rmsnorm, hip_vec),
                                add_norm = AITER_FLOAT_KERNELS(rmsnorm, hip_vec_add);
  row_norm_hip(norm, add_norm, 16, 4, args, call);
}

// For rows so long that more threads would be left with too few registers.
static void rmsnorm_hip_long(const RmsnormArgs& args, const Call& call) {
  static constexpr FloatKernels norm = AITER_FLOAT_KERNELS(rmsnorm, hip_long),
                                add_norm = AITER_FLOAT_KERNELS(rmsnorm, hip_long_add);
  row_norm_hip(norm, add_norm, 16, 8, args, call);
}

static void rmsnorm_hip_any(const RmsnormArgs& args, const Call& call) {
  static constexpr FloatKernels norm = AITER_FLOAT_KERNELS(rmsnorm, hip_any),
                                add_norm = AITER_FLOAT_KERNELS(rmsnorm, hip_any_add);
  row_norm_hip(norm, add_norm, 1, 4, args, call);
}

static constexpr Row<RowNormProblem, RmsnormArgs> kRows[] = {
#include "ops/norm/rmsnorm/rmsnorm.def"
};
AITER_OP(norm, rmsnorm)

// Both entry points: add says whether the residual is there.
static void rmsnorm(const Check& check, const RowNormTensors& tensors, bool add,
                    const aiter_rmsnorm_opts* opts_, aiter_stream stream) {
  const auto opts = check.options<aiter_rmsnorm_opts>(opts_, AITER_RMSNORM_OPTS_INIT);
  RmsnormArgs args{};
  args.eps = opts.eps;
  args.gemma = opts.gemma != 0;
  args.model_sensitive = opts.model_sensitive != 0;
  const RowNormProblem problem = check_row_norm(check, tensors, add, false, &args);
  dispatch(rmsnorm_op, kRows, problem, args, tensors.x->device, stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_rmsnorm(const aiter_tensor* x, const aiter_tensor* w,
                                      const aiter_tensor* y, const aiter_rmsnorm_opts* opts,
                                      aiter_stream stream) {
  return aiter::entry("rmsnorm", [&] {
    aiter::rmsnorm(aiter::Check("rmsnorm"), {.x = x, .w = w, .y = y}, false, opts, stream);
  });
}

extern "C" aiter_status aiter_add_rmsnorm(const aiter_tensor* x, const aiter_tensor* residual_in,
                                          const aiter_tensor* w, const aiter_tensor* y,
                                          const aiter_tensor* residual_out,
                                          const aiter_rmsnorm_opts* opts, aiter_stream stream) {
  return aiter::entry("add_rmsnorm", [&] {
    aiter::rmsnorm(
        aiter::Check("add_rmsnorm"),
        {.x = x, .residual_in = residual_in, .w = w, .y = y, .residual_out = residual_out}, true,
        opts, stream);
  });
}
