#include "aiter/kvcache.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/kvcache/cache_checks.h"
#include "ops/kvcache/indexer_qk_rope_quant_and_cache/indexer_qk_rope_quant_and_cache_args.h"
#include "ops/rope/rope_checks.h"

namespace aiter {

using IndexerArgs = IndexerQkRopeQuantAndCacheArgs;

struct IndexerQkRopeQuantAndCacheProblem {
  DType dtype, code;
  int64_t tokens, heads, dim;
};

AITER_CPU_ROW(indexer_qk_rope_quant_and_cache_cpu_simd, IndexerArgs)
AITER_CPU_ROW(indexer_qk_rope_quant_and_cache_cpu_ref, IndexerArgs)

static void indexer_qk_rope_quant_and_cache_hip_any(const IndexerArgs& args, const Call& call) {
  static constexpr Kernel kernel{"indexer_qk_rope_quant_and_cache",
                                 "indexer_qk_rope_quant_and_cache_hip_any"};
  launch(kernel, call, {.x = args.tokens, .y = 2}, args);
}

static constexpr Row<IndexerQkRopeQuantAndCacheProblem, IndexerArgs> kRows[] = {
#include "ops/kvcache/indexer_qk_rope_quant_and_cache/indexer_qk_rope_quant_and_cache.def"
};
AITER_OP(kvcache, indexer_qk_rope_quant_and_cache)

static void indexer_qk_rope_quant_and_cache(
    const aiter_tensor* q_, const aiter_tensor* weights_, const aiter_tensor* k_,
    const aiter_tensor* kv_cache_, const aiter_tensor* slots, const aiter_tensor* norm_weight_,
    const aiter_tensor* norm_bias_, const aiter_tensor* positions, const aiter_tensor* cos,
    const aiter_tensor* sin, const aiter_tensor* q_out_, const aiter_tensor* weights_out_,
    const aiter_indexer_qk_opts* opts_, aiter_stream stream) {
  const Check check("indexer_qk_rope_quant_and_cache");
  const auto opts = check.options<aiter_indexer_qk_opts>(opts_, AITER_INDEXER_QK_OPTS_INIT);
  check.require(opts.epsilon >= 0, "opts.epsilon is %g, expected at least 0", opts.epsilon);
  const Arg q = check.tensor("q", q_);
  q.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(3).unit_last_stride();
  const int64_t tokens = q.dim(0), heads = q.dim(1), dim = q.dim(2);
  if (dim < 1 || dim > IndexerArgs::kMaxDim)
    q.refuse("has %lld dims a head, expected 1 to %d", static_cast<long long>(dim),
             IndexerArgs::kMaxDim);
  check.require(tokens < int64_t{1} << 24, "q has %lld tokens, expected less than 2^24",
                static_cast<long long>(tokens));
  const Arg weights = check.tensor("weights", weights_);
  weights.dtype_of(q).shape({tokens, heads}).on_device_of(q);
  const Arg k = check.tensor("k", k_);
  k.dtype_of(q).shape({tokens, dim}).unit_last_stride().on_device_of(q);
  const Arg norm_weight = check.tensor("norm_weight", norm_weight_);
  const Arg norm_bias = check.tensor("norm_bias", norm_bias_);
  for (const Arg* t : {&norm_weight, &norm_bias})
    t->dtype({DType::kF32}).shape({dim}).contiguous().on_device_of(q);
  const RopeAngles angles = rope_angles(
      check, {.interleaved = opts.interleaved != 0}, q, 1, check.tensor("cos_cache", cos),
      check.tensor("sin_cache", sin), check.tensor("positions", positions), positions);
  check.require(2 * angles.pairs <= dim,
                "cos_cache has width %lld, expected at most half of q's %lld dims",
                static_cast<long long>(angles.pairs), static_cast<long long>(dim));

  const IndexerCache cache =
      check_indexer_cache(check, kv_cache_, opts.cache_dtype, q, dim, 1, opts.preshuffle != 0);
  check.require(q_out_, "q_out is NULL, expected a tensor");
  const aiter_dtype e4m3{AITER_CODE_FLOAT8_E4M3FN, 8, 1};
  const aiter_tensor q_out_tensor =
      with_dtype(q_out_, opts.cache_dtype.bits ? opts.cache_dtype : e4m3);
  const Arg q_out = check.tensor("q_out", &q_out_tensor);
  q_out.dtype({cache.dtype}).shape({tokens, heads, dim}).unit_last_stride().on_device_of(q);
  const Arg weights_out = check.tensor("weights_out", weights_out_);
  weights_out.dtype({DType::kF32}).shape({tokens, heads}).on_device_of(q);

  IndexerArgs args{};
  args.q = q.data();
  args.q_out = static_cast<uint8_t*>(q_out.data());
  args.weights = weights.data();
  args.weights_out = static_cast<float*>(weights_out.data());
  args.q_token = q.stride(0), args.q_head = q.stride(1);
  args.q_out_token = q_out.stride(0), args.q_out_head = q_out.stride(1);
  args.weights_token = weights.stride(0), args.weights_head = weights.stride(1);
  args.weights_out_token = weights_out.stride(0), args.weights_out_head = weights_out.stride(1);
  args.heads = heads;
  args.dim = dim;
  args.k = {k.data(), k.stride(0), 0, 1, dim, cache.codes, cache.scales};
  args.norm_weight = static_cast<const float*>(norm_weight.data());
  args.norm_bias = static_cast<const float*>(norm_bias.data());
  args.epsilon = opts.epsilon;
  args.weights_scale = opts.weights_scale;
  args.tokens = tokens;
  args.dtype = q.dtype();
  args.spec = {cache.dtype,  opts.ue8m0 ? DType::kF8E8M0 : DType::kF32,
               MxRound::kUp, __builtin_inff(),
               1.0f,         nullptr};
  args.angles = angles;
  args.slots = check_slots(check, slots, k, cache.shape);
  const IndexerQkRopeQuantAndCacheProblem problem{args.dtype, args.spec.code, tokens, heads, dim};
  dispatch(indexer_qk_rope_quant_and_cache_op, kRows, problem, args, q.device(), stream,
           opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_indexer_qk_rope_quant_and_cache(
    const aiter_tensor* q, const aiter_tensor* weights, const aiter_tensor* k,
    const aiter_tensor* kv_cache, const aiter_tensor* slot_mapping, const aiter_tensor* norm_weight,
    const aiter_tensor* norm_bias, const aiter_tensor* positions, const aiter_tensor* cos_cache,
    const aiter_tensor* sin_cache, const aiter_tensor* q_out, const aiter_tensor* weights_out,
    const aiter_indexer_qk_opts* opts, aiter_stream stream) {
  return aiter::entry("indexer_qk_rope_quant_and_cache", [&] {
    aiter::indexer_qk_rope_quant_and_cache(q, weights, k, kv_cache, slot_mapping, norm_weight,
                                           norm_bias, positions, cos_cache, sin_cache, q_out,
                                           weights_out, opts, stream);
  });
}
