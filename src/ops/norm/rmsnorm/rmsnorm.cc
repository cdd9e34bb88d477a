#include "ops/norm/rmsnorm/rmsnorm_args.h"

#include "aiter/norm.h"
#include "core/check.h"
#include "dispatch/dispatch.h"

namespace aiter {

struct RmsnormProblem {
  DType dtype;
  int64_t tokens, hidden;
};

AITER_CPU_ROW(rmsnorm_cpu_simd, RmsnormArgs)
AITER_CPU_ROW(rmsnorm_cpu_ref, RmsnormArgs)

static constexpr Row<RmsnormProblem, RmsnormArgs> kRows[] = {
#include "ops/norm/rmsnorm/rmsnorm.def"
};
AITER_OP(norm, rmsnorm)

// Both entry points: add says whether the residual is there.
static void rmsnorm(const Check& check, const aiter_tensor* x_, const aiter_tensor* residual_in_,
             const aiter_tensor* w_, const aiter_tensor* y_, const aiter_tensor* residual_out_,
             bool add, const aiter_rmsnorm_opts* opts_, aiter_stream stream) {
  const auto opts = check.options<aiter_rmsnorm_opts>(opts_, AITER_RMSNORM_OPTS_INIT);
  check.require(opts.eps >= 0, "opts.eps is %g, expected at least 0", opts.eps);

  const Arg x = check.tensor("x", x_);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();
  const int64_t hidden = x.dim(-1);
  auto like_x = [&](const char* name, const aiter_tensor* t) {
    const Arg arg = check.tensor(name, t);
    arg.dtype_of(x).shape_of(x).unit_last_stride().on_device_of(x);
    return arg;
  };
  const Arg w = check.optional("w", w_);
  if (w) {
    if (w.dtype() != DType::kF32) w.dtype_of(x);
    w.shape({hidden}).contiguous().on_device_of(x);
  }
  const Arg y = like_x("y", y_);

  RmsnormArgs args{};
  args.x = x.data(), args.x_rows = x.rows();
  args.y = y.data(), args.y_rows = y.rows();
  if (w) args.w = w.data(), args.w_dtype = w.dtype();
  if (add) {
    const Arg in = like_x("residual_in", residual_in_), out = like_x("residual_out", residual_out_);
    args.residual_in = in.data(), args.residual_in_rows = in.rows();
    args.residual_out = out.data(), args.residual_out_rows = out.rows();
  }
  args.hidden = hidden;
  args.dtype = x.dtype();
  args.eps = opts.eps;
  args.gemma = opts.gemma != 0;
  args.model_sensitive = opts.model_sensitive != 0;
  const RmsnormProblem problem{x.dtype(), args.x_rows.count, hidden};
  dispatch(rmsnorm_op, kRows, problem, args, x.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_rmsnorm(const aiter_tensor* x, const aiter_tensor* w,
                                      const aiter_tensor* y, const aiter_rmsnorm_opts* opts,
                                      aiter_stream stream) {
  return aiter::entry("rmsnorm", [&] {
    aiter::rmsnorm(aiter::Check("rmsnorm"), x, nullptr, w, y, nullptr, false, opts, stream);
  });
}

extern "C" aiter_status aiter_add_rmsnorm(const aiter_tensor* x, const aiter_tensor* residual_in,
                                          const aiter_tensor* w, const aiter_tensor* y,
                                          const aiter_tensor* residual_out,
                                          const aiter_rmsnorm_opts* opts, aiter_stream stream) {
  return aiter::entry("add_rmsnorm", [&] {
    aiter::rmsnorm(aiter::Check("add_rmsnorm"), x, residual_in, w, y, residual_out, true, opts,
                   stream);
  });
}
