#include <algorithm>

#include "aiter/norm.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/norm/groupnorm/groupnorm_args.h"
#include "ops/norm/groupnorm/groupnorm_moments.h"
#include "ops/norm/groupnorm_checks.h"

namespace aiter {

struct GroupnormProblem {
  DType dtype;
  int64_t batch, channels, groups, space;
  bool channels_last;
  int pack_bytes;  // 16, 4 or 0: the neighbours in memory that share a channel, or a group, come in such
};

AITER_CPU_ROW(groupnorm_cpu_simd, GroupnormArgs)
AITER_CPU_ROW(groupnorm_cpu_ref, GroupnormArgs)

// Groups that a block takes together. With channels last a group's part of a place can be less than a
// line of memory, which blocks then read several times: so there are as many as fill one, unless
// most of the GPU would be idle with a few images (not those that there are: bits of an image would
// depend on their number).
static int groupnorm_bundle(const GroupnormArgs& args, int64_t pack, int64_t most_team,
                            int64_t multiprocessors) {
  constexpr int64_t kImages = 4;
  const int64_t in_group = args.channels / args.groups, bytes = in_group * dtype_bytes(args.dtype);
  const int64_t groups = kImages * args.groups;
  int bundle = 1;
  for (int b = 2; bundle * bytes < 128 && b <= 32; ++b) {
    if (args.groups % b || b * in_group / pack > GroupnormArgs::kThreads) continue;
    if (bundle * bytes >= 32 && groups / b * most_team < multiprocessors) break;
    bundle = b;
  }
  return bundle;
}

// `places` is for channels last, with threads that keep to their channels; either may be null.
static void groupnorm_hip(const FloatKernels* groups, const FloatKernels* places, int64_t pack,
                          const GroupnormArgs& given, const Call& call) {
  if (given.channels == 0 || given.space == 0) return;
  GroupnormArgs args = given;
  const Device& device = device_of(call.device);
  const int64_t in_group = args.channels / args.groups, most_team = largest_team(call);
  const bool by_places = places && args.channels_last;
  args.bundle = by_places ? groupnorm_bundle(args, pack, most_team, device.multiprocessors) : 1;
  const int64_t bundles = args.batch * (args.groups / args.bundle);
  const int64_t packs = args.bundle * in_group * args.space / pack;
  constexpr int64_t most_threads = 256;  // more take longer in step
  constexpr int64_t kPacks = GroupnormArgs::kPacks;
  // Parts in which each thread has as many packs as it loads at once.
  args.parts = 1;
  while (args.parts < most_team && packs > args.parts * most_threads * kPacks) args.parts *= 2;
  const int64_t of_part = (packs + args.parts - 1) / args.parts;
  const int64_t least = by_places ? args.bundle * in_group / pack : 1;
  const int64_t threads = std::min<int64_t>(
      (std::max(std::min(of_part, std::max(least, most_threads)), least) + 63) / 64 * 64,
      GroupnormArgs::kThreads);
  const int64_t a_step = (by_places ? threads / least * least : threads) * args.parts;
  const int64_t in_thread = ((packs + a_step - 1) / a_step + kPacks - 1) / kPacks * kPacks;
  const int64_t bytes = threads * pack * dtype_bytes(args.dtype);  // of a pack of each thread
  const int64_t most_kept = GroupnormArgs::kThreads * kPacks * 1024 / device.wave / bytes;
  // A team that keeps all its parts and fills the GPU.
  const int64_t fill =
      std::min(packs, device.multiprocessors * 1024 / std::max<int64_t>(bundles, 1));
  auto keeps = [&](int64_t team) {
    return args.moments || in_thread * (args.parts / team) <= most_kept;
  };
  int64_t team = 1;
  while (team < args.parts && (!keeps(team) || fill > team * most_threads)) team *= 2;
  if (!args.moments)
    args.kept = static_cast<int32_t>(
        std::min(in_thread * (args.parts / team), most_kept / kPacks * kPacks));
  constexpr int64_t kWidth = 1 << 20;  // of a grid, in bundles
  launch((by_places ? *places : *groups)[args.dtype], call,
         {.x = std::min(bundles, kWidth) * team,
          .y = (bundles + kWidth - 1) / kWidth,
          .threads = static_cast<int>(threads),
          .shared_bytes = static_cast<int>(args.kept * bytes),
          .team = static_cast<int>(team)},
         args);
}

static void groupnorm_hip_vec(const GroupnormArgs& args, const Call& call) {
  static constexpr FloatKernels groups = AITER_FLOAT_KERNELS(groupnorm, hip_vec),
                                places = AITER_FLOAT_KERNELS(groupnorm, hip_vec_places);
  groupnorm_hip(&groups, &places, 16 / dtype_bytes(args.dtype), args, call);
}

static void groupnorm_hip_word(const GroupnormArgs& args, const Call& call) {
  static constexpr FloatKernels places = AITER_FLOAT_KERNELS(groupnorm, hip_word_places);
  groupnorm_hip(nullptr, &places, 4 / dtype_bytes(args.dtype), args, call);
}

static void groupnorm_hip_any(const GroupnormArgs& args, const Call& call) {
  static constexpr FloatKernels groups = AITER_FLOAT_KERNELS(groupnorm, hip_any);
  groupnorm_hip(&groups, nullptr, 1, args, call);
}

static constexpr Row<GroupnormProblem, GroupnormArgs> kRows[] = {
#include "ops/norm/groupnorm/groupnorm.def"
};
AITER_OP(norm, groupnorm)

static GroupnormProblem groupnorm_problem(const GroupnormArgs& args) {
  const int64_t bytes = dtype_bytes(args.dtype);
  const int64_t together = args.channels_last ? args.channels / args.groups : args.space;
  auto in_packs_of = [&](int64_t pack_bytes) {
    auto aligned = [](const void* data, int64_t to) {
      return !data || reinterpret_cast<uintptr_t>(data) % std::min<int64_t>(to, 16) == 0;
    };
    const int64_t of_vector = pack_bytes / bytes * dtype_bytes(args.w_dtype);
    return together * bytes % pack_bytes == 0 && aligned(args.x, pack_bytes) &&
           aligned(args.y, pack_bytes) && aligned(args.residual, pack_bytes) &&
           aligned(args.sum, pack_bytes) && aligned(args.w, of_vector) &&
           aligned(args.b, of_vector);
  };
  return {args.dtype,
          args.batch,
          args.channels,
          args.groups,
          args.space,
          args.channels_last != 0,
          in_packs_of(16)  ? 16
          : in_packs_of(4) ? 4
                           : 0};
}

void groupnorm_moments(const GroupnormArgs& given, float* moments, bool plain, const Call& call) {
  GroupnormArgs args = given;
  args.moments = moments;
  args.w = args.b = args.y = nullptr;
  if (plain) return groupnorm_hip_any(args, call);
  const GroupnormProblem problem = groupnorm_problem(args);
  for (const auto& row : kRows)
    if (row.info.targets & call.machine.target && row.accepts(problem, call.machine))
      return row.run(args, call);
}

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
  const GroupnormProblem problem = groupnorm_problem(args);
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
