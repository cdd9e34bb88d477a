#include "aiter/sampling.h"
#include "dispatch/dispatch.h"
#include "ops/sampling/option_checks.h"
#include "ops/sampling/renorm_probs/renorm_probs_args.h"
#include "ops/sampling/vocab_rows.h"

namespace aiter {

struct RenormProbsProblem {
  DType dtype;
  int64_t rows, vocab;
  bool aligned16;   // rows begin at multiples of 16 bytes
  bool candidates;  // top_k leaves few
  bool fits_team;   // a row in the shared memory of a team of blocks
};

AITER_CPU_ROW(renorm_probs_cpu_simd, RenormProbsArgs)
AITER_CPU_ROW(renorm_probs_cpu_ref, RenormProbsArgs)

static void renorm_probs_hip(const FloatKernels& kernels, const RenormProbsArgs& args,
                             const Call& call) {
  launch(kernels[args.dtype], call, candidates_grid(call, args.rows, args.vocab, args.top_k), args);
}

static void renorm_probs_hip_vec(const RenormProbsArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(renorm_probs, hip_vec);
  renorm_probs_hip(kernels, args, call);
}

static void renorm_probs_hip_any(const RenormProbsArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(renorm_probs, hip_any);
  renorm_probs_hip(kernels, args, call);
}

static void renorm_probs_hip_resident(const RenormProbsArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(renorm_probs, hip_resident);
  launch(kernels[args.dtype], call, resident_grid(call, args.rows, args.vocab, args.dtype), args);
}

static constexpr Row<RenormProbsProblem, RenormProbsArgs> kRows[] = {
#include "ops/sampling/renorm_probs/renorm_probs.def"
};
AITER_OP(sampling, renorm_probs)

static void renorm_probs(const aiter_tensor* probs_, const aiter_tensor* top_k_,
                         const aiter_tensor* top_p_, const aiter_tensor* min_p_,
                         const aiter_tensor* out_, const aiter_renorm_probs_opts* opts_,
                         aiter_stream stream) {
  const Check check("renorm_probs");
  const auto opts = check.options<aiter_renorm_probs_opts>(opts_, AITER_RENORM_PROBS_OPTS_INIT);
  const Arg probs = check.tensor("probs", probs_);
  const int64_t vocab = check_vocab_rows(probs), rows = probs.dim(0);
  const OptionChecks options{check, probs, rows};
  RenormProbsArgs args{};
  args.top_k = options.integer("top_k", top_k_, opts.top_k);
  args.top_p = options.real("top_p", top_p_, opts.top_p, 1);
  args.min_p = options.real("min_p", min_p_, opts.min_p, 1);
  const Arg out = check.tensor("out", out_);
  out.dtype_of(probs).shape_of(probs).unit_last_stride().on_device_of(probs);
  args.probs = probs.data(), args.probs_stride = probs.stride(0);
  args.out = out.data(), args.out_stride = out.stride(0);
  args.rows = rows, args.vocab = vocab, args.dtype = probs.dtype();
  args.top_k_first = opts.top_k_first != 0;
  const int64_t bytes = dtype_bytes(args.dtype);
  const bool aligned16 = is_aligned16(args.probs) && args.probs_stride * bytes % 16 == 0 &&
                         is_aligned16(args.out) && args.out_stride * bytes % 16 == 0;
  const RenormProbsProblem problem{args.dtype,
                                   rows,
                                   vocab,
                                   aligned16,
                                   leaves_candidates(args.top_k, vocab),
                                   fits_team(vocab, args.dtype)};
  dispatch(renorm_probs_op, kRows, problem, args, probs.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_renorm_probs(const aiter_tensor* probs, const aiter_tensor* top_k,
                                           const aiter_tensor* top_p, const aiter_tensor* min_p,
                                           const aiter_tensor* out,
                                           const aiter_renorm_probs_opts* opts,
                                           aiter_stream stream) {
  return aiter::entry("renorm_probs",
                      [&] { aiter::renorm_probs(probs, top_k, top_p, min_p, out, opts, stream); });
}
