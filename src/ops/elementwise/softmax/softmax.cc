#include <algorithm>

#include "aiter/elementwise.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/elementwise/softmax/softmax_args.h"

namespace aiter {

struct SoftmaxProblem {
  DType dtype;
  int64_t rows, n;
  bool aligned16;  // rows begin at, and are, multiples of 16 bytes
};

AITER_CPU_ROW(softmax_cpu_simd, SoftmaxArgs)
AITER_CPU_ROW(softmax_cpu_ref, SoftmaxArgs)

// See softmax.hip. Each thread holds 4 packs of a row.
static void softmax_hip(const FloatKernels& kernels, int64_t pack, SoftmaxArgs args,
                        const Call& call) {
  if (args.n == 0) return;
  const int64_t wave = device_of(call.device).wave;
  const int64_t packs = (args.n + pack - 1) / pack;
  int64_t threads = 1;
  while (threads * 4 < packs && threads < wave) threads *= 2;
  if (threads * 4 < packs)
    threads = std::min<int64_t>((packs + 4 * wave - 1) / (4 * wave) * wave, 512);
  args.threads_per_row = static_cast<int32_t>(threads);
  const int64_t block = threads <= wave ? 128 : threads;
  const int64_t rows_per_block = block / threads;
  const int64_t blocks = (args.x_rows.count + rows_per_block - 1) / rows_per_block;
  launch(kernels[args.dtype], call,
         {.x = std::min<int64_t>(blocks, 1 << 20), .threads = static_cast<int>(block)}, args);
}

static void softmax_hip_vec(const SoftmaxArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(softmax, hip_vec);
  softmax_hip(kernels, 16 / dtype_bytes(args.dtype), args, call);
}

static void softmax_hip_any(const SoftmaxArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(softmax, hip_any);
  softmax_hip(kernels, 1, args, call);
}

static constexpr Row<SoftmaxProblem, SoftmaxArgs> kRows[] = {
#include "ops/elementwise/softmax/softmax.def"
};
AITER_OP(elementwise, softmax)

static void softmax(const aiter_tensor* x_, const aiter_tensor* y_, const aiter_softmax_opts* opts_,
                    aiter_stream stream) {
  const Check check("softmax");
  const auto opts = check.options<aiter_softmax_opts>(opts_, AITER_SOFTMAX_OPTS_INIT);
  const Arg x = check.tensor("x", x_), y = check.tensor("y", y_);
  x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();
  y.dtype_of(x).shape_of(x).unit_last_stride().on_device_of(x);
  SoftmaxArgs args{};
  args.x = x.data(), args.x_rows = x.rows();
  args.y = y.data(), args.y_rows = y.rows();
  args.n = x.dim(-1);
  args.dtype = x.dtype();
  const int64_t bytes = dtype_bytes(x.dtype());
  const bool aligned16 = args.n * bytes % 16 == 0 && is_aligned16(args.x, args.x_rows, bytes) &&
                         is_aligned16(args.y, args.y_rows, bytes);
  const SoftmaxProblem problem{x.dtype(), args.x_rows.count, args.n, aligned16};
  dispatch(softmax_op, kRows, problem, args, x.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_softmax(const aiter_tensor* x, const aiter_tensor* y,
                                      const aiter_softmax_opts* opts, aiter_stream stream) {
  return aiter::entry("softmax", [&] { aiter::softmax(x, y, opts, stream); });
}
