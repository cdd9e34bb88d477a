#include "aiter/kvcache.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/kvcache/cache_checks.h"
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache_args.h"

namespace aiter {

using FusedArgs = FusedQkRopeReshapeAndCacheArgs;

struct FusedQkRopeReshapeAndCacheProblem {
  DType dtype, cache_dtype;
  int64_t tokens;
};

AITER_CPU_ROW(fused_qk_rope_reshape_and_cache_cpu_simd, FusedArgs)
AITER_CPU_ROW(fused_qk_rope_reshape_and_cache_cpu_ref, FusedArgs)

static void fused_qk_rope_reshape_and_cache_hip_any(const FusedArgs& args, const Call& call) {
  static constexpr Kernel kernel{"fused_qk_rope_reshape_and_cache",
                                 "fused_qk_rope_reshape_and_cache_hip_any"};
  launch(kernel, call, {.x = args.tokens}, args);
}

static constexpr Row<FusedQkRopeReshapeAndCacheProblem, FusedArgs> kRows[] = {
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache.def"
};
AITER_OP(kvcache, fused_qk_rope_reshape_and_cache)

static void check_to_dtype(const Arg& from, const Arg& to, const Arg& scale) {
  to.dtype({from.dtype(), DType::kI8, DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2,
            DType::kF8E5M2FNUZ})
      .on_device_of(from);
  if (scale && to.dtype() == from.dtype())
    to.refuse("has dtype %s, expected int8 or an 8-bit float where scales are given",
              dtype_name(to.dtype()));
}

// Heads of `from`, whose dims from `first` on turn if `turns`.
static void add_part(FusedArgs* args, const Arg& from, int64_t heads, const CacheLayout& to,
                     const Arg& to_tensor, const CacheScales& scale, bool to_slots, bool turns,
                     int64_t first = 0) {
  const int64_t dim = from.dim(-1);
  if (turns && (2 * args->turn.pairs > dim || dim > FusedArgs::kMaxDim))
    from.refuse("has %lld dims a head, expected %lld, twice the width of cos_cache, to %lld",
                static_cast<long long>(dim), static_cast<long long>(2 * args->turn.pairs),
                static_cast<long long>(FusedArgs::kMaxDim));
  args->parts[args->part_count++] = {
      {from.data(), from.stride(0), from.rank() == 3 ? from.stride(1) : 0, heads, dim, to, scale},
      to_tensor.dtype(),
      to_slots,
      turns,
      static_cast<int32_t>(first)};
}

// Rows of an array (tokens, heads, ...), from dim `begin` on.
static CacheLayout row_layout(const Arg& to, int64_t begin) {
  void* data = static_cast<char*>(to.data()) + begin * dtype_bytes(to.dtype());
  return {data, to.stride(0), to.stride(1), 0, 0, 0, 1, kNotSplit, kNotSplit};
}

static void check_tokens(const Check& check, const Arg& q, FusedArgs* args) {
  args->tokens = q.dim(0);
  args->dtype = q.dtype();
  check.require(args->tokens < int64_t{1} << 24, "q has %lld tokens, expected less than 2^24",
                static_cast<long long>(args->tokens));
}

static void run(const FusedArgs& args, const Arg& q, const Arg& cache, uint32_t flags,
                aiter_stream stream) {
  const FusedQkRopeReshapeAndCacheProblem problem{args.dtype, cache.dtype(), args.tokens};
  dispatch(fused_qk_rope_reshape_and_cache_op, kRows, problem, args, q.device(), stream, flags);
}

static void fused_qk_rope_reshape_and_cache(
    const aiter_tensor* q_, const aiter_tensor* key_, const aiter_tensor* value_,
    const aiter_tensor* key_cache_, const aiter_tensor* value_cache_, const aiter_tensor* slots,
    const aiter_tensor* k_scale_, const aiter_tensor* v_scale_, const aiter_tensor* positions,
    const aiter_tensor* cos, const aiter_tensor* sin, const aiter_tensor* q_out_,
    const aiter_tensor* key_out_, const aiter_fused_qk_rope_cache_opts* opts_,
    aiter_stream stream) {
  const Check check("fused_qk_rope_reshape_and_cache");
  const auto opts =
      check.options<aiter_fused_qk_rope_cache_opts>(opts_, AITER_FUSED_QK_ROPE_CACHE_OPTS_INIT);
  const Arg q = check.tensor("q", q_);
  q.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(3).unit_last_stride();
  const Arg key = check.tensor("key", key_);
  key.dtype_of(q).shape({q.dim(0), -1, q.dim(2)}).unit_last_stride().on_device_of(q);
  const int64_t heads = key.dim(1);
  const Arg value = check.tensor("value", value_);
  value.dtype_of(q).shape({q.dim(0), heads, -1}).unit_last_stride().on_device_of(q);
  const Arg q_out = check.tensor("q_out", q_out_);
  q_out.dtype_of(q).shape_of(q).unit_last_stride().on_device_of(q);
  const Arg key_out = check.optional("key_out", key_out_);
  if (key_out) key_out.dtype_of(q).shape_of(key).unit_last_stride().on_device_of(q);
  const Arg k_scale = check.optional("k_scale", k_scale_);
  const Arg v_scale = check.optional("v_scale", v_scale_);
  check.require(key_cache_, "key_cache is NULL, expected a tensor");
  check.require(value_cache_, "value_cache is NULL, expected a tensor");
  const aiter_tensor key_cache_tensor = with_dtype(key_cache_, opts.cache_dtype);
  const aiter_tensor value_cache_tensor = with_dtype(value_cache_, opts.cache_dtype);
  const Arg key_cache = check.tensor("key_cache", &key_cache_tensor);
  const Arg value_cache = check.tensor("value_cache", &value_cache_tensor);
  check_to_dtype(q, key_cache, k_scale);
  check_to_dtype(q, value_cache, v_scale);
  value_cache.dtype_of(key_cache);

  FusedArgs args{};
  check_tokens(check, q, &args);
  args.turn = check_turn(check, positions, cos, sin, opts.interleaved != 0, q);
  CacheShape shape;
  const CacheLayout keys = check_key_cache(key_cache, heads, key.dim(2), &shape);
  const CacheLayout values = check_value_cache(value_cache, heads, value.dim(2), shape);
  args.slots = check_slots(check, slots, key, shape);
  const int64_t first = opts.nope_first ? q.dim(2) - 2 * args.turn.pairs : 0;
  add_part(&args, q, q.dim(1), row_layout(q_out, 0), q_out, {}, false, true, first);
  add_part(&args, key, heads, keys, key_cache, check_static_scale(k_scale, heads, key), true, true,
           first);
  // After the cache, as it may be key itself.
  if (key_out) add_part(&args, key, heads, row_layout(key_out, 0), key_out, {}, false, true, first);
  add_part(&args, value, heads, values, value_cache, check_static_scale(v_scale, heads, key), true,
           false);
  run(args, q, key_cache, opts.flags, stream);
}

static void fused_qk_rope_concat_and_cache_mla(
    const aiter_tensor* q_nope_, const aiter_tensor* q_pe_, const aiter_tensor* kv_c_,
    const aiter_tensor* k_pe_, const aiter_tensor* kv_cache_, const aiter_tensor* slots,
    const aiter_tensor* k_scale_, const aiter_tensor* q_scale_, const aiter_tensor* positions,
    const aiter_tensor* cos, const aiter_tensor* sin, const aiter_tensor* q_out_,
    const aiter_fused_qk_rope_cache_opts* opts_, aiter_stream stream) {
  const Check check("fused_qk_rope_concat_and_cache_mla");
  const auto opts =
      check.options<aiter_fused_qk_rope_cache_opts>(opts_, AITER_FUSED_QK_ROPE_CACHE_OPTS_INIT);
  const Arg q_nope = check.tensor("q_nope", q_nope_);
  q_nope.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(3).unit_last_stride();
  const int64_t heads = q_nope.dim(1), latent = q_nope.dim(2);
  const Arg q_pe = check.tensor("q_pe", q_pe_);
  q_pe.dtype_of(q_nope).shape({q_nope.dim(0), heads, -1}).unit_last_stride().on_device_of(q_nope);
  const Arg kv_c = check.tensor("kv_c", kv_c_), k_pe = check.tensor("k_pe", k_pe_);
  kv_c.dtype_of(q_nope).on_device_of(q_nope).min_rank(2);
  if (kv_c.dim(0) != q_nope.dim(0))
    kv_c.refuse("has %lld tokens, expected q_nope's %lld", static_cast<long long>(kv_c.dim(0)),
                static_cast<long long>(q_nope.dim(0)));
  const Arg k_scale = check.optional("k_scale", k_scale_);
  const Arg q_scale = check.optional("q_scale", q_scale_);
  check.require(kv_cache_, "kv_cache is NULL, expected a tensor");
  check.require(q_out_, "q_out is NULL, expected a tensor");
  const aiter_tensor kv_cache_tensor = with_dtype(kv_cache_, opts.cache_dtype);
  const aiter_tensor q_out_tensor = with_dtype(q_out_, opts.cache_dtype);
  const Arg kv_cache = check.tensor("kv_cache", &kv_cache_tensor);
  const Arg q_out = check.tensor("q_out", &q_out_tensor);
  check_to_dtype(q_nope, kv_cache, k_scale);
  check_to_dtype(q_nope, q_out, q_scale);
  const int64_t rope = q_pe.dim(2);
  q_out.rank(3).unit_last_stride();
  if (q_out.dim(0) != q_nope.dim(0) || q_out.dim(1) != heads || q_out.dim(2) < latent + rope)
    q_out.shape({q_nope.dim(0), heads, latent + rope});

  FusedArgs args{};
  check_tokens(check, q_nope, &args);
  args.turn = check_turn(check, positions, cos, sin, opts.interleaved != 0, q_nope);
  const bool rope_first = opts.rope_first != 0;
  const MlaCache cache = check_mla_cache(kv_c, k_pe, kv_cache, rope_first);
  k_pe.on_device_of(q_nope);
  args.slots = check_slots(check, slots, kv_c, cache.shape);
  const CacheScales q_scales = check_static_scale(q_scale, 1, q_nope);
  const CacheScales k_scales = check_static_scale(k_scale, 1, q_nope);
  add_part(&args, q_nope, heads, row_layout(q_out, rope_first ? rope : 0), q_out, q_scales, false,
           false);
  add_part(&args, q_pe, heads, row_layout(q_out, rope_first ? 0 : latent), q_out, q_scales, false,
           true);
  add_part(&args, kv_c, cache.heads, cache.latent, kv_cache, k_scales, true, false);
  add_part(&args, k_pe, cache.heads, cache.rope, kv_cache, k_scales, true, true);
  run(args, q_nope, kv_cache, opts.flags, stream);
}

}  // namespace aiter

