#include <cmath>

#include "aiter/kvcache.h"
#include "dispatch/dispatch.h"
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/group_quant.h"

namespace aiter {
namespace {

// The slots of tokens by their sequences and positions.
void check_sequences(const Check& check, const aiter_tensor* slot_mapping, const Arg& batch_ids,
                     const Arg& positions, const Arg& heads, const CacheShape& shape,
                     FusedArgs* args) {
  check_tables(check.tensor("slot_mapping", slot_mapping), heads, shape, args);
  batch_ids.dtype({DType::kI64, DType::kI32}).shape({args->tokens}).unit_last_stride();
  batch_ids.on_device_of(heads);
  check.require(bool(positions), "positions is NULL, expected a tensor with batch_ids");
  SequenceSlots& sequences = args->sequences;
  sequences.batches = batch_ids.data(), sequences.batches_dtype = batch_ids.dtype();
  sequences.batches_stride = 1;
  sequences.positions = args->angles.positions;
  sequences.positions_rows = args->angles.positions_rows;
  sequences.positions_dtype = args->angles.positions_dtype;
  if (machine_of(heads.device()).target == ANY_CPU)
    batch_ids.values_in(INT64_MIN, sequences.sequences);
  check_pages(check, "slot_mapping", heads, *args);
}

void fused_qk_norm_rope_group_quant(const aiter_tensor* q_, const aiter_tensor* kv_,
                                    const aiter_tensor* q_weight, const aiter_tensor* kv_weight,
                                    const aiter_tensor* positions_, const aiter_tensor* cos,
                                    const aiter_tensor* sin, const aiter_tensor* slot_mapping,
                                    const aiter_tensor* batch_ids_,
                                    const aiter_tensor* (&outputs)[9],
                                    const aiter_fused_qk_norm_rope_group_quant_opts* opts_,
                                    aiter_stream stream) {
  const Check check("fused_qk_norm_rope_group_quant");
  const auto opts = check.options<aiter_fused_qk_norm_rope_group_quant_opts>(
      opts_, AITER_FUSED_QK_NORM_ROPE_GROUP_QUANT_OPTS_INIT);
  const std::initializer_list<DType> floats{DType::kF32, DType::kF16, DType::kBF16};
  check.require(q_ || kv_, "q and kv are NULL, expected a tensor");
  const Arg whole_q = check.optional("q", q_), kv = check.optional("kv", kv_);
  if (kv) kv.dtype(floats).rank(2).unit_last_stride();
  aiter_tensor q_heads{};
  Arg q;
  if (whole_q) {
    whole_q.dtype(floats).min_rank(3).unit_last_stride();
    if (whole_q.rank() > 4) whole_q.rank(4);
    q_heads = *q_;
    if (whole_q.rank() == 4) {
      if (whole_q.dim(0) < 1) whole_q.refuse("has no parts, expected at least one to sum");
      q_heads.ndim = 3, ++q_heads.shape;
      if (q_heads.strides) ++q_heads.strides;
    }
    q = check.tensor("q", &q_heads);
    if (kv) {
      if (q.dtype() != DType::kF32) q.dtype_of(kv);
      q.shape({kv.dim(0), -1, kv.dim(1)}).on_device_of(kv);
    }
  }
  const Arg& heads = kv ? kv : q;
  const int64_t dim = heads.dim(-1);
  if (dim < 1 || dim > FusedArgs::kMaxDim || (opts.hadamard && (dim & (dim - 1))))
    heads.refuse("has %lld dims a head, expected 1 to %lld, a power of two with opts.hadamard",
                 static_cast<long long>(dim), static_cast<long long>(FusedArgs::kMaxDim));
  check.require(opts.amax_floor >= 0, "opts.amax_floor is %g, expected at least 0",
                opts.amax_floor);
  aiter_tensor typed[9];
  auto output = [&](int first, const char* out, const char* scale, const char* rope) {
    const aiter_tensor* given[3] = {};
    for (int i = 0; i < 3; ++i)
      if (outputs[first + i]) {
        // Scales of uint8 stay so.
        typed[first + i] =
            i == 0 ? with_dtype(outputs[first], opts.codes_dtype) : *outputs[first + i];
        given[i] = &typed[first + i];
      }
    check.require(given[0] || (!given[1] && !given[2]), "%s is NULL, expected a tensor with %s",
                  out, given[1] ? scale : rope);
    return FusedOutput{check.optional(out, given[0]), check.optional(scale, given[1]),
                       check.optional(rope, given[2])};
  };
  const FusedOutput q_out = output(0, "q_out", "q_scale", "q_rope");
  const FusedOutput kv_out = output(3, "kv_out", "kv_scale", "kv_rope");
  const FusedOutput cache = output(6, "kv_cache", "kv_cache_scale", "kv_cache_rope");
  check.require(!whole_q == !q_out.out, "q or q_out is NULL, expected both or none");
  check.require(!kv == !(kv_out.out || cache.out),
                "kv, or both kv_out and kv_cache, is NULL, expected an input with an output");
  check.require(q || !q_weight, "q_weight is given, expected NULL as q is");
  check.require(kv || !kv_weight, "kv_weight is given, expected NULL as kv is");
  check.require(cache.out || !opts.skip_uncached,
                "opts.skip_uncached is %d, expected 0 without kv_cache", opts.skip_uncached);

  FusedArgs args{};
  check_tokens(check, heads, &args);
  RopeTurn turn;
  turn.interleaved = opts.interleaved != 0;
  const Arg positions = check.optional("positions", positions_);
  args.angles = rope_angles(check, turn, heads, 1, check.optional("cos_cache", cos),
                            check.optional("sin_cache", sin), positions, positions_);
  if (opts.hadamard) args.hadamard = static_cast<float>(1 / std::sqrt(static_cast<double>(dim)));
  GroupQuant to(check, {opts.hadamard != 0, opts.page_slots, opts.amax_floor, false}, heads, &args);
  const auto norm = [&](float eps, const char* name, const aiter_tensor* weight) {
    return head_norm(check, {nullptr, DType::kNone, eps, opts.norm != 0, 0},
                     check.optional(name, weight), heads);
  };
  if (q) {
    const HeadNorm q_norm = norm(opts.q_eps, "q_weight", q_weight);
    const int part = to.parts().add(q, q.dim(1), true, true, q_norm);
    if (whole_q.rank() == 4) {
      args.parts[part].splits = whole_q.dim(0);
      args.parts[part].from_split = whole_q.stride(0);
    }
    to.parts_have_heads();
    to.into_rows(part, q_out, opts.q_group, false);
  }
  if (kv) {
    const HeadNorm kv_norm = norm(opts.kv_eps, "kv_weight", kv_weight);
    const int part = to.parts().add(kv, 1, true, true, kv_norm);
    if (kv_out.out) to.into_rows(part, kv_out, opts.kv_group, opts.skip_uncached != 0);
    if (cache.out) {
      CacheShape shape;
      to.into_cache(part, cache, opts.kv_group, &shape);
      if (batch_ids_)
        check_sequences(check, slot_mapping, check.tensor("batch_ids", batch_ids_), positions,
                        heads, shape, &args);
      else
        args.slots = check_slots(check, slot_mapping, heads, shape);
    }
  }
  run_fused(&args, heads, q ? q_out.out : kv_out.out ? kv_out.out : cache.out, opts.flags, stream);
}

}  // namespace
}  // namespace aiter

