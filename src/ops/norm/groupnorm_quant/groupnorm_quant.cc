#include <algorithm>

#include "aiter/norm.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/norm/groupnorm/groupnorm_moments.h"
#include "ops/norm/groupnorm_checks.h"
#include "ops/norm/groupnorm_quant/groupnorm_quant_args.h"
#include "ops/quant/quantize_checks.h"

namespace aiter {

struct GroupnormQuantProblem {
  DType dtype, code, scale;
  int64_t batch, channels, groups, space, rows, cols, group_cols;
  bool channels_last;
  bool aligned16;     // rows begin at, and are, multiples of 16 bytes
  bool in_registers;  // of at most kMaxCols columns, and fewer than 2^31
};

AITER_CPU_ROW(groupnorm_quant_cpu_simd, GroupnormQuantArgs)
AITER_CPU_ROW(groupnorm_quant_cpu_ref, GroupnormQuantArgs)

// Two launches: the moments of all groups, then rows.
static void groupnorm_quant_hip_vec(const GroupnormQuantArgs& given, const Call& call) {
  static constexpr QuantKernels first = AITER_QUANT_KERNELS(groupnorm_quant, hip_vec),
                                last = AITER_QUANT_KERNELS(groupnorm_quant, hip_vec_last);
  if (given.rows == 0 || given.out.cols == 0) return;
  const GroupnormArgs& norm = given.norm;
  groupnorm_moments(norm, given.moments, false, call);
  GroupnormQuantArgs args = given;
  const Device& device = device_of(call.device);
  constexpr int64_t kColumns = GroupnormQuantArgs::kColumns;
  const int64_t wave = device.wave, packs = (args.out.cols + kColumns - 1) / kColumns;
  const int64_t most =
      norm.channels_last ? GroupnormQuantArgs::kChunksLast : GroupnormQuantArgs::kChunks;
  // Neighbouring lanes have neighbouring packs, as far as there are any.
  args.threads_per_row = quant_threads_per_row(
      args.out, kColumns, std::min<int64_t>(most, (packs + wave - 1) / wave), wave);
  const int64_t parallel = args.threads_per_row <= wave ? 128 / args.threads_per_row : 1;
  // Rows share what a thread knows of its columns; yet blocks fill the GPU.
  const int64_t fill = device.multiprocessors * 16 * parallel;
  args.rows_of_thread =
      norm.channels_last ? static_cast<int32_t>(std::clamp<int64_t>(args.rows / fill, 1, 8)) : 1;
  const int64_t slots = (args.rows + args.rows_of_thread - 1) / args.rows_of_thread;
  const bool plain = !norm.y && !args.smooth;
  launch((norm.channels_last ? last : first).of(args.out, norm.dtype, plain), call,
         quant_grid(slots, args.threads_per_row, wave), args);
}

static void groupnorm_quant_hip_any(const GroupnormQuantArgs& args, const Call& call) {
  static constexpr Kernel kernel{"groupnorm_quant", "groupnorm_quant_hip_any"};
  if (args.rows == 0 || args.out.cols == 0) return;
  groupnorm_moments(args.norm, args.moments, true, call);
  const QuantOut& q = args.out;
  const int64_t groups = args.rows * ((q.cols + q.group_cols - 1) / q.group_cols);
  const bool by_wave = q.group_cols <= GroupnormQuantArgs::kWaveGroup;
  const int64_t waves = 256 / device_of(call.device).wave;
  launch(kernel, call,
         {.x = std::min<int64_t>(by_wave ? (groups + waves - 1) / waves : groups, 1 << 20)}, args);
}

static constexpr Row<GroupnormQuantProblem, GroupnormQuantArgs> kRows[] = {
#include "ops/norm/groupnorm_quant/groupnorm_quant.def"
};
AITER_OP(norm, groupnorm_quant)

}  // namespace aiter

extern "C" aiter_status aiter_groupnorm_quant(
    const aiter_tensor* x_, const aiter_tensor* residual_in, const aiter_tensor* w,
    const aiter_tensor* b, const aiter_tensor* smooth_, const aiter_tensor* y,
    const aiter_tensor* y_scale, const aiter_tensor* moments_, const aiter_tensor* unquantized_,
    const aiter_tensor* residual_out, const aiter_groupnorm_quant_opts* opts_,
    aiter_stream stream) {
  return aiter::entry("groupnorm_quant", [&] {
    using namespace aiter;
    const Check check("groupnorm_quant");
    const auto opts =
        check.options<aiter_groupnorm_quant_opts>(opts_, AITER_GROUPNORM_QUANT_OPTS_INIT);
    GroupnormQuantArgs args{};
    GroupnormArgs& norm = args.norm;
    norm.groups = opts.num_groups;
    norm.eps = opts.eps;
    norm.channels_last = opts.channels_last != 0;
    norm.silu = opts.silu != 0;
    check_groupnorm(
        check, {.x = x_, .residual_in = residual_in, .w = w, .b = b, .residual_out = residual_out},
        residual_in || residual_out, &norm);
    const Arg x = check.tensor("x", x_);
    args.out = check_quant_out(check, x, x.dim(-1), {"y", y}, {"y_scale", y_scale}, opts.quant);
    const Arg moments = check.tensor("moments", moments_);
    moments.dtype({DType::kF32}).shape({norm.batch, norm.groups, 2}).contiguous();
    moments.on_device_of(x);
    args.moments = static_cast<float*>(moments.data());
    if (const Arg smooth = check.optional("smooth", smooth_)) {
      smooth.dtype({DType::kF32}).shape({norm.channels}).contiguous().on_device_of(x);
      args.smooth = static_cast<const float*>(smooth.data());
    }
    if (const Arg copy = check.optional("unquantized", unquantized_)) {
      if (copy.dtype() != DType::kF32) copy.dtype_of(x);
      copy.shape_of(x).contiguous().on_device_of(x);
      if (copy.data() == x.data() || copy.data() == norm.residual || copy.data() == norm.sum)
        check.require(
            x.elements() == 0,
            "unquantized is in the memory of x or a residual, expected memory of its own");
      norm.y = copy.data(), args.y_dtype = copy.dtype();
    }
    if (x.rank() == 2) norm.channels_last = 1;  // which it is
    const int64_t cols = args.out.cols;
    args.rows_of_plane = norm.channels_last ? norm.space : cols ? norm.space / cols : 0;
    args.rows = norm.batch * (norm.channels_last ? 1 : norm.channels) * args.rows_of_plane;
    const bool aligned16 = is_aligned16(norm.x) && is_aligned16(norm.residual) &&
                           is_aligned16(norm.sum) && is_aligned16(norm.y) && is_aligned16(norm.w) &&
                           is_aligned16(norm.b) && is_aligned16(args.smooth) &&
                           cols * dtype_bytes(norm.dtype) % 16 == 0;
    const bool in_registers = cols <= GroupnormQuantArgs::kMaxCols && args.rows <= INT32_MAX;
    const GroupnormQuantProblem problem{norm.dtype,
                                        args.out.spec.code,
                                        args.out.spec.scale,
                                        norm.batch,
                                        norm.channels,
                                        norm.groups,
                                        norm.space,
                                        args.rows,
                                        cols,
                                        args.out.group_cols,
                                        norm.channels_last != 0,
                                        aligned16,
                                        in_registers};
    dispatch(groupnorm_quant_op, kRows, problem, args, x.device(), stream, opts.flags);
  });
}
