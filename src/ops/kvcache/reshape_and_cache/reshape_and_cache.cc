#include <algorithm>

#include "aiter/kvcache.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/kvcache/cache_checks.h"
#include "ops/kvcache/reshape_and_cache/reshape_and_cache_args.h"

namespace aiter {

struct ReshapeAndCacheProblem {
  DType dtype, cache_dtype;
  CacheQuant quant;
  int64_t tokens;
  bool aligned16;  // 16 bytes of a head stay together, at multiples of 16 bytes
  bool packs16;  // heads and groups are of packs of 16 numbers, which lie at multiples of 16 bytes
  bool tiles;    // neighbouring slots lie together, of which a block makes 16 bytes
  bool nvfp4;    // see share_groups
};

AITER_CPU_ROW(reshape_and_cache_cpu_simd, ReshapeAndCacheArgs)
AITER_CPU_ROW(reshape_and_cache_cpu_ref, ReshapeAndCacheArgs)

static int64_t token_heads(const ReshapeAndCacheArgs& args) {
  return args.rows[0].heads + (args.row_count > 1 ? args.rows[1].heads : 0);
}

// Groups of 16 numbers.
static int64_t token_groups(const ReshapeAndCacheArgs& args) {
  int64_t groups = 0;
  for (int i = 0; i < args.row_count; ++i) groups += args.rows[i].heads * (args.rows[i].dim / 16);
  return groups;
}

static void reshape_and_cache_hip_vec(const ReshapeAndCacheArgs& given, const Call& call) {
  static constexpr Kernel kernel{"reshape_and_cache", "reshape_and_cache_hip_vec"};
  constexpr int kThreads = 128;
  ReshapeAndCacheArgs args = given;
  if (args.slots.capacity == 0) return;
  int64_t packs = 0;  // of 16 bytes, of keys or of values of a token
  for (const CacheRows& rows : args.rows)
    packs = std::max(packs, rows.heads * rows.dim * dtype_bytes(args.dtype) / 16);
  const int64_t each = args.slots.count <= 1024 ? 1 : 2;  // packs that a thread moves at a time
  int threads = 32;
  while (threads * each < packs && threads < kThreads) threads *= 2;
  args.threads_per_token = threads;
  const int64_t tokens_per_block = kThreads / threads;
  const int64_t blocks = (args.slots.count + tokens_per_block - 1) / tokens_per_block;
  constexpr int64_t kMostX = 1 << 20;
  launch(kernel, call,
         {.x = packs ? std::min(blocks, kMostX) : 0,
          .y = (blocks + kMostX - 1) / kMostX,
          .threads = kThreads},
         args);
}

// A kernel for any codes, and some for one kind of them.
struct CodesKernels {
  FloatKernels any, e4m3fn, e4m3fnuz;

