#include <algorithm>

#include "aiter/norm.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/norm/rmsnorm/rmsnorm_args.h"

namespace aiter {

struct RmsnormProblem {
  DType dtype;
  int64_t tokens, hidden;
  bool aligned16;  // rows begin at, and are, multiples of 16 bytes
};

AITER_CPU_ROW(rmsnorm_cpu_simd, RmsnormArgs)
AITER_CPU_ROW(rmsnorm_cpu_ref, RmsnormArgs)

// See rmsnorm.hip. Each thread takes `chunks` packs of a row.
static void rmsnorm_hip(const FloatKernels& norm, const FloatKernels& add_norm, int pack,
                        int chunks, RmsnormArgs args, const Call& call) {
  if (args.hidden == 0) return;
  const int64_t wave = device_of(call.device).wave;
  const int64_t packs = (args.hidden + pack - 1) / pack;
  int64_t threads = 1;
  while (threads * chunks < packs && threads < wave) threads *= 2;
  if (threads * chunks < packs)
    threads = std::min<int64_t>((packs + chunks * wave - 1) / (chunks * wave) * wave, 512);
  args.threads_per_row = static_cast<int32_t>(threads);
  const int64_t block = threads <= wave ? 128 : threads;
  const int64_t rows_per_block = block / threads;
  const int64_t blocks = (args.x_rows.count + rows_per_block - 1) / rows_per_block;
  constexpr int64_t kMaxBlocks = 1 << 20;  // more rows than this go round again
  const FloatKernels& kernels = args.residual_in ? add_norm : norm;
  launch(kernels[args.dtype], call,
         {.x = std::min(blocks, kMaxBlocks), .threads = static_cast<int>(block)}, args);
}

static void rmsnorm_hip_vec(const RmsnormArgs& args, const Call& call) {
  static constexpr FloatKernels norm = AITER_FLOAT_KERNELS(rmsnorm, hip_vec),
                                add_norm = AITER_FLOAT_KERNELS(rmsnorm, hip_vec_add);
  rmsnorm_hip(norm, add_norm, static_cast<int>(16 / dtype_bytes(args.dtype)), 4, args, call);
}

// For rows so long that more threads would be left with too few registers.
static void rmsnorm_hip_long(const RmsnormArgs& args, const Call& call) {
  static constexpr FloatKernels norm = AITER_FLOAT_KERNELS(rmsnorm, hip_long),
                                add_norm = AITER_FLOAT_KERNELS(rmsnorm, hip_long_add);
  rmsnorm_hip(norm, add_norm, static_cast<int>(16 / dtype_bytes(args.dtype)), 8, args, call);
}

static void rmsnorm_hip_any(const RmsnormArgs& args, const Call& call) {
  static constexpr FloatKernels norm = AITER_FLOAT_KERNELS(rmsnorm, hip_any),
                                add_norm = AITER_FLOAT_KERNELS(rmsnorm, hip_any_add);
  rmsnorm_hip(norm, add_norm, 1, 4, args, call);
}

static constexpr Row<RmsnormProblem, RmsnormArgs> kRows[] = {
#include "ops/norm/rmsnorm/rmsnorm.def"
};
AITER_OP(norm, rmsnorm)

// Both entry points: add says whether the residual is there.
static void rmsnorm(const Check& check, const aiter_tensor* x_, const aiter_tensor* residual_in_,
                    const aiter_tensor* w_, const aiter_tensor* y_,
                    const aiter_tensor* residual_out_, bool add, const aiter_rmsnorm_opts* opts_,
                    aiter_stream stream) {
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
  const int64_t bytes = dtype_bytes(x.dtype());
  bool aligned16 = is_aligned16(args.w) && hidden * bytes % 16 == 0;
  auto check_alignment = [&](const void* data, const Rows& rows) {
    aligned16 = aligned16 && is_aligned16(data, rows, bytes);
  };
  check_alignment(args.x, args.x_rows);
  check_alignment(args.y, args.y_rows);
  check_alignment(args.residual_in, args.residual_in_rows);
  check_alignment(args.residual_out, args.residual_out_rows);
  const RmsnormProblem problem{x.dtype(), args.x_rows.count, hidden, aligned16};
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
