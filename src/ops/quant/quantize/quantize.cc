#include <algorithm>

#include "aiter/quant.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/quant/quantize/quantize_args.h"
#include "ops/quant/quantize/quantize_check.h"

namespace aiter {

struct QuantizeProblem {
  DType dtype, code, scale;
  int64_t rows, cols, group_rows, group_cols;
};

AITER_CPU_ROW(quantize_cpu_simd, QuantizeArgs)
AITER_CPU_ROW(quantize_cpu_ref, QuantizeArgs)

static void quantize_hip_any(const QuantizeArgs& args, const Call& call) {
  static constexpr Kernel kernel{"quantize", "quantize_hip_any"};
  if (args.x_rows.count == 0 || args.cols == 0) return;
  const int64_t groups = ((args.x_rows.count + args.group_rows - 1) / args.group_rows) *
                         ((args.cols + args.group_cols - 1) / args.group_cols);
  const bool by_wave = args.group_rows * args.group_cols <= QuantizeArgs::kWaveGroup;
  const int64_t waves = 256 / device_of(call.device).wave;
  launch(kernel, call,
         {.x = std::min<int64_t>(by_wave ? (groups + waves - 1) / waves : groups, 1 << 20)}, args);
}

static constexpr Row<QuantizeProblem, QuantizeArgs> kRows[] = {
#include "ops/quant/quantize/quantize.def"
};
AITER_OP(quant, quantize)

// A uint8 tensor whose bytes are of the dtype that the options name.
static aiter_tensor with_dtype(const aiter_tensor& t, aiter_dtype dtype) {
  aiter_tensor typed = t;
  if (dtype.bits && dtype_of(t.dtype) == DType::kU8) typed.dtype = dtype;
  return typed;
}

QuantizeArgs check_quantize(const Check& check, const Arg& x, const aiter_tensor* codes_,
                            const aiter_tensor* scale_, const aiter_quantize_opts& opts) {
  check.require(opts.group_rows >= 0 && opts.group_cols >= 0,
                "opts.group_rows and group_cols are %lld and %lld, expected at least 0",
                static_cast<long long>(opts.group_rows), static_cast<long long>(opts.group_cols));
  check.require(opts.mx_round >= AITER_MX_ROUND_DOWN && opts.mx_round <= AITER_MX_ROUND_CEIL,
                "opts.mx_round is %d, expected 0 to 3", opts.mx_round);
  check.require(opts.amax_bound > 0, "opts.amax_bound is %g, expected more than 0",
                opts.amax_bound);
  check.require(opts.global_scale > 0, "opts.global_scale is %g, expected more than 0",
                opts.global_scale);
  check.require(codes_, "codes is NULL, expected a tensor");
  check.require(scale_, "scale is NULL, expected a tensor");
  const aiter_tensor codes_tensor = with_dtype(*codes_, opts.code_dtype);
  const aiter_tensor scale_tensor = with_dtype(*scale_, opts.scale_dtype);

  x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();
  QuantizeArgs args{};
  args.x = x.data();
  args.x_rows = x.rows();
  args.dtype = x.dtype();
  args.cols = x.dim(-1);
  const int64_t rows = args.x_rows.count;

  const Arg codes = check.tensor("codes", &codes_tensor);
  codes
      .dtype({DType::kI8, DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2, DType::kF8E5M2FNUZ,
              DType::kF4E2M1x2})
      .rank(x.rank())
      .unit_last_stride()
      .on_device_of(x);
  const bool packed = codes.dtype() == DType::kF4E2M1x2;
  if (packed && args.cols % 2)
    x.refuse("has %lld columns, expected an even number for codes of float4_e2m1fnx2",
             static_cast<long long>(args.cols));
  for (int i = 0; i < x.rank(); ++i) {
    const int64_t expected = i + 1 == x.rank() && packed ? x.dim(i) / 2 : x.dim(i);
    if (codes.dim(i) != expected)
      codes.refuse("has extent %lld in dimension %d, expected %lld",
                   static_cast<long long>(codes.dim(i)), i, static_cast<long long>(expected));
  }
  args.codes = codes.data();
  args.codes_rows = codes.rows();
  args.spec.code = codes.dtype();

  const Arg scale = check.tensor("scale", &scale_tensor);
  scale.dtype({DType::kF32, DType::kF8E8M0, DType::kF8E4M3FN}).on_device_of(x);
  if (scale.dtype() == DType::kF8E8M0 && codes.dtype() == DType::kI8)
    scale.refuse("has dtype float8_e8m0fnu, expected float32 for codes of int8");
  if (scale.dtype() == DType::kF8E4M3FN && !packed)
    scale.refuse("has dtype float8_e4m3fn, expected float32 or float8_e8m0fnu for codes of %s",
                 dtype_name(codes.dtype()));
  args.group_rows = std::max<int64_t>(1, opts.group_rows ? std::min(opts.group_rows, rows) : rows);
  args.group_cols =
      std::max<int64_t>(1, opts.group_cols ? std::min(opts.group_cols, args.cols) : args.cols);
  if (packed && args.group_cols % 2)
    check.require(args.cols == 0, "opts.group_cols is %lld, expected an even number for fp4 codes",
                  static_cast<long long>(opts.group_cols));
  const int64_t scale_cols = (args.cols + args.group_cols - 1) / args.group_cols;
  args.scale = scale.data();
  if (opts.group_rows == 1) {
    scale.rank(x.rank());
    for (int i = 0; i < x.rank(); ++i) {
      const int64_t expected = i + 1 == x.rank() ? std::max<int64_t>(scale_cols, 0) : x.dim(i);
      if (scale.dim(i) != expected && rows * args.cols > 0)
        scale.refuse("has extent %lld in dimension %d, expected %lld",
                     static_cast<long long>(scale.dim(i)), i, static_cast<long long>(expected));
    }
    args.scale_rows = scale.rows();
    args.scale_col_stride = scale.stride(-1);
  } else if (opts.group_rows == 0 && opts.group_cols == 0) {
    scale.shape({1});
    args.scale_rows = {1, 1, 0, 0};
  } else {
    x.rank(2);
    scale.shape({(rows + args.group_rows - 1) / args.group_rows, scale_cols});
    args.scale_rows = scale.rows();
    args.scale_col_stride = scale.stride(-1);
  }
  args.spec.scale = scale.dtype();
  args.spec.round = static_cast<MxRound>(opts.mx_round);
  args.spec.amax_bound = opts.amax_bound;
  args.spec.global_scale = opts.global_scale;
  args.static_scale = opts.static_scale != 0;
  return args;
}

static void quantize(const aiter_tensor* x_, const aiter_tensor* smooth_,
                     const aiter_tensor* num_rows_, const aiter_tensor* codes,
                     const aiter_tensor* scale, const aiter_quantize_opts* opts_,
                     aiter_stream stream) {
  const Check check("quantize");
  const auto opts = check.options<aiter_quantize_opts>(opts_, AITER_QUANTIZE_OPTS_INIT);
  const Arg x = check.tensor("x", x_);
  QuantizeArgs args = check_quantize(check, x, codes, scale, opts);
  if (const Arg smooth = check.optional("smooth", smooth_)) {
    smooth.dtype({DType::kF32}).shape({args.cols}).contiguous().on_device_of(x);
    args.smooth = static_cast<const float*>(smooth.data());
  }
  if (const Arg num_rows = check.optional("num_rows", num_rows_)) {
    num_rows.dtype({DType::kI32}).shape({1}).on_device_of(x);
    args.num_rows = static_cast<const int32_t*>(num_rows.data());
  }
  const QuantizeProblem problem{args.dtype, args.spec.code,  args.spec.scale, args.x_rows.count,
                                args.cols,  args.group_rows, args.group_cols};
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
