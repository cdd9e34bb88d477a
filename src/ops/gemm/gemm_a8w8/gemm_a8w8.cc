#include <algorithm>

#include "aiter/gemm.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "ops/gemm/gemm_a8w8/gemm_a8w8_args.h"
#include "ops/gemm/gemm_checks.h"

namespace aiter {

struct GemmA8w8Problem {
  int64_t m, n, k;
  bool aligned16;  // rows of x and w begin at, and are, multiples of 16 bytes
};

AITER_CPU_ROW(gemm_a8w8_cpu_simd, GemmA8w8Args)
AITER_CPU_ROW(gemm_a8w8_cpu_ref, GemmA8w8Args)

static void gemm_a8w8_hip(const Kernel& kernel, const GemmA8w8Args& args, const Call& call) {
  const int threads = 256, waves = threads / device_of(call.device).wave;
  const int64_t row_tiles = (args.x_rows.count + GemmA8w8Args::kRows - 1) / GemmA8w8Args::kRows;
  launch(kernel, call,
         {.x = (args.n + waves - 1) / waves,
          .y = std::min<int64_t>(row_tiles, 65535),
          .threads = threads},
         args);
}

static void gemm_a8w8_hip_vec(const GemmA8w8Args& args, const Call& call) {
  static constexpr Kernel kernel{"gemm_a8w8", "gemm_a8w8_hip_vec"};
  gemm_a8w8_hip(kernel, args, call);
}

static void gemm_a8w8_hip_any(const GemmA8w8Args& args, const Call& call) {
  static constexpr Kernel kernel{"gemm_a8w8", "gemm_a8w8_hip_any"};
  gemm_a8w8_hip(kernel, args, call);
}

static constexpr Row<GemmA8w8Problem, GemmA8w8Args> kRows[] = {
#include "ops/gemm/gemm_a8w8/gemm_a8w8.def"
};
AITER_OP(gemm, gemm_a8w8)

// Whether `scale` has one element per row of x: x's leading dimensions or all of them in one, with or
// without a 1 behind.
static bool is_per_row(const Arg& scale, const Arg& x, int64_t rows) {
  int rank = scale.rank();
  if (rank == x.rank() && rank > 0 && scale.dim(-1) == 1) --rank;
  bool leading = rank == x.rank() - 1;
  for (int i = 0; leading && i < rank; ++i) leading = scale.dim(i) == x.dim(i);
  const bool folded = scale.rank() == 1 || (scale.rank() == 2 && scale.dim(1) == 1);
  return leading || (folded && scale.dim(0) == rows);
}

}  // namespace aiter

extern "C" aiter_status aiter_gemm_a8w8(const aiter_tensor* x_, const aiter_tensor* w_,
                                        const aiter_tensor* x_scale_, const aiter_tensor* w_scale_,
                                        const aiter_tensor* bias_, const aiter_tensor* y_,
                                        const aiter_gemm_a8w8_opts* opts_, aiter_stream stream) {
  using namespace aiter;
  return entry("gemm_a8w8", [&] {
    const Check check("gemm_a8w8");
    const auto opts = check.options<aiter_gemm_a8w8_opts>(opts_, AITER_GEMM_A8W8_OPTS_INIT);
    const Arg x = check.tensor("x", x_);
    x.dtype({DType::kI8}).min_rank(1).unit_last_stride();
    const int64_t k = x.dim(-1);
    // 131072 * 128 * 128 = 2^31
    if (k >= 131072)
      x.refuse("has K = %lld, expected at most 131071 (the sum is an int32)",
               static_cast<long long>(k));
    const Arg w = check.tensor("w", w_);
    w.dtype({DType::kI8}).shape({-1, k}).unit_last_stride().on_device_of(x);
    const int64_t n = w.dim(0);

    const Rows rows = x.rows();
    const Arg x_scale = check.tensor("x_scale", x_scale_);
    x_scale.dtype({DType::kF32}).contiguous().on_device_of(x);
    if (!is_per_row(x_scale, x, rows.count))
      x_scale.refuse(
          "has %lld elements in rank %d, expected one per row of x: shape (%lld) or "
          "(%lld, 1), or x's leading dimensions",
          static_cast<long long>(x_scale.elements()), x_scale.rank(),
          static_cast<long long>(rows.count), static_cast<long long>(rows.count));
    const Arg w_scale = check.tensor("w_scale", w_scale_);
    w_scale.dtype({DType::kF32}).contiguous().on_device_of(x);
    if (w_scale.rank() == 2 && w_scale.dim(0) == 1)
      w_scale.shape({1, n});
    else if (w_scale.rank() == 2)
      w_scale.shape({n, 1});
    else
      w_scale.shape({n});
    const Arg y = check_gemm_output(check, y_, n, x);
    const Arg bias = check_gemm_bias(check, bias_, n, x, y);

    GemmA8w8Args args{};
    args.x = static_cast<const int8_t*>(x.data()), args.x_rows = rows;
    args.w = static_cast<const int8_t*>(w.data()), args.w_stride = w.stride(0);
    args.x_scale = static_cast<const float*>(x_scale.data());
    args.w_scale = static_cast<const float*>(w_scale.data());
    if (bias) args.bias = bias.data(), args.bias_dtype = bias.dtype();
    args.y = y.data(), args.y_rows = y.rows(), args.y_dtype = y.dtype();
    args.n = n, args.k = k;
    const bool aligned16 = is_aligned16(args.x, rows, 1) && is_aligned16(args.w) &&
                           args.w_stride % 16 == 0 && k % 16 == 0;
    const GemmA8w8Problem problem{rows.count, n, k, aligned16};
    dispatch(gemm_a8w8_op, kRows, problem, args, x.device(), stream, opts.flags);
  });
}
