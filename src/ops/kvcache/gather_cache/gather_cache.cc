#include <algorithm>

#include "aiter/kvcache.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/kvcache/cache_checks.h"
#include "ops/kvcache/gather_cache/gather_cache_args.h"

namespace aiter {

struct GatherCacheProblem {
  DType dtype, cache_dtype;
  int64_t tokens, sequences;
};

AITER_CPU_ROW(gather_cache_cpu_simd, GatherCacheArgs)
AITER_CPU_ROW(gather_cache_cpu_ref, GatherCacheArgs)

static void gather_cache_hip_any(const GatherCacheArgs& given, const Call& call) {
  static constexpr Kernel kernel{"gather_cache", "gather_cache_hip_any"};
  const int wave = device_of(call.device).wave;
  GatherCacheArgs args = given;
  args.lanes = 1;
  for (int i = 0; i < args.side_count; ++i) {
    const GatherCacheArgs::Side& s = args.sides[i];
    const int64_t unit = s.by_16_bytes ? 16 / dtype_bytes(s.dtype) : 1;
    while (args.lanes < wave && args.lanes * unit < s.heads * s.dim.divisor) args.lanes *= 2;
  }
  const int64_t tokens = 256 / args.lanes;
  launch(kernel, call, {.x = std::min<int64_t>((args.tokens + tokens - 1) / tokens, 1 << 20)},
         args);
}

static constexpr Row<GatherCacheProblem, GatherCacheArgs> kRows[] = {
#include "ops/kvcache/gather_cache/gather_cache.def"
};
AITER_OP(kvcache, gather_cache)

static void check_sequences(const Check& check, const aiter_tensor* table_,
                            const aiter_tensor* lengths_, const Arg& cache, const CacheShape& shape,
                            int64_t tokens, GatherCacheArgs* args) {
  const Arg table = check.tensor("block_table", table_);
  table.dtype({DType::kI32, DType::kI64}).rank(2).unit_last_stride().on_device_of(cache);
  const Arg lengths = check.tensor("cu_seqlens", lengths_);
  lengths.dtype({DType::kI32, DType::kI64}).shape({table.dim(0) + 1}).unit_last_stride();
  lengths.on_device_of(cache);
  args->table = table.data();
  args->wide_table = table.dtype() == DType::kI64;
  args->table_stride = table.stride(0);
  args->table_pages = table.dim(1);
  args->cu_seqlens = lengths.data();
  args->wide_lengths = lengths.dtype() == DType::kI64;
  args->sequences = table.dim(0);
  args->tokens = tokens;
  args->pages = shape.block ? shape.pages : 0;
  args->block = divisor(std::max<int64_t>(shape.block, 1));
  if (machine_of(cache.device()).target != ANY_CPU) return;
  if (args->begin_of(0) != 0)
    lengths.refuse("begins with %lld, expected 0", static_cast<long long>(args->begin_of(0)));
  for (int64_t b = 0; b < args->sequences; ++b) {
    const int64_t begin = args->begin_of(b), end = args->begin_of(b + 1);
    if (end < begin || end > tokens)
      lengths.refuse("is %lld at %lld, expected %lld to the %lld tokens of the output",
                     static_cast<long long>(end), static_cast<long long>(b + 1),
                     static_cast<long long>(begin), static_cast<long long>(tokens));
    const int64_t block = args->block.divisor;
    for (int64_t i = 0; i < end - begin; i += block) {
      int64_t page = 0;
      uint32_t slot;
      if (args->find(b, i, page, slot)) continue;
      if (i / block >= args->table_pages)
        table.refuse(
            "has %lld pages a sequence, expected %lld for the %lld tokens of sequence %lld",
            static_cast<long long>(args->table_pages),
            static_cast<long long>((end - begin + block - 1) / block),
            static_cast<long long>(end - begin), static_cast<long long>(b));
      table.refuse("is %lld at (%lld, %lld), expected 0 to %lld", static_cast<long long>(page),
                   static_cast<long long>(b), static_cast<long long>(i / block),
                   static_cast<long long>(args->pages - 1));
    }
  }
}

static void run(GatherCacheArgs& args, const Arg& cache, uint32_t flags, aiter_stream stream) {
  int64_t elements = 0;
  for (int i = 0; i < args.side_count; ++i) {
    GatherCacheArgs::Side& s = args.sides[i];
    const int64_t dim = s.dim.divisor;
    elements += s.heads * dim;
    const CacheRows rows{s.to, s.to_token, s.to_head, s.heads, dim, s.from, {}};
    s.by_16_bytes = s.dtype == s.cache_dtype && moves_by_16_bytes(rows, dtype_bytes(s.dtype));
  }
  const GatherCacheProblem problem{args.sides[0].dtype, args.sides[0].cache_dtype, args.tokens,
                                   args.sequences};
  if (args.sequences == 0 || elements == 0) args.tokens = 0;
  dispatch(gather_cache_op, kRows, problem, args, cache.device(), stream, flags);
}

// Heads without dims have nothing to move.
static Divisor dims_of(int64_t dim, int64_t* heads) {
  if (dim == 0) *heads = 0;
  return divisor(std::max<int64_t>(dim, 1));
}

static GatherCacheArgs::Side check_side(const Arg& to, const Arg& cache,
                                        const CacheLayout& layout) {
  if (to.dtype() != cache.dtype()) {
    cache.dtype({to.dtype(), DType::kI8, DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2,
                 DType::kF8E5M2FNUZ});
    to.dtype({cache.dtype(), DType::kF32, DType::kF16, DType::kBF16});
  }
  GatherCacheArgs::Side side{};
  side.to = to.data();
  side.to_token = to.stride(0);
  side.to_head = to.stride(1);
  side.heads = to.dim(1);
  side.dim = dims_of(to.dim(2), &side.heads);
  side.from = layout;
  side.dtype = to.dtype();
  side.cache_dtype = cache.dtype();
  return side;
}

static void gather_cache(const aiter_tensor* key_cache_, const aiter_tensor* value_cache_,
                         const aiter_tensor* table, const aiter_tensor* lengths,
                         const aiter_tensor* k_scale_, const aiter_tensor* v_scale_,
                         const aiter_tensor* key_, const aiter_tensor* value_,
                         const aiter_gather_cache_opts* opts_, aiter_stream stream) {
  const Check check("gather_cache");
  const auto opts = check.options<aiter_gather_cache_opts>(opts_, AITER_GATHER_CACHE_OPTS_INIT);
  check.require(opts.quant >= AITER_CACHE_QUANT_STATIC && opts.quant <= AITER_CACHE_QUANT_PER_PAGE,
                "opts.quant is %d, expected 0 to 2", opts.quant);
  check.require(key_cache_, "key_cache is NULL, expected a tensor");
  check.require(!value_cache_ == !value_, "one of value_cache and value is NULL, expected both");
  const aiter_tensor key_cache_tensor = with_dtype(key_cache_, opts.cache_dtype);
  const Arg key_cache = check.tensor("key_cache", &key_cache_tensor);
  const Arg key = check.tensor("key", key_);
  key_cache.dtype({DType::kF32, DType::kF16, DType::kBF16, DType::kI8, DType::kU8, DType::kF8E4M3FN,
                   DType::kF8E4M3FNUZ, DType::kF8E5M2, DType::kF8E5M2FNUZ});
  key.rank(3).unit_last_stride().on_device_of(key_cache);
  const int64_t heads = key.dim(1);
  GatherCacheArgs args{};
  CacheShape shape;
  args.side_count = 1;
  const CacheLayout key_layout = check_key_cache(key_cache, heads, key.dim(2), &shape);
  args.sides[0] = check_side(key, key_cache, key_layout);
  aiter_tensor value_cache_tensor;
  if (value_) {
    value_cache_tensor = with_dtype(value_cache_, opts.cache_dtype);
    const Arg value_cache = check.tensor("value_cache", &value_cache_tensor);
    const Arg value = check.tensor("value", value_);
    value.shape({key.dim(0), heads, -1}).unit_last_stride().on_device_of(key_cache);
    value_cache.dtype_of(key_cache).on_device_of(key_cache);
    const CacheLayout layout = check_value_cache(value_cache, heads, value.dim(2), shape);
    args.sides[args.side_count++] = check_side(value, value_cache, layout);
  }
  check_sequences(check, table, lengths, key_cache, shape, key.dim(0), &args);

  const int64_t block = std::max<int64_t>(shape.block, 1);
  const int64_t page_slots = opts.page_slots ? opts.page_slots : block;
  check.require(page_slots > 0 && page_slots % block == 0 && page_slots / block < int64_t{1} << 31,
                "opts.page_slots is %lld, expected a multiple of the page's %lld slots",
                static_cast<long long>(page_slots), static_cast<long long>(block));
  const bool per_page = opts.quant == AITER_CACHE_QUANT_PER_PAGE;
  args.scale_pages = divisor(per_page ? page_slots / block : 1);
  const Arg scales[2] = {check.optional("k_scale", k_scale_), check.optional("v_scale", v_scale_)};
  for (int i = 0; i < args.side_count; ++i) {
    if (args.sides[i].dtype == args.sides[i].cache_dtype) continue;
    const Arg& scale = scales[i];
    if (opts.quant == AITER_CACHE_QUANT_STATIC) {
      args.sides[i].scale = check_static_scale(scale, heads, key_cache);
      continue;
    }
    check.require(scale ? true : false, "k_scale or v_scale is NULL, expected arrays of scales");
    if (per_page) {
      scale.dtype({DType::kF32}).on_device_of(key_cache);
      scale.shape({heads, shape.pages / args.scale_pages.divisor});
      args.sides[i].scale = {static_cast<float*>(scale.data()), scale.stride(1), 0, scale.stride(0),
                             0};
    } else {
      args.sides[i].scale = check_token_scale(scale, heads, shape, key_cache);
    }
  }
  run(args, key_cache, opts.flags, stream);
}

static void cp_gather_indexer_k_quant_cache(const aiter_tensor* kv_cache_,
                                            const aiter_tensor* dst_k_,
                                            const aiter_tensor* dst_scale_,
                                            const aiter_tensor* table, const aiter_tensor* lengths,
                                            const aiter_indexer_cache_opts* opts_,
                                            aiter_stream stream) {
  const Check check("cp_gather_indexer_k_quant_cache");
  const auto opts = check.options<aiter_indexer_cache_opts>(opts_, AITER_INDEXER_CACHE_OPTS_INIT);
  const Arg dst_k = check.tensor("dst_k", dst_k_);
  dst_k
      .dtype({DType::kU8, DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2, DType::kF8E5M2FNUZ})
      .rank(2)
      .unit_last_stride();
  const Arg dst_scale = check.tensor("dst_scale", dst_scale_);
  dst_scale.dtype({DType::kF32}).shape({dst_k.dim(0), -1}).unit_last_stride().on_device_of(dst_k);
  const int64_t dim = dst_k.dim(1), groups = dst_scale.dim(1);
  const IndexerCache cache = check_indexer_cache(check, kv_cache_, opts.cache_dtype, dst_k, dim,
                                                 groups, opts.preshuffle != 0);
  const Arg kv_cache = check.tensor("kv_cache", kv_cache_);
  GatherCacheArgs args{};
  args.side_count = 2;
  int64_t one = 1, also_one = 1;
  const Divisor dims = dims_of(dim, &one), group_dims = dims_of(groups, &also_one);
  args.sides[0] = {dst_k.data(), dst_k.stride(0), 0,          one,        dims, cache.codes,
                   {},           DType::kU8,      DType::kU8, /*by_16=*/0};
  const CacheScales& s = cache.scales;
  args.sides[1] = {dst_scale.data(),
                   dst_scale.stride(0),
                   0,
                   also_one,
                   group_dims,
                   {s.data, s.page, 0, 0, s.slot, 0, 1, kNotSplit, kNotSplit},
                   {},
                   DType::kF32,
                   DType::kF32,
                   0};
  args.scale_pages = divisor(1);
  check_sequences(check, table, lengths, kv_cache, cache.shape, dst_k.dim(0), &args);
  run(args, kv_cache, opts.flags, stream);
}

}  // namespace aiter

extern "C" aiter_status aiter_gather_cache(
    const aiter_tensor* key_cache, const aiter_tensor* value_cache, const aiter_tensor* block_table,
    const aiter_tensor* cu_seqlens, const aiter_tensor* k_scale, const aiter_tensor* v_scale,
    const aiter_tensor* key, const aiter_tensor* value, const aiter_gather_cache_opts* opts,
    aiter_stream stream) {
  return aiter::entry("gather_cache", [&] {
    aiter::gather_cache(key_cache, value_cache, block_table, cu_seqlens, k_scale, v_scale, key,
                        value, opts, stream);
  });
}

extern "C" aiter_status aiter_cp_gather_indexer_k_quant_cache(
    const aiter_tensor* kv_cache, const aiter_tensor* dst_k, const aiter_tensor* dst_scale,
    const aiter_tensor* block_table, const aiter_tensor* cu_seqlens,
    const aiter_indexer_cache_opts* opts, aiter_stream stream) {
  return aiter::entry("cp_gather_indexer_k_quant_cache", [&] {
    aiter::cp_gather_indexer_k_quant_cache(kv_cache, dst_k, dst_scale, block_table, cu_seqlens,
                                           opts, stream);
  });
}
