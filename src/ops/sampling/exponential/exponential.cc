#include <algorithm>

#include "aiter/sampling.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/sampling/exponential/exponential_args.h"
#include "ops/sampling/option_checks.h"

namespace aiter {

struct ExponentialProblem {
  DType dtype;
  int64_t rows, n;
  bool aligned;  // rows begin at multiples of four elements
};

AITER_CPU_ROW(exponential_cpu_simd, ExponentialArgs)
AITER_CPU_ROW(exponential_cpu_ref, ExponentialArgs)

static void exponential_hip(const FloatKernels& kernels, const ExponentialArgs& args,
                            const Call& call) {
  if (args.n == 0) return;
  launch(kernels[args.dtype], call,
         {.x = std::min<int64_t>((args.n + 1023) / 1024, 1 << 20),
          .y = std::min<int64_t>(args.rows.count, 65535),
          .threads = 256},
         args);
}

static void exponential_hip_vec(const ExponentialArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(exponential, hip_vec);
  exponential_hip(kernels, args, call);
}

static void exponential_hip_any(const ExponentialArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(exponential, hip_any);
  exponential_hip(kernels, args, call);
}

static constexpr Row<ExponentialProblem, ExponentialArgs> kRows[] = {
#include "ops/sampling/exponential/exponential.def"
};
AITER_OP(sampling, exponential)

static void exponential(const aiter_tensor* seed_, const aiter_tensor* offset_,
                        const aiter_tensor* out_, const aiter_exponential_opts* opts_,
                        aiter_stream stream) {
  const Check check("exponential");
  const auto opts = check.options<aiter_exponential_opts>(opts_, AITER_EXPONENTIAL_OPTS_INIT);
  const Arg out = check.tensor("out", out_);
  out.dtype({DType::kF32, DType::kF16, DType::kBF16}).min_rank(1).unit_last_stride();

  ExponentialArgs args{};
  args.out = out.data(), args.rows = out.rows();
  args.n = out.dim(-1), args.dtype = out.dtype();
  if (args.n >> 34)
    out.refuse("has rows of %lld, expected less than 2^34", static_cast<long long>(args.n));
  const OptionChecks options{check, out, args.rows.count};
  args.seed = options.integer("seed", seed_, static_cast<int64_t>(opts.seed));
  args.offset = options.integer("offset", offset_, static_cast<int64_t>(opts.offset));
  check.require(opts.lambd > 1e-30f && opts.lambd < 1e30f,
                "opts.lambd is %g, expected 1e-30 to 1e30", opts.lambd);
  check.require(opts.eps >= 0 && opts.eps <= 1, "opts.eps is %g, expected 0 to 1", opts.eps);
  args.scale = 1 / opts.lambd, args.eps = opts.eps;
  const bool aligned = reinterpret_cast<uintptr_t>(args.out) % (4 * dtype_bytes(args.dtype)) == 0 &&
                       args.rows.outer_stride % 4 == 0 && args.rows.inner_stride % 4 == 0;
  const ExponentialProblem problem{args.dtype, args.rows.count, args.n, aligned};
  dispatch(exponential_op, kRows, problem, args, out.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_exponential(const aiter_tensor* seed, const aiter_tensor* offset,
                                          const aiter_tensor* out,
                                          const aiter_exponential_opts* opts, aiter_stream stream) {
  return aiter::entry("exponential", [&] { aiter::exponential(seed, offset, out, opts, stream); });
}
