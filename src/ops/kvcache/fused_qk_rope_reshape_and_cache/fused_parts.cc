#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_parts.h"

namespace aiter {

int FusedParts::add(const Arg& from, int64_t heads, bool turns, bool nope_first,
                    const HeadNorm& norm) {
  const int64_t dim = from.dim(-1), pairs = args_->angles.pairs;
  if ((turns && 2 * pairs > dim) || ((turns || norm.on) && dim > FusedArgs::kMaxDim))
    from.refuse("has %lld dims a head, expected %lld, twice the width of cos_cache, to %lld",
                static_cast<long long>(dim), static_cast<long long>(2 * pairs),
                static_cast<long long>(FusedArgs::kMaxDim));
  FusedArgs::Part& part = args_->parts[args_->part_count];
  part.from = from.data(), part.from_dtype = from.dtype();
  part.from_token = from.stride(0), part.from_head = from.rank() == 3 ? from.stride(1) : 0;
  part.splits = 1;
  part.heads = heads, part.dim = dim;
  part.norm = norm;
  part.turns = turns && pairs > 0;
  part.first = static_cast<int32_t>(nope_first ? dim - 2 * pairs : 0);
  return args_->part_count++;
}

FusedArgs::Target& FusedParts::into_cache(int part, const CacheLayout& to, const Arg& cache,
                                          const CacheScales& scale, bool dynamic) {
  FusedArgs::Target& target = place(part, to, cache.dtype(), scale, dynamic);
  target.to_slots = args_->cached = true;
  return target;
}

FusedArgs::Target& FusedParts::into_rows(int part, const Arg& to, const CacheScales& scale,
                                         int64_t begin, bool dynamic) {
  void* data = static_cast<char*>(to.data()) + begin * dtype_bytes(to.dtype());
  const int64_t head = to.rank() == 3 ? to.stride(1) : 0;
  return place(part, {data, to.stride(0), head, 0, 0, 0, 1, kNotSplit, kNotSplit}, to.dtype(),
               scale, dynamic);
}

FusedArgs::Target& FusedParts::place(int index, const CacheLayout& to, DType dtype,
                                     const CacheScales& scale, bool dynamic) {
  const FusedArgs::Part& part = args_->parts[index];
  FusedArgs::Target& target = args_->targets[args_->target_count++];
  const bool codes = dtype != args_->dtype && dtype_bytes(dtype) == 1;
  if (codes) {
    check_.require(args_->code == DType::kNone || args_->code == dtype,
                   "outputs have dtypes %s and %s, expected one dtype of codes",
                   dtype_name(args_->code), dtype_name(dtype));
    args_->code = dtype;
  }
  target.part = index;
  target.count = part.dim;
  target.to = to, target.dtype = dtype, target.scale = scale;
  target.quant = !codes ? CacheQuant::kNone : dynamic ? CacheQuant::kDynamic : CacheQuant::kStatic;
  target.group = part.dim;
  target.scale_dtype = DType::kF32;
  // A pack of hip_vec, 16 bytes of the heads' dtype.
  const int64_t bytes = dtype_bytes(dtype), numbers = 16 / dtype_bytes(args_->dtype);
  const int64_t pack = codes ? numbers * code_bits(dtype) / 8 : numbers * bytes;
  bool whole = to.dim_inner == 1 && reinterpret_cast<uintptr_t>(to.data) % pack == 0 &&
               (to.dim_bits == kNotSplit || (bytes << to.dim_bits) % pack == 0);
  for (int64_t n : {to.page, to.head, to.slot_outer, to.slot_inner,
                    to.dim_bits == kNotSplit ? 0 : to.dim_outer})
    whole = whole && n * bytes % pack == 0;
  target.whole = whole;
  return target;
}

void check_tokens(const Check& check, const Arg& q, FusedArgs* args) {
  args->tokens = q.dim(0);
  args->dtype = q.dtype();
  check.require(args->tokens < int64_t{1} << 24, "q has %lld tokens, expected less than 2^24",
                static_cast<long long>(args->tokens));
}

}  // namespace aiter
