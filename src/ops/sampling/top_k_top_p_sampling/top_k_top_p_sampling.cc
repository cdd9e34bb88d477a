#include "aiter/sampling.h"
#include "dispatch/dispatch.h"
#include "ops/sampling/option_checks.h"
#include "ops/sampling/top_k_top_p_sampling/top_k_top_p_sampling_args.h"
#include "ops/sampling/vocab_rows.h"

namespace aiter {

struct TopKTopPSamplingProblem {
  DType dtype;
  int64_t batch, vocab;
  bool probs, top_p;  // whether these are the input, this is below 1
  bool aligned16;     // rows begin at multiples of 16 bytes
  bool candidates;    // top_k leaves few
  bool fits_team;     // a row in the shared memory of a team of blocks
};

AITER_CPU_ROW(top_k_top_p_sampling_cpu_simd, TopKTopPSamplingArgs)
AITER_CPU_ROW(top_k_top_p_sampling_cpu_ref, TopKTopPSamplingArgs)

static void top_k_top_p_sampling_hip(const FloatKernels& kernels, const TopKTopPSamplingArgs& args,
                                     const Call& call) {
  launch(kernels[args.dtype], call, candidates_grid(call, args.batch, args.vocab, args.top_k),
         args);
}

static void top_k_top_p_sampling_hip_vec(const TopKTopPSamplingArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(top_k_top_p_sampling, hip_vec);
  top_k_top_p_sampling_hip(kernels, args, call);
}

static void top_k_top_p_sampling_hip_any(const TopKTopPSamplingArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(top_k_top_p_sampling, hip_any);
  top_k_top_p_sampling_hip(kernels, args, call);
}

static void top_k_top_p_sampling_hip_resident(const TopKTopPSamplingArgs& args, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(top_k_top_p_sampling, hip_resident);
  launch(kernels[args.dtype], call, resident_grid(call, args.batch, args.vocab, args.dtype), args);
}

static constexpr Row<TopKTopPSamplingProblem, TopKTopPSamplingArgs> kRows[] = {
#include "ops/sampling/top_k_top_p_sampling/top_k_top_p_sampling.def"
};
AITER_OP(sampling, top_k_top_p_sampling)

static void top_k_top_p_sampling(const aiter_tensor* input_, const aiter_tensor* indices_,
                                 const aiter_tensor* temperature_, const aiter_tensor* top_k_,
                                 const aiter_tensor* top_p_, const aiter_tensor* min_p_,
                                 const aiter_tensor* seed_, const aiter_tensor* offset_,
                                 const aiter_tensor* out_,
                                 const aiter_top_k_top_p_sampling_opts* opts_,
                                 aiter_stream stream) {
  const Check check("top_k_top_p_sampling");
  const auto opts =
      check.options<aiter_top_k_top_p_sampling_opts>(opts_, AITER_TOP_K_TOP_P_SAMPLING_OPTS_INIT);

  const Arg input = check.tensor("input", input_);
  const int64_t vocab = check_vocab_rows(input);

  TopKTopPSamplingArgs args{};
  const Arg indices = check.optional("indices", indices_);
  if (indices) {
    indices.dtype({DType::kI32, DType::kI64}).rank(1).on_device_of(input);
    indices.values_in(0, input.dim(0));
    args.indices = {indices.data(), indices.stride(0), indices.dtype(), {}};
  }
  const int64_t batch = indices ? indices.dim(0) : input.dim(0);

  const OptionChecks options{check, input, batch};
  if (opts.input_is_probs)
    check.require(!temperature_ && opts.temperature == 1,
                  "temperature is given, expected none with probabilities");
  args.temperature = options.real("temperature", temperature_, opts.temperature, 3.4e38f);
  args.top_k = options.integer("top_k", top_k_, opts.top_k);
  args.top_p = options.real("top_p", top_p_, opts.top_p, 1);
  args.min_p = options.real("min_p", min_p_, opts.min_p, 1);
  args.seed = options.integer("seed", seed_, static_cast<int64_t>(opts.seed));
  args.offset = options.integer("offset", offset_, static_cast<int64_t>(opts.offset));

  const Arg out = check.tensor("out", out_);
  out.dtype({DType::kI32, DType::kI64}).shape({batch}).on_device_of(input);
  args.input = input.data(), args.input_stride = input.stride(0), args.dtype = input.dtype();
  args.out = out.data(), args.out_stride = out.stride(0), args.out_dtype = out.dtype();
  args.batch = batch, args.rows = input.dim(0);
  args.vocab = vocab;
  args.probs = opts.input_is_probs != 0;
  args.top_k_first = opts.top_k_first != 0;
  const bool aligned16 =
      is_aligned16(args.input) && args.input_stride * dtype_bytes(args.dtype) % 16 == 0;
  const TopKTopPSamplingProblem problem{input.dtype(),
                                        batch,
                                        vocab,
                                        args.probs != 0,
                                        args.top_p.data || args.top_p.value.real < 1,
                                        aligned16,
                                        leaves_candidates(args.top_k, vocab),
                                        fits_team(vocab, input.dtype())};
  dispatch(top_k_top_p_sampling_op, kRows, problem, args, input.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_top_k_top_p_sampling(
    const aiter_tensor* input, const aiter_tensor* indices, const aiter_tensor* temperature,
    const aiter_tensor* top_k, const aiter_tensor* top_p, const aiter_tensor* min_p,
    const aiter_tensor* seed, const aiter_tensor* offset, const aiter_tensor* out,
    const aiter_top_k_top_p_sampling_opts* opts, aiter_stream stream) {
  return aiter::entry("top_k_top_p_sampling", [&] {
    aiter::top_k_top_p_sampling(input, indices, temperature, top_k, top_p, min_p, seed, offset, out,
                                opts, stream);
  });
}
