#include <algorithm>

#include "aiter/quant.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/quant/quantize/quantize_args.h"
#include "ops/quant/quantize_checks.h"

namespace aiter {

struct QuantizeProblem {
  DType dtype, code, scale;
  int64_t rows, cols, group_rows, group_cols;
  bool tensor_scale;  // one f32 scale for all of x is to be found
  bool within_rows;   // scales are given, or of groups of 16, 32, 64, 128 or all of a row
  bool aligned16;     // rows begin at, and are, multiples of 16 bytes
};

AITER_CPU_ROW(quantize_cpu_simd, QuantizeArgs)
AITER_CPU_ROW(quantize_cpu_ref, QuantizeArgs)

// See quantize.hip. Each thread takes up to two times its columns of a row; one where there are so
// few rows that latency decides.
static void quantize_hip_vec(const QuantizeArgs& given, const Call& call) {
  static constexpr CodeKernels one = AITER_CODE_KERNELS(quantize, hip_vec_one);
  static constexpr CodeKernels many = AITER_CODE_KERNELS(quantize, hip_vec_many);
  QuantizeArgs args = given;
  if (args.x_rows.count == 0 || args.out.cols == 0) return;
  const int64_t wave = device_of(call.device).wave;
  const int64_t chunks = args.x_rows.count < 512 ? 1 : 2;
  args.threads_per_row = quant_threads_per_row(args.out, QuantizeArgs::kColumns, chunks, wave);
  const CodeKernels& kernels = args.out.group_cols < args.out.cols ? many : one;
  const Kernel& kernel = args.smooth || args.smooth_map
                             ? kernels.any[args.dtype]
                             : kernels.of(args.out.spec.code, args.dtype);
  launch(kernel, call, quant_grid(args.x_rows.count, args.threads_per_row, wave), args);
}

// All blocks look for the largest magnitude of x; then its scale is a given one.
static void quantize_hip_tensor(const QuantizeArgs& args, const Call& call) {
  static constexpr Kernel zero{"quantize", "quantize_hip_tensor_zero"};
  static constexpr FloatKernels amax = AITER_FLOAT_KERNELS(quantize, hip_tensor_amax);
  static constexpr Kernel scale{"quantize", "quantize_hip_tensor_scale"};
  if (args.x_rows.count == 0 || args.out.cols == 0) return;
  const int64_t packs = args.out.cols * dtype_bytes(args.dtype) / 16;
  launch(zero, call, {.threads = 64}, args);
  launch(amax[args.dtype], call,
         {.x = std::min<int64_t>(args.x_rows.count, 2048),
          .y = std::clamp<int64_t>((packs + 1023) / 1024, 1, 64)},
         args);
  launch(scale, call, {.threads = 64}, args);
  QuantizeArgs given = args;
  given.out.static_scale = 1;
  quantize_hip_vec(given, call);
}

static void quantize_hip_any(const QuantizeArgs& args, const Call& call) {
  static constexpr Kernel kernel{"quantize", "quantize_hip_any"};
  if (args.x_rows.count == 0 || args.out.cols == 0) return;
  const int64_t groups = ((args.x_rows.count + args.group_rows - 1) / args.group_rows) *
                         ((args.out.cols + args.out.group_cols - 1) / args.out.group_cols);
  const bool by_wave = args.group_rows * args.out.group_cols <= QuantizeArgs::kWaveGroup;
  const int64_t waves = 256 / device_of(call.device).wave;
  launch(kernel, call,
         {.x = std::min<int64_t>(by_wave ? (groups + waves - 1) / waves : groups, 1 << 20)}, args);
}

static constexpr Row<QuantizeProblem, QuantizeArgs> kRows[] = {
#include "ops/quant/quantize/quantize.def"
};
AITER_OP(quant, quantize)

static void quantize(const aiter_tensor* x_, const aiter_tensor* smooth_,
                     const aiter_tensor* num_rows_, const aiter_tensor* codes,
                     const aiter_tensor* scale, const aiter_quantize_opts* opts_,
                     aiter_stream stream) {
  const Check check("quantize");
  const auto opts = check.options<aiter_quantize_opts>(opts_, AITER_QUANTIZE_OPTS_INIT);
  const Arg x = check.tensor("x", x_);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();
  QuantizeArgs args{};
  args.x = x.data();
  args.x_rows = x.rows();
  args.dtype = x.dtype();
  args.out = check_quant_blocks(check, x, x.dim(-1), {"codes", codes}, {"scale", scale}, opts,
                                &args.group_rows);
  args.num_rows_factor = opts.num_rows_factor;
  const Arg smooth = check.optional("smooth", smooth_);
  const Arg smooth_map = check.optional("opts.smooth_map", opts.smooth_map);
  if (smooth) {
    smooth.dtype({DType::kF32}).contiguous().on_device_of(x);
    if (smooth_map)
      smooth.shape({-1, args.out.cols});
    else
      smooth.shape({args.out.cols});
    args.smooth = static_cast<const float*>(smooth.data());
  }
  if (smooth_map) {
    check.require(static_cast<bool>(smooth), "opts.smooth_map is given, expected smooth with it");
    check.require(opts.group_rows == 1, "opts.group_rows is %lld, expected 1 with a smooth_map",
                  static_cast<long long>(opts.group_rows));
    smooth_map.dtype({DType::kI32}).rank(x.rank() - 1).on_device_of(x);
    for (int i = 0; i < smooth_map.rank(); ++i)
      if (smooth_map.dim(i) != x.dim(i))
        smooth_map.refuse("has extent %lld in dimension %d, expected x's %lld",
                          static_cast<long long>(smooth_map.dim(i)), i,
                          static_cast<long long>(x.dim(i)));
    args.smooth_map = static_cast<const int32_t*>(smooth_map.data());
    args.smooth_map_rows = smooth_map.rows(0);
    args.experts = smooth.dim(0);
  }
  if (const Arg num_rows = check.optional("num_rows", num_rows_)) {
    num_rows.dtype({DType::kI32}).shape({1}).on_device_of(x);
    args.num_rows = static_cast<const int32_t*>(num_rows.data());
  }
  const QuantOut& q = args.out;
  const int64_t bytes = dtype_bytes(args.dtype);
  const bool within_rows = args.group_rows == 1
                               ? q.group_cols == q.cols || quant_group_of_lanes(q.group_cols)
                               : opts.group_rows == 0 && opts.group_cols == 0 && q.static_scale;
  const bool aligned16 = is_aligned16(args.x, args.x_rows, bytes) && is_aligned16(args.smooth) &&
                         q.cols * bytes % 16 == 0;
  const bool tensor_scale = opts.group_rows == 0 && opts.group_cols == 0 && !q.static_scale &&
                            q.spec.scale == DType::kF32;
  const QuantizeProblem problem{args.dtype,  q.spec.code,     q.spec.scale, args.x_rows.count,
                                q.cols,      args.group_rows, q.group_cols, tensor_scale,
                                within_rows, aligned16};
  dispatch(quantize_op, kRows, problem, args, x.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_quantize(const aiter_tensor* x, const aiter_tensor* smooth,
                                       const aiter_tensor* num_rows, const aiter_tensor* codes,
                                       const aiter_tensor* scale, const aiter_quantize_opts* opts,
                                       aiter_stream stream) {
  return aiter::entry("quantize",
                      [&] { aiter::quantize(x, smooth, num_rows, codes, scale, opts, stream); });
}