extern "C" aiter_status aiter_fused_qk_rope_reshape_and_cache(
    const aiter_tensor* q, const aiter_tensor* key, const aiter_tensor* value,
    const aiter_tensor* key_cache, const aiter_tensor* value_cache,
    const aiter_tensor* slot_mapping, const aiter_tensor* k_scale, const aiter_tensor* v_scale,
    const aiter_tensor* positions, const aiter_tensor* cos_cache, const aiter_tensor* sin_cache,
    const aiter_tensor* q_out, const aiter_tensor* key_out,
    const aiter_fused_qk_rope_cache_opts* opts, aiter_stream stream) {
  return aiter::entry("fused_qk_rope_reshape_and_cache", [&] {
    aiter::fused_qk_rope_reshape_and_cache(q, key, value, key_cache, value_cache, slot_mapping,
                                           k_scale, v_scale, positions, cos_cache, sin_cache, q_out,
                                           key_out, opts, stream);
  });
}

extern "C" aiter_status aiter_fused_qk_rope_concat_and_cache_mla(
    const aiter_tensor* q_nope, const aiter_tensor* q_pe, const aiter_tensor* kv_c,
    const aiter_tensor* k_pe, const aiter_tensor* kv_cache, const aiter_tensor* slot_mapping,
    const aiter_tensor* k_scale, const aiter_tensor* q_scale, const aiter_tensor* positions,
    const aiter_tensor* cos_cache, const aiter_tensor* sin_cache, const aiter_tensor* q_out,
    const aiter_fused_qk_rope_cache_opts* opts, aiter_stream stream) {
  return aiter::entry("fused_qk_rope_concat_and_cache_mla", [&] {
    aiter::fused_qk_rope_concat_and_cache_mla(q_nope, q_pe, kv_c, k_pe, kv_cache, slot_mapping,
                                              k_scale, q_scale, positions, cos_cache, sin_cache,
                                              q_out, opts, stream);
  });
}
