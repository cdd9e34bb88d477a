#include "ops/norm/groupnorm_checks.h"

namespace aiter {

void check_groupnorm(const Check& check, const GroupnormTensors& t, bool add, GroupnormArgs* args) {
  check.require(args->eps >= 0, "opts.eps is %g, expected at least 0", args->eps);
  check.require(args->groups > 0, "opts.num_groups is %lld, expected at least 1",
                static_cast<long long>(args->groups));
  const Arg x = check.tensor("x", t.x);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(2).contiguous();
  args->x = x.data(), args->dtype = x.dtype();
  if (add) {
    const Arg in = check.tensor("residual_in", t.residual_in);
    const Arg sum = check.tensor("residual_out", t.residual_out);
    in.dtype_of(x).shape_of(x).contiguous().on_device_of(x);
    sum.dtype_of(x).shape_of(x).contiguous().on_device_of(x);
    args->residual = in.data(), args->sum = sum.data();
  }
  args->batch = x.dim(0), args->channels = x.dim(args->channels_last ? -1 : 1);
  args->space = 1;
  for (int i = 1; i < x.rank(); ++i)
    if (i != (args->channels_last ? x.rank() - 1 : 1)) args->space *= x.dim(i);
  if (args->channels % args->groups)
    x.refuse("has %lld channels, expected a multiple of opts.num_groups = %lld",
             static_cast<long long>(args->channels), static_cast<long long>(args->groups));
  auto vector = [&](const char* name, const aiter_tensor* tensor) {
    const Arg arg = check.optional(name, tensor);
    if (!arg) return arg;
    if (arg.dtype() != DType::kF32) arg.dtype_of(x);
    arg.shape({args->channels}).contiguous().on_device_of(x);
    args->w_dtype = arg.dtype();
    return arg;
  };
  const Arg w = vector("w", t.w), b = vector("b", t.b);
  if (w && b) b.dtype_of(w);
  if (w) args->w = w.data();
  if (b) args->b = b.data();
}

}  // namespace aiter