  const FloatKernels& operator[](DType code) const {
    return code == DType::kF8E4M3FN ? e4m3fn : code == DType::kF8E4M3FNUZ ? e4m3fnuz : any;
  }
};
#define AITER_CODES_KERNELS(row)                         \
  {AITER_FLOAT_KERNELS(reshape_and_cache, row##_codes),  \
   AITER_FLOAT_KERNELS(reshape_and_cache, row##_e4m3fn), \
   AITER_FLOAT_KERNELS(reshape_and_cache, row##_e4m3fnuz)}

static void reshape_and_cache_hip_tiles(const ReshapeAndCacheArgs& args, const Call& call) {
  static constexpr FloatKernels floats = AITER_FLOAT_KERNELS(reshape_and_cache, hip_tiles);
  static constexpr CodesKernels codes = AITER_CODES_KERNELS(hip_tiles);
  constexpr int kThreads = 256;
  if (!args.slots.capacity) return;
  const int64_t tokens = kThreads >> args.team_bits;
  const FloatKernels& kernels = args.quant == CacheQuant::kNone ? floats : codes[args.spec.code];
  launch(
      kernels[args.dtype], call,
      {.x = (args.slots.count + tokens - 1) / tokens, .y = token_heads(args), .threads = kThreads},
      args);
}

static void reshape_and_cache_hip_quant(const ReshapeAndCacheArgs& given, const Call& call) {
  static constexpr CodesKernels kernels = AITER_CODES_KERNELS(hip_quant);
  constexpr int kThreads = 256;
  ReshapeAndCacheArgs args = given;
  if (!args.slots.capacity) return;
  int64_t lanes = 0;  // of a token
  for (int i = 0; i < args.row_count; ++i)
    lanes = std::max(lanes, args.rows[i].heads * args.head_groups[i].divisor << args.team_bits);
  int threads = 1 << args.team_bits;
  while (threads < lanes && threads < kThreads) threads *= 2;
  args.threads_per_token = threads;
  const int64_t tokens = kThreads / threads;
  launch(kernels[args.spec.code][args.dtype], call,
         {.x = lanes ? (args.slots.count + tokens - 1) / tokens : 0,
          .y = args.row_count,
          .threads = kThreads},
         args);
}

static void reshape_and_cache_hip_nvfp4(const ReshapeAndCacheArgs& given, const Call& call) {
  static constexpr FloatKernels kernels = AITER_FLOAT_KERNELS(reshape_and_cache, hip_nvfp4);
  constexpr int64_t kThreads = 256;
  if (!given.slots.capacity) return;
  ReshapeAndCacheArgs args = given;
  const int64_t groups = token_groups(args);
  args.head_groups[0] = divisor(groups);
  launch(kernels[args.dtype], call,
         {.x = (args.slots.count * groups + kThreads - 1) / kThreads, .threads = kThreads}, args);
}

static void reshape_and_cache_hip_any(const ReshapeAndCacheArgs& args, const Call& call) {
  static constexpr Kernel kernel{"reshape_and_cache", "reshape_and_cache_hip_any"};
  if (!args.slots.capacity) return;
  const int64_t waves = args.slots.count * token_heads(args);
  const int64_t waves_a_block = 256 / device_of(call.device).wave;
  launch(kernel, call,
         {.x = std::min<int64_t>((waves + waves_a_block - 1) / waves_a_block, 1 << 20)}, args);
}

static constexpr Row<ReshapeAndCacheProblem, ReshapeAndCacheArgs> kRows[] = {
#include "ops/kvcache/reshape_and_cache/reshape_and_cache.def"
};
AITER_OP(kvcache, reshape_and_cache)

static bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

// The cache's dtype, and with it whether the tokens are quantized.
static void check_cache_dtype(const Arg& tokens, const Arg& cache, bool scaled,
                              ReshapeAndCacheArgs* args) {
  tokens.dtype({DType::kF32, DType::kF16, DType::kBF16, DType::kI8, DType::kF8E4M3FN,
                DType::kF8E4M3FNUZ, DType::kF8E5M2, DType::kF8E5M2FNUZ});
  args->dtype = tokens.dtype();
  args->cache_dtype = cache.dtype();
  if (!is_float(tokens.dtype())) {
    cache.dtype_of(tokens);
  } else if (cache.dtype() == DType::kF32 || cache.dtype() == DType::kF16 ||
             cache.dtype() == DType::kBF16) {
    if (tokens.dtype() != DType::kF32) cache.dtype_of(tokens);
  } else {
    cache.dtype({tokens.dtype(), DType::kI8, DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2,
                 DType::kF8E5M2FNUZ});
    args->quant = CacheQuant::kStatic;
    args->spec = {cache.dtype(), DType::kF32, MxRound::kUp, __builtin_inff(), 1.0f, nullptr};
  }
  if (scaled && args->quant == CacheQuant::kNone)
    cache.refuse("has dtype %s, expected int8 or an 8-bit float where scales are given",
                 dtype_name(cache.dtype()));
}

constexpr int64_t kMostTokens =
    1 << 23;  // so that blocks of 256 threads are no more than a grid takes

// Whether all heads, of numbers of so many bytes, begin at multiples of 16 bytes.
static bool heads_aligned16(const CacheRows& rows, int64_t bytes) {
  return is_aligned16(rows.from) && (rows.from_token | rows.from_head) * bytes % 16 == 0;
}

// Whether hip_quant can work on this, and how it shares the work.
static bool share_packs(ReshapeAndCacheArgs* args) {
  const bool dynamic = args->quant == CacheQuant::kDynamic;
  const int64_t bytes = dtype_bytes(args->dtype), packs = dynamic ? (args->group + 15) / 16 : 1;
  args->team_bits = 0;
  if (args->quant == CacheQuant::kNone || args->quant == CacheQuant::kNvfp4 || packs > 32 ||
      args->slots.count > kMostTokens)
    return false;
  while (1 << args->team_bits < packs) ++args->team_bits;
  for (int i = 0; i < args->row_count; ++i) {
    const CacheRows& rows = args->rows[i];
    const int64_t group = dynamic ? std::min(args->group, rows.dim) : 16;
    if (rows.dim == 0 || rows.dim % 16 || group % 16 || rows.dim % group ||
        !heads_aligned16(rows, bytes))
      return false;
    args->head_groups[i] = divisor(rows.dim / group);
    args->whole[i] = moves_by_16_bytes({nullptr, 0, 0, rows.heads, rows.dim, rows.to, {}}, 1);
  }
  return true;
}

// Whether hip_tiles can work on this.
static bool share_tiles(ReshapeAndCacheArgs* args) {
  constexpr int64_t kMostDims = 256;
  if (args->quant == CacheQuant::kNvfp4 || !is_float(args->dtype) ||
      args->slots.count > kMostTokens || token_heads(*args) > 65535)
    return false;
  const int64_t bytes = dtype_bytes(args->dtype), cache_bytes = dtype_bytes(args->cache_dtype);
  bool some = false;
  args->team_bits = 0;
  for (int i = 0; i < args->row_count; ++i) {
    const CacheRows& rows = args->rows[i];
    if (rows.dim == 0 || rows.dim % 16 || rows.dim > kMostDims || !heads_aligned16(rows, bytes) ||
        (args->quant == CacheQuant::kDynamic && args->group < rows.dim))
      return false;
    args->whole[i] =
        moves_by_16_bytes({nullptr, 0, 0, rows.heads, rows.dim, rows.to, {}}, cache_bytes);
    if (!args->whole[i] && !slots_by_16_bytes(rows.to, args->slots, cache_bytes)) return false;
    some = some || !args->whole[i];
    while (16 << args->team_bits < rows.dim) ++args->team_bits;
  }
  return some;
}

// Whether hip_nvfp4 can work on this.
static bool share_groups(const ReshapeAndCacheArgs& args) {
  if (args.quant != CacheQuant::kNvfp4) return false;
  const int64_t bytes = dtype_bytes(args.dtype), groups = token_groups(args);
  bool can = groups > 0 && args.slots.count <= (int64_t{1} << 31) / groups;
  for (int i = 0; i < args.row_count; ++i) {
    const CacheRows& rows = args.rows[i];
    const CacheLayout& to = rows.to;
    can = can && heads_aligned16(rows, bytes) && to.dim_inner == 1 &&
          (to.dim_bits == kNotSplit || to.dim_bits >= 3) &&
          reinterpret_cast<uintptr_t>(to.data) % 8 == 0;
    for (int64_t n : {to.page, to.head, to.slot_outer, to.slot_inner,
                      to.dim_bits == kNotSplit ? 0 : to.dim_outer})
      can = can && n % 8 == 0;
  }
  return can;
}

static void run(ReshapeAndCacheArgs& args, const Arg& tokens, uint32_t flags, aiter_stream stream) {
  bool aligned16 = true;
  for (int i = 0; i < args.row_count; ++i) {
    if (args.quant == CacheQuant::kNone || args.quant == CacheQuant::kStatic)
      fold_heads(&args.rows[i]);
    aligned16 = aligned16 && moves_by_16_bytes(args.rows[i], dtype_bytes(args.dtype));
  }
  const bool tiles = share_tiles(&args), packs16 = !tiles && share_packs(&args);
  const ReshapeAndCacheProblem problem{
      args.dtype, args.cache_dtype, args.quant, args.slots.count,
      aligned16,  packs16,          tiles,      share_groups(args)};
  dispatch(reshape_and_cache_op, kRows, problem, args, tokens.device(), stream, flags);
}

static void reshape_and_cache(const aiter_tensor* key_, const aiter_tensor* value_,
                              const aiter_tensor* key_cache_, const aiter_tensor* value_cache_,
                              const aiter_tensor* slots, const aiter_tensor* k_scale_,
                              const aiter_tensor* v_scale_,
                              const aiter_reshape_and_cache_opts* opts_, aiter_stream stream) {
  const Check check("reshape_and_cache");
  const auto opts =
      check.options<aiter_reshape_and_cache_opts>(opts_, AITER_RESHAPE_AND_CACHE_OPTS_INIT);
  check.require(opts.quant == AITER_CACHE_QUANT_STATIC || opts.quant == AITER_CACHE_QUANT_PER_TOKEN,
                "opts.quant is %d, expected 0 or 1", opts.quant);
  const Arg key = check.tensor("key", key_);
  key.rank(3).unit_last_stride();
  const int64_t heads = key.dim(1);
  const Arg value = check.tensor("value", value_);
  value.dtype_of(key).shape({key.dim(0), heads, -1}).unit_last_stride().on_device_of(key);
  const Arg k_scale = check.optional("k_scale", k_scale_);
  const Arg v_scale = check.optional("v_scale", v_scale_);
  check.require(key_cache_, "key_cache is NULL, expected a tensor");
  check.require(value_cache_, "value_cache is NULL, expected a tensor");
  const aiter_tensor key_cache_tensor = with_dtype(key_cache_, opts.cache_dtype);
  const aiter_tensor value_cache_tensor = with_dtype(value_cache_, opts.cache_dtype);
  const Arg key_cache = check.tensor("key_cache", &key_cache_tensor);
  const Arg value_cache = check.tensor("value_cache", &value_cache_tensor);

  ReshapeAndCacheArgs args{};
  const bool per_token = opts.quant == AITER_CACHE_QUANT_PER_TOKEN;
  check_cache_dtype(key, key_cache, k_scale || v_scale || per_token, &args);
  key_cache.on_device_of(key);
  value_cache.dtype_of(key_cache).on_device_of(key);
  CacheShape shape;
  const CacheLayout key_layout = check_key_cache(key_cache, heads, key.dim(2), &shape);
  const CacheLayout value_layout = check_value_cache(value_cache, heads, value.dim(2), shape);
  args.slots = check_slots(check, slots, key, shape);
  args.row_count = 2;
  args.rows[0] = {key.data(), key.stride(0), key.stride(1), heads, key.dim(2), key_layout, {}};
  args.rows[1] = {
      value.data(), value.stride(0), value.stride(1), heads, value.dim(2), value_layout, {}};
  if (per_token) {
    check.require(k_scale && v_scale, "k_scale or v_scale is NULL, expected arrays of scales");
    args.quant = CacheQuant::kDynamic;
    args.rows[0].scale = check_token_scale(k_scale, heads, shape, key);
    args.rows[1].scale = check_token_scale(v_scale, heads, shape, key);
    args.group = std::max<int64_t>(1, std::max(key.dim(2), value.dim(2)));
  } else {
    args.rows[0].scale = check_static_scale(k_scale, heads, key);
    args.rows[1].scale = check_static_scale(v_scale, heads, key);
  }
  run(args, key, opts.flags, stream);
}

static void concat_and_cache_mla(const aiter_tensor* kv_c_, const aiter_tensor* k_pe_,
                                 const aiter_tensor* kv_cache_, const aiter_tensor* slots,
                                 const aiter_tensor* scale_,
                                 const aiter_reshape_and_cache_opts* opts_, aiter_stream stream) {
  const Check check("concat_and_cache_mla");
  const auto opts =
      check.options<aiter_reshape_and_cache_opts>(opts_, AITER_RESHAPE_AND_CACHE_OPTS_INIT);
  check.require(opts.quant == AITER_CACHE_QUANT_STATIC, "opts.quant is %d, expected 0", opts.quant);
  const Arg kv_c = check.tensor("kv_c", kv_c_);
  const Arg k_pe = check.tensor("k_pe", k_pe_);
  const Arg scale = check.optional("scale", scale_);
  check.require(kv_cache_, "kv_cache is NULL, expected a tensor");
  const aiter_tensor typed = with_dtype(kv_cache_, opts.cache_dtype);
  const Arg kv_cache = check.tensor("kv_cache", &typed);
  ReshapeAndCacheArgs args{};
  MlaCache cache;
  if (opts.preshuffle && kv_cache.dtype() == DType::kF4E2M1x2) {
    kv_c.dtype({DType::kF32, DType::kF16, DType::kBF16});
    const Nvfp4MlaCache nvfp4 = check_nvfp4_mla_cache(kv_c, k_pe, kv_cache);
    args.dtype = kv_c.dtype();
    args.cache_dtype = kv_cache.dtype();
    args.quant = CacheQuant::kNvfp4;
    args.spec = {kv_cache.dtype(),
                 DType::kF8E4M3FN,
                 MxRound::kUp,
                 __builtin_inff(),
                 1.0f,
                 check_static_scale(scale, 1, kv_c).data};
    cache = nvfp4.cache;
    args.nvfp4_scales[0] = nvfp4.scales[0], args.nvfp4_scales[1] = nvfp4.scales[1];
  } else {
    check_cache_dtype(kv_c, kv_cache, scale ? true : false, &args);
    cache = opts.preshuffle ? check_shuffled_mla_cache(kv_c, k_pe, kv_cache)
                            : check_mla_cache(kv_c, k_pe, kv_cache);
  }
  args.slots = check_slots(check, slots, kv_c, cache.shape);
  args.row_count = 2;
  for (int i = 0; i < 2; ++i) {
    const Arg& part = i ? k_pe : kv_c;
    args.rows[i] = {part.data(),
                    part.stride(0),
                    part.rank() == 3 ? part.stride(1) : 0,
                    cache.heads,
                    part.dim(-1),
                    i ? cache.rope : cache.latent,
                    check_static_scale(scale, 1, kv_c)};
  }
  run(args, kv_c, opts.flags, stream);
}

static void indexer_k_quant_and_cache(const aiter_tensor* k_, const aiter_tensor* kv_cache_,
                                      const aiter_tensor* slots,
                                      const aiter_indexer_cache_opts* opts_, aiter_stream stream) {
  const Check check("indexer_k_quant_and_cache");
  const auto opts = check.options<aiter_indexer_cache_opts>(opts_, AITER_INDEXER_CACHE_OPTS_INIT);
  const Arg k = check.tensor("k", k_);
  k.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(2).unit_last_stride();
  const int64_t head_dim = k.dim(1);
  const int64_t group = opts.quant_block_size ? opts.quant_block_size : head_dim;
  check.require(group > 0 && head_dim % group == 0,
                "opts.quant_block_size is %lld, expected a divisor of k's %lld dims",
                static_cast<long long>(group), static_cast<long long>(head_dim));
  const IndexerCache cache = check_indexer_cache(check, kv_cache_, opts.cache_dtype, k, head_dim,
                                                 head_dim / group, opts.preshuffle != 0);
  ReshapeAndCacheArgs args{};
  args.dtype = k.dtype();
  args.cache_dtype = cache.dtype;
  args.quant = CacheQuant::kDynamic;
  args.spec = {cache.dtype,  opts.ue8m0 ? DType::kF8E8M0 : DType::kF32,
               MxRound::kUp, __builtin_inff(),
               1.0f,         nullptr};
  args.group = group;
  args.amax_floor = 1e-4f;
  args.slots = check_slots(check, slots, k, cache.shape);
  args.row_count = 1;
  args.rows[0] = {k.data(), k.stride(0), 0, 1, head_dim, cache.codes, cache.scales};
  run(args, k, opts.flags, stream);
}

}  // namespace aiter

extern "C" aiter_status aiter_reshape_and_cache(
    const aiter_tensor* key, const aiter_tensor* value, const aiter_tensor* key_cache,
    const aiter_tensor* value_cache, const aiter_tensor* slot_mapping, const aiter_tensor* k_scale,
    const aiter_tensor* v_scale, const aiter_reshape_and_cache_opts* opts, aiter_stream stream) {
  return aiter::entry("reshape_and_cache", [&] {
    aiter::reshape_and_cache(key, value, key_cache, value_cache, slot_mapping, k_scale, v_scale,
                             opts, stream);
  });
}

extern "C" aiter_status aiter_concat_and_cache_mla(
    const aiter_tensor* kv_c, const aiter_tensor* k_pe, const aiter_tensor* kv_cache,
    const aiter_tensor* slot_mapping, const aiter_tensor* scale,
    const aiter_reshape_and_cache_opts* opts, aiter_stream stream) {
  return aiter::entry("concat_and_cache_mla", [&] {
    aiter::concat_and_cache_mla(kv_c, k_pe, kv_cache, slot_mapping, scale, opts, stream);
  });
}

extern "C" aiter_status aiter_indexer_k_quant_and_cache(const aiter_tensor* k,
                                                        const aiter_tensor* kv_cache,
                                                        const aiter_tensor* slot_mapping,
                                                        const aiter_indexer_cache_opts* opts,
                                                        aiter_stream stream) {
  return aiter::entry("indexer_k_quant_and_cache", [&] {
    aiter::indexer_k_quant_and_cache(k, kv_cache, slot_mapping, opts, stream);
  });
}
