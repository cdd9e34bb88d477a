#include <algorithm>

#include "aiter/kvcache.h"
#include "dispatch/dispatch.h"
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/group_quant.h"

namespace aiter {
namespace {

// The lines that heads are means of, and the plan; what it names is checked on the CPU.
PooledHeads pooled_heads(const Check& check, const aiter_fused_compress_attn_opts& opts,
                         const Arg& kv, const Arg& score, const Arg& kv_state,
                         const Arg& score_state, const Arg& plan, const Arg& state_slots,
                         const Arg& ape) {
  const std::initializer_list<DType> floats{DType::kF32, DType::kF16, DType::kBF16};
  const int64_t width = kv.dim(1);
  PooledHeads pool{};
  score.dtype_of(kv).shape_of(kv).unit_last_stride().on_device_of(kv);
  kv_state.dtype(floats).shape({-1, -1, width}).unit_last_stride().on_device_of(kv);
  score_state.dtype_of(kv_state).shape_of(kv_state).unit_last_stride().on_device_of(kv);
  ape.dtype(floats).shape({opts.ratio, width}).unit_last_stride().on_device_of(kv);
  plan.dtype({DType::kI32}).shape({-1, 4}).unit_last_stride().on_device_of(kv);
  state_slots.dtype({DType::kI32, DType::kI64}).rank(1).unit_last_stride().on_device_of(kv);
  const int64_t lines = kv_state.dim(1);
  if (lines < 1 || lines >= int64_t{1} << 31)
    kv_state.refuse("has %lld lines a state, expected 1 to 2^31 - 1",
                    static_cast<long long>(lines));
  pool.kv = {kv.data(), kv.stride(0), 0, kv.dtype()};
  pool.score = {score.data(), score.stride(0), 0, score.dtype()};
  pool.kv_state = {kv_state.data(), kv_state.stride(0), kv_state.stride(1), kv_state.dtype()};
  pool.score_state = {score_state.data(), score_state.stride(0), score_state.stride(1),
                      score_state.dtype()};
  pool.bias = {ape.data(), ape.stride(0), 0, ape.dtype()};
  pool.plan = static_cast<const int32_t*>(plan.data()), pool.plan_stride = plan.stride(0);
  pool.state_slots = state_slots.data(), pool.state_slots_dtype = state_slots.dtype();
  pool.ratio = static_cast<int32_t>(opts.ratio);
  pool.count = pool.ratio * (opts.overlap ? 2 : 1);
  pool.second = opts.overlap ? width / 2 : 0;
  pool.rows = kv.dim(0), pool.states = kv_state.dim(0), pool.sequences = state_slots.dim(0);
  pool.ring = divisor(lines);
  if (machine_of(kv.device()).target != ANY_CPU) return pool;
  state_slots.values_in(INT64_MIN, pool.states);
  for (int64_t i = 0; i < plan.dim(0); ++i) {
    const PooledHeads::Plan p = pool.plan_of(i);
    if (p.position < 0) continue;
    check.require(p.sequence >= 0 && p.sequence < pool.sequences,
                  "plan[%lld] has the sequence %lld, expected 0 to less than %lld",
                  static_cast<long long>(i), static_cast<long long>(p.sequence),
                  static_cast<long long>(pool.sequences));
    const int64_t state = pool.state_of(p);
    for (int k = pool.first(p); k < pool.count; ++k) {
      PooledHeads::At at{};
      check.require(pool.find(p, state, k, at),
                    "plan[%lld] has line %d, expected one that is in kv or in a state",
                    static_cast<long long>(i), k);
    }
  }
  return pool;
}

void fused_compress_attn(const aiter_tensor* kv_, const aiter_tensor* score,
                         const aiter_tensor* kv_state, const aiter_tensor* score_state,
                         const aiter_tensor* plan_, const aiter_tensor* state_slots,
                         const aiter_tensor* ape, const aiter_tensor* weight,
                         const aiter_tensor* cos_, const aiter_tensor* sin,
                         const aiter_tensor* block_tables, const aiter_tensor* cache_,
                         const aiter_tensor* cache_scale, const aiter_tensor* cache_rope,
                         const aiter_fused_compress_attn_opts* opts_, aiter_stream stream) {
  const Check check("fused_compress_attn");
  const auto opts =
      check.options<aiter_fused_compress_attn_opts>(opts_, AITER_FUSED_COMPRESS_ATTN_OPTS_INIT);
  check.require(opts.ratio > 0 && opts.ratio <= 1 << 20, "opts.ratio is %lld, expected 1 to 2^20",
                static_cast<long long>(opts.ratio));
  check.require(opts.amax_floor >= 0, "opts.amax_floor is %g, expected at least 0",
                opts.amax_floor);
  const Arg kv = check.tensor("kv", kv_);
  kv.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(2).unit_last_stride();
  const int64_t dim = kv.dim(1) / (opts.overlap ? 2 : 1);
  if (dim < 1 || dim > FusedArgs::kMaxDim || (opts.overlap && kv.dim(1) % 2))
    kv.refuse("has %lld dims, expected 1 to %lld, or twice as many with opts.overlap",
              static_cast<long long>(kv.dim(1)), static_cast<long long>(FusedArgs::kMaxDim));
  const Arg plan = check.tensor("plan", plan_);
  FusedArgs args{};
  args.pool =
      pooled_heads(check, opts, kv, check.tensor("score", score),
                   check.tensor("kv_state", kv_state), check.tensor("score_state", score_state),
                   plan, check.tensor("state_slot_mapping", state_slots), check.tensor("ape", ape));
  args.dtype = DType::kF32, args.tokens = plan.dim(0);
  check.require(args.tokens < int64_t{1} << 24, "plan has %lld rows, expected less than 2^24",
                static_cast<long long>(args.tokens));
  // The row of the tables is the position in the plan: as for a sequence that begins with row 0.
  const Arg cos = check.optional("cos_cache", cos_);
  RopeTurn turn;
  turn.interleaved = opts.interleaved != 0;
  args.angles =
      rope_angles(check, turn, kv, 1, cos, check.optional("sin_cache", sin), Arg(), nullptr);
  args.angles.tokens = args.angles.lines;
  const bool on_cpu = machine_of(kv.device()).target == ANY_CPU;
  for (int64_t i = 0; cos && on_cpu && i < args.tokens; ++i) {
    const int64_t position = args.pool.plan_of(i).position;
    check.require(position < 0 || position - position % opts.ratio < args.angles.lines,
                  "plan[%lld] has the position %lld, expected one of cos_cache's %lld rows",
                  static_cast<long long>(i), static_cast<long long>(position),
                  static_cast<long long>(args.angles.lines));
  }

  // The means, for the checks of what is made of them.
  int64_t extents[2] = {args.tokens, dim}, strides[2] = {dim, 1};
  aiter_tensor means = *kv_;
  means.ndim = 2, means.shape = extents, means.strides = strides;
  means.dtype = {AITER_CODE_FLOAT, 32, 1};
  means.data = plan.data(), means.byte_offset = 0;  // never read
  const Arg heads("fused_compress_attn", "kv", &means);
  GroupQuant to(check, {false, opts.page_slots, opts.amax_floor, opts.ue8m0 != 0}, heads, &args);
  const HeadNorm norm = head_norm(check, {nullptr, DType::kNone, opts.eps, 1, 0},
                                  check.optional("rms_weight", weight), heads);
  const int part = to.parts().add(heads, 1, true, true, norm);
  check.require(cache_, "kv_cache is NULL, expected a tensor");
  const aiter_tensor typed = with_dtype(cache_, opts.codes_dtype);
  const FusedOutput cache{check.tensor("kv_cache", &typed),
                          check.optional("kv_cache_scale", cache_scale),
                          check.optional("kv_cache_rope", cache_rope)};
  CacheShape shape;
  to.into_cache(part, cache, opts.group, &shape);
  const Arg tables = check.tensor("block_tables", block_tables);
  tables.rank(2);
  check_tables(tables, kv, shape, &args);
  SequenceSlots& sequences = args.sequences;
  sequences.batches = args.pool.plan + 1, sequences.positions = args.pool.plan + 2;
  sequences.batches_dtype = sequences.positions_dtype = DType::kI32;
  sequences.batches_stride = args.pool.plan_stride;
  sequences.positions_rows = {args.tokens, std::max<int64_t>(args.tokens, 1), 0,
                              args.pool.plan_stride};
  sequences.ratio = divisor(opts.ratio);
  check_pages(check, "block_tables", kv, args);
  run_fused(&args, kv, cache.out, opts.flags, stream);
}

}  // namespace
}  // namespace aiter

extern "C" aiter_status aiter_fused_compress_attn(
    const aiter_tensor* kv, const aiter_tensor* score, const aiter_tensor* kv_state,
    const aiter_tensor* score_state, const aiter_tensor* plan,
    const aiter_tensor* state_slot_mapping, const aiter_tensor* ape, const aiter_tensor* rms_weight,
    const aiter_tensor* cos_cache, const aiter_tensor* sin_cache, const aiter_tensor* block_tables,
    const aiter_tensor* kv_cache, const aiter_tensor* kv_cache_scale,
    const aiter_tensor* kv_cache_rope, const aiter_fused_compress_attn_opts* opts,
    aiter_stream stream) {
  return aiter::entry("fused_compress_attn", [&] {
    aiter::fused_compress_attn(kv, score, kv_state, score_state, plan, state_slot_mapping, ape,
                               rms_weight, cos_cache, sin_cache, block_tables, kv_cache,
                               kv_cache_scale, kv_cache_rope, opts, stream);
  });
}