extern "C" aiter_status aiter_fused_qk_norm_rope_group_quant(
    const aiter_tensor* q, const aiter_tensor* kv, const aiter_tensor* q_weight,
    const aiter_tensor* kv_weight, const aiter_tensor* positions, const aiter_tensor* cos_cache,
    const aiter_tensor* sin_cache, const aiter_tensor* slot_mapping, const aiter_tensor* batch_ids,
    const aiter_tensor* q_out, const aiter_tensor* q_scale, const aiter_tensor* q_rope,
    const aiter_tensor* kv_out, const aiter_tensor* kv_scale, const aiter_tensor* kv_rope,
    const aiter_tensor* kv_cache, const aiter_tensor* kv_cache_scale,
    const aiter_tensor* kv_cache_rope, const aiter_fused_qk_norm_rope_group_quant_opts* opts,
    aiter_stream stream) {
  return aiter::entry("fused_qk_norm_rope_group_quant", [&] {
    const aiter_tensor* outputs[] = {q_out,   q_scale,  q_rope,         kv_out,       kv_scale,
                                     kv_rope, kv_cache, kv_cache_scale, kv_cache_rope};
    aiter::fused_qk_norm_rope_group_quant(q, kv, q_weight, kv_weight, positions, cos_cache,
                                          sin_cache, slot_mapping, batch_ids, outputs, opts,
                                          stream);
  });
}
