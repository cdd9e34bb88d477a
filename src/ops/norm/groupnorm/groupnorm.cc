#include <algorithm>

#include "aiter/norm.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/norm/groupnorm/groupnorm_args.h"

namespace aiter {

struct GroupnormProblem {
  DType dtype;
  int64_t batch, channels, groups, space;
  bool channels_last;
  bool aligned16;  // the neighbours in memory that share a channel, or a group, come in 16 bytes
};

AITER_CPU_ROW(groupnorm_cpu_simd, GroupnormArgs)
AITER_CPU_ROW(groupnorm_cpu_ref, GroupnormArgs)

static void groupnorm_hip(const FloatKernels& kernels, int64_t pack, const GroupnormArgs& args,
                          const Call& call) {
  if (args.channels == 0 || args.space == 0) return;
  const int64_t packs = args.channels / args.groups * args.space / pack;
  const int64_t threads = (packs + GroupnormArgs::kPacks - 1) / GroupnormArgs::kPacks;
  constexpr int64_t kWidth = 1 << 20;
  const int64_t blocks = args.batch * args.groups;
  launch(kernels[args.dtype], call,
         {.x = std::min(blocks, kWidth),
          .y = (blocks + kWidth - 1) / kWidth,
          .threads = static_cast<int>(
              std::clamp<int64_t>((threads + 63) / 64 * 64, 64, GroupnormArgs::kThreads))},
         args);
}

static void groupnorm_hip_vec(const GroupnormArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(groupnorm, hip_vec);
  groupnorm_hip(kernels, 16 / dtype_bytes(args.dtype), args, call);
}

static void groupnorm_hip_any(const GroupnormArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(groupnorm, hip_any);
  groupnorm_hip(kernels, 1, args, call);
}

static constexpr Row<GroupnormProblem, GroupnormArgs> kRows[] = {
#include "ops/norm/groupnorm/groupnorm.def"
};
AITER_OP(norm, groupnorm)

// Without a residual: residual_in and residual_out are null.
static void groupnorm(const Check& check, const aiter_tensor* x_, const aiter_tensor* w_,
                      const aiter_tensor* b_, const aiter_tensor* y_,
                      const aiter_tensor* residual_in, const aiter_tensor* residual_out,
                      const aiter_groupnorm_opts* opts_, aiter_stream stream) {
  const auto opts = check.options<aiter_groupnorm_opts>(opts_, AITER_GROUPNORM_OPTS_INIT);
  check.require(opts.eps >= 0, "opts.eps is %g, expected at least 0", opts.eps);
  check.require(opts.num_groups > 0, "opts.num_groups is %lld, expected at least 1",
                static_cast<long long>(opts.num_groups));
  const Arg x = check.tensor("x", x_);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(2).contiguous();
  const Arg y = check.tensor("y", y_);
  y.dtype_of(x).shape_of(x).contiguous().on_device_of(x);

  GroupnormArgs args{};
  args.channels_last = opts.channels_last != 0;
  args.silu = opts.silu != 0;
  args.eps = opts.eps;
  args.x = x.data(), args.y = y.data(), args.dtype = x.dtype();
  if (residual_in) {
    const Arg in = check.tensor("residual_in", residual_in);
    const Arg sum = check.tensor("residual_out", residual_out);
    in.dtype_of(x).shape_of(x).contiguous().on_device_of(x);
    sum.dtype_of(x).shape_of(x).contiguous().on_device_of(x);
    args.residual = in.data(), args.sum = sum.data();
  }
  args.batch = x.dim(0), args.channels = x.dim(args.channels_last ? -1 : 1);
  args.groups = opts.num_groups;
  args.space = 1;
  for (int i = 1; i < x.rank(); ++i)
    if (i != (args.channels_last ? x.rank() - 1 : 1)) args.space *= x.dim(i);
  if (args.channels % args.groups)
    x.refuse("has %lld channels, expected a multiple of opts.num_groups = %lld",
             static_cast<long long>(args.channels), static_cast<long long>(args.groups));
  auto vector = [&](const char* name, const aiter_tensor* tensor) {
    const Arg arg = check.optional(name, tensor);
    if (!arg) return arg;
    if (arg.dtype() != DType::kF32) arg.dtype_of(x);
    arg.shape({args.channels}).contiguous().on_device_of(x);
    args.w_dtype = arg.dtype();
    return arg;
  };
  const Arg w = vector("w", w_), b = vector("b", b_);
  if (w && b) b.dtype_of(w);
  if (w) args.w = w.data();
  if (b) args.b = b.data();
  const int64_t together = args.channels_last ? args.channels / args.groups : args.space;
  const bool aligned16 = is_aligned16(args.x) && is_aligned16(args.y) && is_aligned16(args.w) &&
                         is_aligned16(args.b) && is_aligned16(args.residual) &&
                         is_aligned16(args.sum) && together * dtype_bytes(args.dtype) % 16 == 0;
  const GroupnormProblem problem{args.dtype,  args.batch, args.channels,
                                 args.groups, args.space, args.channels_last != 0,
                                 aligned16};
  dispatch(groupnorm_op, kRows, problem, args, x.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_groupnorm(const aiter_tensor* x, const aiter_tensor* w,
                                        const aiter_tensor* b, const aiter_tensor* y,
                                        const aiter_groupnorm_opts* opts, aiter_stream stream) {
  return aiter::entry("groupnorm", [&] {
    aiter::groupnorm(aiter::Check("groupnorm"), x, w, b, y, nullptr, nullptr, opts, stream);
  });
}

extern "C" aiter_status aiter_add_groupnorm(const aiter_tensor* x, const aiter_tensor* residual_in,
                                            const aiter_tensor* w, const aiter_tensor* b,
                                            const aiter_tensor* y, const aiter_tensor* residual_out,
                                            const aiter_groupnorm_opts* opts, aiter_stream stream) {
  return aiter::entry("add_groupnorm", [&] {
    const aiter::Check check("add_groupnorm");
    check.require(residual_in, "residual_in is NULL, expected a tensor");
    aiter::groupnorm(check, x, w, b, y, residual_in, residual_out, opts, stream);
  });
}
