#include "aiter/sampling.h"
#include "dispatch/dispatch.h"
#include "ops/sampling/option_checks.h"
#include "ops/sampling/random_sample/random_sample_args.h"
#include "ops/sampling/vocab_rows.h"

namespace aiter {

struct RandomSampleProblem {
  DType dtype;
  int64_t batch, vocab;
  bool noise_given;
  bool aligned16;  // rows begin at multiples of 16 bytes
};

AITER_CPU_ROW(random_sample_cpu_simd, RandomSampleArgs)
AITER_CPU_ROW(random_sample_cpu_ref, RandomSampleArgs)

static void random_sample_hip(const FloatKernels& kernels, const RandomSampleArgs& args,
                              const Call& call) {
  launch(kernels[args.dtype], call, vocab_grid(call, args.batch, args.vocab), args);
}

static void random_sample_hip_vec(const RandomSampleArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(random_sample, hip_vec);
  random_sample_hip(kernels, args, call);
}

static void random_sample_hip_any(const RandomSampleArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(random_sample, hip_any);
  random_sample_hip(kernels, args, call);
}

static constexpr Row<RandomSampleProblem, RandomSampleArgs> kRows[] = {
#include "ops/sampling/random_sample/random_sample.def"
};
AITER_OP(sampling, random_sample)

static void random_sample(const aiter_tensor* logits_, const aiter_tensor* temperature_,
                          const aiter_tensor* exponentials_, const aiter_tensor* seed_,
                          const aiter_tensor* offset_, const aiter_tensor* out_,
                          const aiter_random_sample_opts* opts_, aiter_stream stream) {
  const Check check("random_sample");
  const auto opts = check.options<aiter_random_sample_opts>(opts_, AITER_RANDOM_SAMPLE_OPTS_INIT);

  const Arg logits = check.tensor("logits", logits_);
  const int64_t vocab = check_vocab_rows(logits), batch = logits.dim(0);

  RandomSampleArgs args{};
  const OptionChecks options{check, logits, batch};
  args.temperature = options.real("temperature", temperature_, opts.temperature, 3.4e38f);
  args.seed = options.integer("seed", seed_, static_cast<int64_t>(opts.seed));
  args.offset = options.integer("offset", offset_, static_cast<int64_t>(opts.offset));
  check.require(opts.lambd > 1e-30f && opts.lambd < 1e30f,
                "opts.lambd is %g, expected 1e-30 to 1e30", opts.lambd);
  check.require(opts.eps >= 0 && opts.eps <= 1, "opts.eps is %g, expected 0 to 1", opts.eps);
  args.scale = 1 / opts.lambd, args.eps = opts.eps;

  const Arg exponentials = check.optional("exponentials", exponentials_);
  if (exponentials) {
    exponentials.dtype({DType::kF32}).shape_of(logits).unit_last_stride().on_device_of(logits);
    check.require(!seed_ && !offset_ && opts.lambd == 1,
                  "seed, offset or lambd is given, expected none with exponentials");
    args.exponentials = static_cast<const float*>(exponentials.data());
    args.exponentials_stride = exponentials.stride(0);
  }
  const Arg out = check.tensor("out", out_);
  out.dtype({DType::kI32, DType::kI64}).shape({batch}).on_device_of(logits);

  args.logits = logits.data(), args.logits_stride = logits.stride(0), args.dtype = logits.dtype();
  args.out = out.data(), args.out_stride = out.stride(0), args.out_dtype = out.dtype();
  args.batch = batch, args.vocab = vocab;
  const bool aligned16 = is_aligned16(args.logits) &&
                         args.logits_stride * dtype_bytes(args.dtype) % 16 == 0 &&
                         is_aligned16(args.exponentials) && args.exponentials_stride % 4 == 0;
  const RandomSampleProblem problem{logits.dtype(), batch, vocab, args.exponentials != nullptr,
                                    aligned16};
  dispatch(random_sample_op, kRows, problem, args, logits.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_random_sample(
    const aiter_tensor* logits, const aiter_tensor* temperature, const aiter_tensor* exponentials,
    const aiter_tensor* seed, const aiter_tensor* offset, const aiter_tensor* out,
    const aiter_random_sample_opts* opts, aiter_stream stream) {
  return aiter::entry("random_sample", [&] {
    aiter::random_sample(logits, temperature, exponentials, seed, offset, out, opts, stream);
  });
}
