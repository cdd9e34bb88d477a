#include "aiter/sampling.h"
#include "core/check.h"
#include "core/rows.h"
#include "dispatch/dispatch.h"
#include "ops/sampling/greedy_sample/greedy_sample_args.h"
#include "ops/sampling/vocab_rows.h"

namespace aiter {

struct GreedySampleProblem {
  DType dtype;
  int64_t batch, vocab;
  bool aligned16;  // rows begin at multiples of 16 bytes
};

AITER_CPU_ROW(greedy_sample_cpu_simd, GreedySampleArgs)
AITER_CPU_ROW(greedy_sample_cpu_ref, GreedySampleArgs)

static void greedy_sample_hip(const FloatKernels& kernels, const GreedySampleArgs& args,
                              const Call& call) {
  launch(kernels[args.dtype], call, vocab_grid(call, args.batch, args.vocab), args);
}

static void greedy_sample_hip_vec(const GreedySampleArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(greedy_sample, hip_vec);
  greedy_sample_hip(kernels, args, call);
}

static void greedy_sample_hip_any(const GreedySampleArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(greedy_sample, hip_any);
  greedy_sample_hip(kernels, args, call);
}

static constexpr Row<GreedySampleProblem, GreedySampleArgs> kRows[] = {
#include "ops/sampling/greedy_sample/greedy_sample.def"
};
AITER_OP(sampling, greedy_sample)

static void greedy_sample(const aiter_tensor* logits_, const aiter_tensor* out_,
                          const aiter_greedy_sample_opts* opts_, aiter_stream stream) {
  const Check check("greedy_sample");
  const auto opts = check.options<aiter_greedy_sample_opts>(opts_, AITER_GREEDY_SAMPLE_OPTS_INIT);

  const Arg logits = check.tensor("logits", logits_);
  const int64_t vocab = check_vocab_rows(logits), batch = logits.dim(0);
  const Arg out = check.tensor("out", out_);
  out.dtype({DType::kI32, DType::kI64}).shape({batch}).on_device_of(logits);

  const GreedySampleArgs args{logits.data(),    out.data(),    batch,          vocab,
                              logits.stride(0), out.stride(0), logits.dtype(), out.dtype()};
  const bool aligned16 =
      is_aligned16(args.logits) && args.logits_stride * dtype_bytes(args.dtype) % 16 == 0;
  const GreedySampleProblem problem{logits.dtype(), batch, vocab, aligned16};
  dispatch(greedy_sample_op, kRows, problem, args, logits.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_greedy_sample(const aiter_tensor* logits, const aiter_tensor* out,
                                            const aiter_greedy_sample_opts* opts,
                                            aiter_stream stream) {
  return aiter::entry("greedy_sample", [&] { aiter::greedy_sample(logits, out, opts, stream); });
}
