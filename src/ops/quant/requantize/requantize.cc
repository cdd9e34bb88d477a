#include <algorithm>

#include "aiter/quant.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/quant/quantize_checks.h"
#include "ops/quant/requantize/requantize_args.h"

namespace aiter {

struct RequantizeProblem {
  DType from, to;
  int64_t rows, cols;
};

AITER_CPU_ROW(requantize_cpu_simd, RequantizeArgs)
AITER_CPU_ROW(requantize_cpu_ref, RequantizeArgs)

static void requantize_hip_any(const RequantizeArgs& args, const Call& call) {
  static constexpr Kernel kernel{"requantize", "requantize_hip_any"};
  if (args.rows == 0 || args.to.cols == 0) return;
  const int64_t groups = ((args.rows + args.to_group_rows - 1) / args.to_group_rows) *
                         ((args.to.cols + args.to.group_cols - 1) / args.to.group_cols);
  const bool by_wave = args.to_group_rows * args.to.group_cols <= RequantizeArgs::kWaveGroup;
  const int64_t waves = 256 / device_of(call.device).wave;
  launch(kernel, call,
         {.x = std::min<int64_t>(by_wave ? (groups + waves - 1) / waves : groups, 1 << 20)}, args);
}

static constexpr Row<RequantizeProblem, RequantizeArgs> kRows[] = {
#include "ops/quant/requantize/requantize.def"
};
AITER_OP(quant, requantize)

static void requantize(const aiter_tensor* codes_, const aiter_tensor* scale,
                       const aiter_tensor* out_codes, const aiter_tensor* out_scale,
                       const aiter_quantize_opts* from_, const aiter_quantize_opts* to_,
                       aiter_stream stream) {
  const Check check("requantize"), from_check("requantize: from");
  const auto from = from_check.options<aiter_quantize_opts>(from_, AITER_QUANTIZE_OPTS_INIT);
  const auto to = check.options<aiter_quantize_opts>(to_, AITER_QUANTIZE_OPTS_INIT);
  check.require(!from.smooth_map && !to.smooth_map, "opts.smooth_map is given, expected NULL");
  const Arg codes = check.tensor("codes", codes_);
  codes.min_rank(1);
  const DType given = codes.dtype(), code = dtype_of(from.code_dtype);
  const int bits = code_bits(given == DType::kU8 && from.code_dtype.bits ? code : given);
  const int64_t cols = codes.dim(-1) * 8 / bits;
  RequantizeArgs args{};
  args.from = check_quant_blocks(from_check, codes, cols, {"codes", codes_}, {"scale", scale}, from,
                                 &args.from_group_rows);
  args.to = check_quant_blocks(check, codes, cols, {"out_codes", out_codes},
                               {"out_scale", out_scale}, to, &args.to_group_rows);
  args.rows = args.from.codes_rows.count;
  const RequantizeProblem problem{args.from.spec.code, args.to.spec.code, args.rows, cols};
  dispatch(requantize_op, kRows, problem, args, codes.device(), stream, to.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_requantize(const aiter_tensor* codes, const aiter_tensor* scale,
                                         const aiter_tensor* out_codes,
                                         const aiter_tensor* out_scale,
                                         const aiter_quantize_opts* from,
                                         const aiter_quantize_opts* opts, aiter_stream stream) {
  return aiter::entry("requantize", [&] {
    aiter::requantize(codes, scale, out_codes, out_scale, from, opts, stream);
  });
}
