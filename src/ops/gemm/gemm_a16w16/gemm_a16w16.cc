#include <algorithm>

#include "aiter/gemm.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/gemm/gemm_a16w16/gemm_a16w16_args.h"
#include "ops/gemm/gemm_checks.h"

namespace aiter {

struct GemmA16w16Problem {
  DType dtype;
  int64_t m, n, k;
  bool aligned16;  // rows of x and w begin at, and are, multiples of 16 bytes
};

AITER_CPU_ROW(gemm_a16w16_cpu_gemv, GemmA16w16Args)
AITER_CPU_ROW(gemm_a16w16_cpu_simd, GemmA16w16Args)
AITER_CPU_ROW(gemm_a16w16_cpu_ref, GemmA16w16Args)

static void gemm_a16w16_hip(const FloatKernels& kernels, const GemmA16w16Args& args,
                            const Call& call) {
  const int threads = 256, waves = threads / device_of(call.device).wave;
  const int64_t row_tiles = (args.x_rows.count + GemmA16w16Args::kRows - 1) / GemmA16w16Args::kRows;
  launch(kernels[args.dtype], call,
         {.x = (args.n + waves - 1) / waves,
          .y = std::min<int64_t>(row_tiles, 65535),
          .threads = threads},
         args);
}

static void gemm_a16w16_hip_vec(const GemmA16w16Args& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(gemm_a16w16, hip_vec);
  gemm_a16w16_hip(kernels, args, call);
}

static void gemm_a16w16_hip_any(const GemmA16w16Args& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(gemm_a16w16, hip_any);
  gemm_a16w16_hip(kernels, args, call);
}

static const Kernel& half_kernel(const Kernel (&kernels)[2], DType dtype) {
  return kernels[dtype == DType::kBF16];
}

// A block makes 16 columns for 8 or 16 rows of x; see ck/gemm/gemm_narrow.h.
static void gemm_a16w16_hip_narrow(const GemmA16w16Args& args, const Call& call) {
  static constexpr Kernel kernels[2][2] = {{{"gemm_a16w16", "gemm_a16w16_hip_narrow1_f16"},
                                            {"gemm_a16w16", "gemm_a16w16_hip_narrow1_bf16"}},
                                           {{"gemm_a16w16", "gemm_a16w16_hip_narrow2_f16"},
                                            {"gemm_a16w16", "gemm_a16w16_hip_narrow2_bf16"}}};
  const int tiles = args.x_rows.count <= 8 ? 1 : 2;
  const int64_t blocks = (args.n + 15) / 16;
  const int warps = narrow_warps(call, blocks, (args.k + 31) / 32, 16, 32);
  launch(half_kernel(kernels[tiles - 1], args.dtype), call,
         {.x = blocks,
          .y = (args.x_rows.count + 8 * tiles - 1) / (8 * tiles),
          .threads = 32 * warps,
          .shared_bytes = warps * tiles * 512},
         args);
}

// See ck/gemm/gemm_tiles.h.
static void gemm_a16w16_hip_tiles(const GemmA16w16Args& args, const Call& call) {
  struct Tile {
    int m, n, stages;
    Kernel kernels[2];
  };
  static constexpr Tile small{32,
                              32,
                              6,
                              {{"gemm_a16w16", "gemm_a16w16_hip_tiles32x32_f16"},
                               {"gemm_a16w16", "gemm_a16w16_hip_tiles32x32_bf16"}}};
  static constexpr Tile large{64,
                              128,
                              4,
                              {{"gemm_a16w16", "gemm_a16w16_hip_tiles64x128_f16"},
                               {"gemm_a16w16", "gemm_a16w16_hip_tiles64x128_bf16"}}};
  auto blocks = [&](const Tile& t) {
    return ((args.x_rows.count + t.m - 1) / t.m) * ((args.n + t.n - 1) / t.n);
  };
  // Large tiles read less, as long as there are enough of them for the device.
  const bool enough = blocks(large) >= device_of(call.device).multiprocessors;
  const Tile& tile = args.x_rows.count > 32 && enough ? large : small;
  launch(half_kernel(tile.kernels, args.dtype), call,
         {.x = blocks(tile), .threads = 128, .shared_bytes = (tile.m + tile.n) * 128 * tile.stages},
         args);
}

static constexpr Row<GemmA16w16Problem, GemmA16w16Args> kRows[] = {
#include "ops/gemm/gemm_a16w16/gemm_a16w16.def"
};
AITER_OP(gemm, gemm_a16w16)

}  // namespace aiter

extern "C" aiter_status aiter_gemm_a16w16(const aiter_tensor* x_, const aiter_tensor* w_,
                                          const aiter_tensor* bias_, const aiter_tensor* y_,
                                          const aiter_gemm_a16w16_opts* opts_,
                                          aiter_stream stream) {
  using namespace aiter;
  return entry("gemm_a16w16", [&] {
    const Check check("gemm_a16w16");
    const auto opts = check.options<aiter_gemm_a16w16_opts>(opts_, AITER_GEMM_A16W16_OPTS_INIT);
    const Arg x = check.tensor("x", x_);
    x.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();
    const Arg w = check.tensor("w", w_);
    w.dtype_of(x).shape({-1, x.dim(-1)}).unit_last_stride().on_device_of(x);
    const int64_t n = w.dim(0);
    const Arg bias = check_gemm_bias(check, bias_, n, x, x);
    const Arg y = check_gemm_output(check, y_, n, x);

    GemmA16w16Args args{};
    args.x = x.data(), args.x_rows = x.rows();
    args.w = w.data(), args.w_stride = w.stride(0);
    if (bias) args.bias = bias.data(), args.bias_dtype = bias.dtype();
    args.y = y.data(), args.y_rows = y.rows();
    args.n = n, args.k = x.dim(-1);
    args.dtype = x.dtype(), args.y_dtype = y.dtype();
    const int64_t bytes = dtype_bytes(x.dtype());
    const bool aligned16 = is_aligned16(args.x, args.x_rows, bytes) && is_aligned16(args.w) &&
                           args.w_stride * bytes % 16 == 0 && args.k * bytes % 16 == 0;
    const GemmA16w16Problem problem{x.dtype(), args.x_rows.count, n, args.k, aligned16};
    dispatch(gemm_a16w16_op, kRows, problem, args, x.device(), stream, opts.flags);
  });
}
