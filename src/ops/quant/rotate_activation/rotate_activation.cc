#include <algorithm>
#include <cmath>

#include "aiter/quant.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/quant/quantize_checks.h"
#include "ops/quant/rotate_activation/rotate_activation_args.h"

namespace aiter {

struct RotateActivationProblem {
  DType dtype;
  int64_t rows, cols;
  bool quantized;
  bool aligned16;  // rows of x and y begin at multiples of 16 bytes
};

AITER_CPU_ROW(rotate_activation_cpu_simd, RotateActivationArgs)
AITER_CPU_ROW(rotate_activation_cpu_ref, RotateActivationArgs)

static void rotate_activation_hip_vec(const RotateActivationArgs& given, const Call& call) {
  static constexpr FloatKernels floats = AITER_FLOAT_KERNELS(rotate_activation, hip_vec);
  static constexpr FloatKernels codes = AITER_FLOAT_KERNELS(rotate_activation, hip_vec_codes);
  RotateActivationArgs args = given;
  if (args.x_rows.count == 0) return;
  const int64_t threads = std::max<int64_t>(args.cols / RotateActivationArgs::kColumns, 1);
  args.threads_per_row = static_cast<int32_t>(threads);
  Grid grid = quant_grid(args.x_rows.count, threads, device_of(call.device).wave);
  grid.shared_bytes =
      static_cast<int>(grid.threads / threads * (args.cols + args.cols / 8 + 4) * 4);
  launch((args.out.codes ? codes : floats)[args.dtype], call, grid, args);
}

static void rotate_activation_hip_any(const RotateActivationArgs& given, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(rotate_activation, hip_any);
  RotateActivationArgs args = given;
  if (args.x_rows.count == 0) return;
  // A thread has four columns at a time; a block of less than a wave would leave lanes idle.
  const int64_t wave = device_of(call.device).wave;
  const int64_t threads = std::clamp<int64_t>(args.cols / 4, wave, 512);
  args.threads_per_row = static_cast<int32_t>(threads);
  launch(kernels[args.dtype], call,
         {.x = std::min<int64_t>(args.x_rows.count, 1 << 20),
          .threads = static_cast<int>(threads),
          .shared_bytes = static_cast<int>(std::max<int64_t>(args.cols, 4) * 4)},
         args);
}

static constexpr Row<RotateActivationProblem, RotateActivationArgs> kRows[] = {
#include "ops/quant/rotate_activation/rotate_activation.def"
};
AITER_OP(quant, rotate_activation)

static void rotate_activation(const aiter_tensor* x_, const aiter_tensor* y_,
                              const aiter_tensor* scale, const aiter_rotate_activation_opts* opts_,
                              aiter_stream stream) {
  const Check check("rotate_activation");
  const auto opts =
      check.options<aiter_rotate_activation_opts>(opts_, AITER_ROTATE_ACTIVATION_OPTS_INIT);
  const std::initializer_list<DType> floats{DType::kF32, DType::kF16, DType::kBF16};
  const Arg x = check.tensor("x", x_);
  x.dtype(floats).min_rank(1).unit_last_stride();
  RotateActivationArgs args{};
  args.cols = x.dim(-1);
  if (args.cols < 1 || args.cols > RotateActivationArgs::kMaxCols ||
      (args.cols & (args.cols - 1)) != 0)
    x.refuse("has %lld columns, expected a power of two up to %lld",
             static_cast<long long>(args.cols),
             static_cast<long long>(RotateActivationArgs::kMaxCols));
  args.x = x.data();
  args.x_rows = x.rows();
  args.dtype = x.dtype();
  args.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(args.cols)));
  if (opts.quant) {
    args.out = check_quant_out(check, x, args.cols, {"y", y_}, {"scale", scale}, opts.quant);
  } else {
    check.require(!scale, "scale is a tensor, expected NULL without opts.quant");
    const Arg y = check.tensor("y", y_);
    y.dtype(floats).shape_of(x).unit_last_stride().on_device_of(x);
    args.y = y.data();
    args.y_rows = y.rows();
    args.y_dtype = y.dtype();
  }
  const bool aligned16 =
      is_aligned16(args.x, args.x_rows, dtype_bytes(args.dtype)) &&
      (opts.quant || is_aligned16(args.y, args.y_rows, dtype_bytes(args.y_dtype)));
  const RotateActivationProblem problem{args.dtype, args.x_rows.count, args.cols,
                                        opts.quant != nullptr, aligned16};
  dispatch(rotate_activation_op, kRows, problem, args, x.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_rotate_activation(const aiter_tensor* x, const aiter_tensor* y,
                                                const aiter_tensor* scale,
                                                const aiter_rotate_activation_opts* opts,
                                                aiter_stream stream) {
  return aiter::entry("rotate_activation",
                      [&] { aiter::rotate_activation(x, y, scale, opts, stream); });
}
