#include <algorithm>

#include "aiter/norm.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/norm/norm_backward/norm_backward_args.h"
#include "ops/norm/row_norm_checks.h"

namespace aiter {

AITER_CPU_ROW(norm_backward_cpu_simd, NormBackwardArgs)
AITER_CPU_ROW(norm_backward_cpu_ref, NormBackwardArgs)

// Enough to fill a GPU with rows, and few enough that their sums are little beside the rows.
static int64_t gpu_slots(int64_t rows, int64_t hidden) {
  const int64_t narrow = std::min<int64_t>(2048, (1 << 19) / std::max<int64_t>(hidden, 1));
  return std::min(rows, std::max<int64_t>(512, narrow));
}

static int64_t cpu_slots(int64_t rows) { return std::min<int64_t>((rows + 7) / 8, 64); }

// At least slots * hidden of either kind, and never less for a larger problem.
static int64_t partial_floats(int64_t rows, int64_t hidden) {
  const int64_t most = std::max(512 * hidden, std::min<int64_t>(2048 * hidden, 1 << 19));
  return std::min(rows * hidden, most);
}

// The kernels of a row: with sums and without.
struct NormBackwardKernels {
  FloatKernels rms, rms_dx, layer, layer_dx;
};

static void norm_backward_hip(const NormBackwardKernels& kernels, int64_t pack, int chunks,
                              NormBackwardArgs args, const Call& call) {
  static constexpr FloatKernels sum = AITER_FLOAT_KERNELS(norm_backward, hip_sum);
  if (args.hidden == 0) return;
  const int64_t rows = args.x_rows.count;
  args.slots = args.sums() ? gpu_slots(rows, args.hidden) : rows;
  args.threads_per_row = row_norm_threads(args.hidden, pack, chunks, call);
  const FloatKernels& with_sums = args.kind == NormKind::kRms ? kernels.rms : kernels.layer;
  const FloatKernels& dx_alone = args.kind == NormKind::kRms ? kernels.rms_dx : kernels.layer_dx;
  Grid grid = row_grid(args.slots, args.threads_per_row, call);
  const int64_t a_layer = grid.x * (grid.threads / args.threads_per_row);  // of the grid: slots
  grid.y = (args.slots + a_layer - 1) / std::max<int64_t>(a_layer, 1);
  launch((args.sums() ? with_sums : dx_alone)[args.dtype], call, grid, args);
  NormBackwardArgs bias = args;
  bias.dw = bias.db = args.dx_bias = nullptr;
  bias.partial = args.dx_bias_partial();
  const int64_t blocks = (args.hidden + 31) / 32;
  if (args.sums())
    launch(sum[args.w_dtype], call, {.x = blocks, .y = args.sums(), .threads = 1024}, args);
  if (bias.sums()) launch(sum[args.dx_bias_dtype], call, {.x = blocks, .threads = 1024}, bias);
}

#define AITER_NORM_BACKWARD_ROW(row, pack, chunks)                                  \
  static void norm_backward_##row(const NormBackwardArgs& args, const Call& call) { \
    static constexpr NormBackwardKernels kernels = {                                \
        AITER_FLOAT_KERNELS(norm_backward, row##_rms),                              \
        AITER_FLOAT_KERNELS(norm_backward, row##_rms_dx),                           \
        AITER_FLOAT_KERNELS(norm_backward, row##_layer),                            \
        AITER_FLOAT_KERNELS(norm_backward, row##_layer_dx)};                        \
    norm_backward_hip(kernels, pack, chunks, args, call);                           \
  }
AITER_NORM_BACKWARD_ROW(hip_vec, 16 / dtype_bytes(args.dtype), 2)
AITER_NORM_BACKWARD_ROW(hip_any, 1, 4)

static constexpr Row<RowNormProblem, NormBackwardArgs> kRows[] = {
#include "ops/norm/norm_backward/norm_backward.def"
};
AITER_OP(norm, norm_backward)

static void norm_backward(const Check& check, const aiter_tensor* dy_, const aiter_tensor* x_,
                          const aiter_tensor* w_, const aiter_tensor* dresidual_,
                          const aiter_tensor* dx_, const aiter_tensor* dw_, const aiter_tensor* db_,
                          const aiter_norm_backward_opts* opts_, aiter_stream stream) {
  const auto opts = check.options<aiter_norm_backward_opts>(opts_, AITER_NORM_BACKWARD_OPTS_INIT);
  check.require(opts.kind == AITER_NORM_RMS || opts.kind == AITER_NORM_LAYER,
                "opts.kind is %d, expected AITER_NORM_RMS or AITER_NORM_LAYER", opts.kind);
  check.require(opts.eps >= 0, "opts.eps is %g, expected at least 0", opts.eps);
  NormBackwardArgs args{};
  args.kind = opts.kind == AITER_NORM_RMS ? NormKind::kRms : NormKind::kLayer;
  if (args.kind == NormKind::kLayer)
    check.require(!opts.gemma, "opts.gemma is %d, expected 0 for a layer norm", opts.gemma);
  args.eps = opts.eps, args.gemma = opts.gemma != 0;

  const Arg x = check.tensor("x", x_);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();
  const int64_t hidden = x.dim(-1), bytes = dtype_bytes(x.dtype());
  args.hidden = hidden, args.dtype = args.w_dtype = x.dtype();
  bool aligned16 = hidden * bytes % 16 == 0;
  auto rows_of = [&](const Arg& arg, Rows* rows) {
    arg.dtype_of(x).shape_of(x).unit_last_stride().on_device_of(x);
    *rows = arg.rows();
    aligned16 = aligned16 && is_aligned16(arg.data(), *rows, bytes);
    return arg.data();
  };
  args.x = rows_of(x, &args.x_rows);
  args.dy = rows_of(check.tensor("dy", dy_), &args.dy_rows);
  if (const Arg dresidual = check.optional("dresidual", dresidual_))
    args.dresidual = rows_of(dresidual, &args.dresidual_rows);
  args.dx = rows_of(check.tensor("dx", dx_), &args.dx_rows);

  Arg first;  // of w, dw and db, which have one dtype
  auto vector = [&](const char* name, const aiter_tensor* tensor) -> void* {
    const Arg arg = check.optional(name, tensor);
    if (!arg) return nullptr;
    if (first)
      arg.dtype_of(first);
    else if (arg.dtype() != DType::kF32)
      arg.dtype_of(x);
    arg.shape({hidden}).contiguous().on_device_of(x);
    aligned16 = aligned16 && is_aligned16(arg.data());
    first = arg, args.w_dtype = arg.dtype();
    return arg.data();
  };
  args.w = vector("w", w_), args.dw = vector("dw", dw_), args.db = vector("db", db_);
  if (const Arg dx_bias = check.optional("opts.dx_bias", opts.dx_bias)) {
    if (dx_bias.dtype() != DType::kF32) dx_bias.dtype_of(x);
    dx_bias.shape({hidden}).contiguous().on_device_of(x);
    args.dx_bias = dx_bias.data(), args.dx_bias_dtype = dx_bias.dtype();
  }
  if (args.kind == NormKind::kRms)
    check.require(!args.db, "db is given, expected NULL for an RMS norm, which has no bias");

  args.slots = cpu_slots(args.x_rows.count);
  const int64_t floats = partial_floats(args.x_rows.count, hidden) * args.sums();
  if (floats) {
    if (!opts.workspace || opts.workspace_bytes < static_cast<uint64_t>(floats * 4) ||
        !is_aligned16(opts.workspace))
      fail(AITER_WORKSPACE_TOO_SMALL,
           "norm_backward: opts.workspace has %llu bytes at %p, expected %lld at a multiple of 16",
           static_cast<unsigned long long>(opts.workspace_bytes), opts.workspace,
           static_cast<long long>(floats * 4));
    args.partial = static_cast<float*>(opts.workspace);
  }
  const RowNormProblem problem{x.dtype(), args.x_rows.count, hidden, aligned16};
  dispatch(norm_backward_op, kRows, problem, args, x.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_norm_backward(const aiter_tensor* dy, const aiter_tensor* x,
                                            const aiter_tensor* w, const aiter_tensor* dresidual,
                                            const aiter_tensor* dx, const aiter_tensor* dw,
                                            const aiter_tensor* db,
                                            const aiter_norm_backward_opts* opts,
                                            aiter_stream stream) {
  return aiter::entry("norm_backward", [&] {
    aiter::norm_backward(aiter::Check("norm_backward"), dy, x, w, dresidual, dx, dw, db, opts,
                         stream);
  });
}

extern "C" aiter_status aiter_norm_backward_workspace(const aiter_tensor* x, int32_t gradients,
                                                      uint64_t* bytes) {
  return aiter::entry("norm_backward_workspace", [&] {
    const aiter::Check check("norm_backward_workspace");
    check.require(gradients >= 0 && gradients <= 3, "gradients is %d, expected 0 to 3", gradients);
    check.require(bytes, "bytes is NULL, expected where to store the size");
    const aiter::Arg arg = check.tensor("x", x);
    arg.min_rank(1);
    *bytes =
        static_cast<uint64_t>(aiter::partial_floats(arg.rows().count, arg.dim(-1)) * 4 * gradients);
  });
}
