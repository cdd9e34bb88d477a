#include <algorithm>

#include "aiter/quant.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/quant/partial_transpose/partial_transpose_args.h"

namespace aiter {

struct PartialTransposeProblem {
  int64_t rows, cols;
};

AITER_CPU_ROW(partial_transpose_cpu_simd, PartialTransposeArgs)
AITER_CPU_ROW(partial_transpose_cpu_ref, PartialTransposeArgs)

static void partial_transpose_hip_tile(const PartialTransposeArgs& args, const Call& call) {
  static constexpr Kernel kernel{"partial_transpose", "partial_transpose_hip_tile"};
  constexpr int64_t kTile = PartialTransposeArgs::kTile;
  const int64_t tiles = ((args.rows + kTile - 1) / kTile) * ((args.cols + kTile - 1) / kTile);
  launch(kernel, call, {.x = std::min<int64_t>(tiles, 1 << 20)}, args);
}

static void partial_transpose_hip_any(const PartialTransposeArgs& args, const Call& call) {
  static constexpr Kernel kernel{"partial_transpose", "partial_transpose_hip_any"};
  const int64_t elements = args.rows * args.cols;
  launch(kernel, call, {.x = std::min<int64_t>((elements + 255) / 256, 1 << 20)}, args);
}

static constexpr Row<PartialTransposeProblem, PartialTransposeArgs> kRows[] = {
#include "ops/quant/partial_transpose/partial_transpose.def"
};
AITER_OP(quant, partial_transpose)

static void partial_transpose(const aiter_tensor* x_, const aiter_tensor* num_rows_,
                              const aiter_tensor* y_, const aiter_partial_transpose_opts* opts_,
                              aiter_stream stream) {
  const Check check("partial_transpose");
  const auto opts =
      check.options<aiter_partial_transpose_opts>(opts_, AITER_PARTIAL_TRANSPOSE_OPTS_INIT);
  const Arg x = check.tensor("x", x_), num_rows = check.tensor("num_rows", num_rows_),
            y = check.tensor("y", y_);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16, DType::kU8, DType::kF8E8M0}).rank(2);
  num_rows.dtype({DType::kI32}).shape({1}).on_device_of(x);
  y.dtype_of(x).shape({x.dim(1), x.dim(0)}).contiguous().on_device_of(x);
  PartialTransposeArgs args{};
  args.x = x.data();
  args.num_rows = static_cast<const int32_t*>(num_rows.data());
  args.y = y.data();
  args.rows = x.dim(0), args.cols = x.dim(1);
  args.row_stride = x.stride(0), args.col_stride = x.stride(1);
  args.element_bytes = static_cast<int32_t>(dtype_bytes(x.dtype()));
  const PartialTransposeProblem problem{args.rows, args.cols};
  dispatch(partial_transpose_op, kRows, problem, args, x.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_partial_transpose(const aiter_tensor* x, const aiter_tensor* num_rows,
                                                const aiter_tensor* y,
                                                const aiter_partial_transpose_opts* opts,
                                                aiter_stream stream) {
  return aiter::entry("partial_transpose",
                      [&] { aiter::partial_transpose(x, num_rows, y, opts, stream); });
}
