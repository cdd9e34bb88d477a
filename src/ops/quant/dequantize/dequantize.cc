#include <algorithm>

#include "aiter/quant.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/quant/dequantize/dequantize_args.h"
#include "ops/quant/quantize_checks.h"

namespace aiter {

struct DequantizeProblem {
  DType dtype, code, scale;
  int64_t rows, cols, group_rows, group_cols;
  bool in_packs;  // 16 columns share a scale; rows begin at, and y's are, multiples of 16 bytes
};

AITER_CPU_ROW(dequantize_cpu_simd, DequantizeArgs)
AITER_CPU_ROW(dequantize_cpu_ref, DequantizeArgs)

// See dequantize.hip.
static void dequantize_hip_vec(const DequantizeArgs& given, const Call& call) {
  static constexpr CodeKernels kernels = AITER_CODE_KERNELS(dequantize, hip_vec);
  DequantizeArgs args = given;
  const int64_t packs = (args.out.cols + DequantizeArgs::kColumns - 1) / DequantizeArgs::kColumns;
  int threads = 1;
  while (threads < packs && threads < 256) threads *= 2;
  args.threads_per_row = threads;
  const int64_t rows_per_block = 256 / threads;
  launch(
      kernels.of(args.out.spec.code, args.dtype), call,
      {.x = std::min<int64_t>((args.x_rows.count + rows_per_block - 1) / rows_per_block, 1 << 20),
       .y = std::min<int64_t>((packs + threads - 1) / threads, 256)},
      args);
}

static void dequantize_hip_any(const DequantizeArgs& args, const Call& call) {
  static constexpr Kernel kernel{"dequantize", "dequantize_hip_any"};
  launch(kernel, call,
         {.x = std::min<int64_t>(args.x_rows.count, 1 << 20),
          .y = std::min<int64_t>((args.out.cols + 255) / 256, 256)},
         args);
}

static constexpr Row<DequantizeProblem, DequantizeArgs> kRows[] = {
#include "ops/quant/dequantize/dequantize.def"
};
AITER_OP(quant, dequantize)

static void dequantize(const aiter_tensor* codes, const aiter_tensor* scale, const aiter_tensor* y_,
                       const aiter_quantize_opts* opts_, aiter_stream stream) {
  const Check check("dequantize");
  const auto opts = check.options<aiter_quantize_opts>(opts_, AITER_QUANTIZE_OPTS_INIT);
  const Arg y = check.tensor("y", y_);
  y.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();
  DequantizeArgs args{};
  args.x = y.data();
  args.x_rows = y.rows();
  args.dtype = y.dtype();
  args.out = check_quant_blocks(check, y, y.dim(-1), {"codes", codes}, {"scale", scale}, opts,
                                &args.group_rows);
  const QuantOut& q = args.out;
  const int64_t bytes = dtype_bytes(args.dtype);
  const bool in_packs = (q.group_cols >= q.cols || q.group_cols % DequantizeArgs::kColumns == 0) &&
                        is_aligned16(args.x, args.x_rows, bytes) &&
                        is_aligned16(q.codes, q.codes_rows, 1) && q.cols * bytes % 16 == 0;
  const DequantizeProblem problem{args.dtype, q.spec.code,     q.spec.scale, args.x_rows.count,
                                  q.cols,     args.group_rows, q.group_cols, in_packs};
  dispatch(dequantize_op, kRows, problem, args, y.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_dequantize(const aiter_tensor* codes, const aiter_tensor* scale,
                                         const aiter_tensor* y, const aiter_quantize_opts* opts,
                                         aiter_stream stream) {
  return aiter::entry("dequantize", [&] { aiter::dequantize(codes, scale, y, opts, stream); });
}
