#include <algorithm>

#include "aiter/norm.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/norm/groupnorm/groupnorm_args.h"
#include "ops/norm/groupnorm_checks.h"

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
  const Arg x = check.tensor("x", x_), y = check.tensor("y", y_);
  GroupnormArgs args{};
  args.groups = opts.num_groups;
  args.eps = opts.eps;
  args.channels_last = opts.channels_last != 0;
  args.silu = opts.silu != 0;
  check_groupnorm(
      check, {.x = x_, .residual_in = residual_in, .w = w_, .b = b_, .residual_out = residual_out},
      residual_in, &args);
  y.dtype_of(x).shape_of(x).contiguous().on_device_of(x);
  args.y = y.data();
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
