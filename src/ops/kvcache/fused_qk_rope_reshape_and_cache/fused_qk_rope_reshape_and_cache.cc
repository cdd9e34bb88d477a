#include <algorithm>

#include "aiter/kvcache.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/kvcache/cache_checks.h"
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache_args.h"
#include "ops/kvcache/reshape_and_cache_with_block_quant/reshape_and_cache_with_block_quant.h"
#include "ops/rope/rope_checks.h"

namespace aiter {

using FusedArgs = FusedQkRopeReshapeAndCacheArgs;

struct FusedQkRopeReshapeAndCacheProblem {
  DType dtype, cache_dtype;
  int64_t tokens, heads, dim, rotary_dim;
  bool aligned16;     // heads, their parts, weights and tables in units of 16 bytes
  bool in_registers;  // a wave holds a head, whose scales are for all dims
};

AITER_CPU_ROW(fused_qk_rope_reshape_and_cache_cpu_simd, FusedArgs)
AITER_CPU_ROW(fused_qk_rope_reshape_and_cache_cpu_ref, FusedArgs)

// Pairs of packs of the longest head.
static int64_t units(const FusedArgs& args, int64_t pack) {
  int64_t most = 1;
  for (int i = 0; i < args.part_count; ++i) {
    const FusedArgs::Part& part = args.parts[i];
    most = std::max(most, head_units(part.dim, part.turns ? args.angles.pairs : 0, pack));
  }
  return most;
}

static void fused_qk_rope_cache_hip(const FloatKernels& kernels, int64_t pack, FusedArgs args,
                                    const Call& call) {
  const int64_t wave = device_of(call.device).wave, count = units(args, pack);
  int64_t lanes = 1;
  while (lanes < count && lanes < wave) lanes *= 2;
  args.lanes_per_head = static_cast<int32_t>(lanes);
  constexpr int64_t kThreads = 128, kWidth = 1 << 20;
  const int64_t per_block = kThreads / lanes;
  int64_t heads = 0;  // of the largest part
  for (int i = 0; i < args.part_count; ++i) heads = std::max(heads, args.parts[i].heads);
  const int64_t blocks = (args.tokens * heads + per_block - 1) / per_block;
  launch(kernels[args.dtype], call,
         {.x = std::min(blocks, kWidth), .y = args.part_count, .threads = kThreads}, args);
}

static void fused_qk_rope_reshape_and_cache_hip_vec(const FusedArgs& args, const Call& call) {
  static constexpr FloatKernels kernels =
      AITER_FLOAT_KERNELS(fused_qk_rope_reshape_and_cache, hip_vec);
  fused_qk_rope_cache_hip(kernels, 16 / dtype_bytes(args.dtype), args, call);
}

static void fused_qk_rope_reshape_and_cache_hip_any(const FusedArgs& args, const Call& call) {
  static constexpr FloatKernels kernels =
      AITER_FLOAT_KERNELS(fused_qk_rope_reshape_and_cache, hip_any);
  fused_qk_rope_cache_hip(kernels, 1, args, call);
}

static constexpr Row<FusedQkRopeReshapeAndCacheProblem, FusedArgs> kRows[] = {
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache.def"
};
AITER_OP(kvcache, fused_qk_rope_reshape_and_cache)

namespace {

// Whether hip_vec can read the heads 16 bytes at a time.
bool heads_aligned16(const FusedArgs& a) {
  const int64_t bytes = dtype_bytes(a.dtype);
  bool aligned = a.angles.pairs == 0 || (rope_tables_aligned16(a.angles) && a.angles.second == 0 &&
                                         a.angles.pairs * bytes % 16 == 0);
  for (int i = 0; i < a.part_count; ++i) {
    const FusedArgs::Part& part = a.parts[i];
    aligned = aligned && part.dim * bytes % 16 == 0 && is_aligned16(part.norm.weight) &&
              is_aligned16(part.from) && part.from_token * bytes % 16 == 0 &&
              part.from_head * bytes % 16 == 0;
  }
  return aligned;
}

// The parts of a call, and where they go.
class Parts {
 public:
  Parts(const Check& check, FusedArgs* args) : check_(check), args_(args) {}

  // Heads of `from`, (tokens, heads, dim) or (tokens, dim).
  FusedArgs::Part& add(const Arg& from, int64_t heads, bool turns, bool nope_first = false,
                       const HeadNorm& norm = {}) {
    const int64_t dim = from.dim(-1), pairs = args_->angles.pairs;
    if ((turns && 2 * pairs > dim) || ((turns || norm.on) && dim > FusedArgs::kMaxDim))
      from.refuse("has %lld dims a head, expected %lld, twice the width of cos_cache, to %lld",
                  static_cast<long long>(dim), static_cast<long long>(2 * pairs),
                  static_cast<long long>(FusedArgs::kMaxDim));
    FusedArgs::Part& part = args_->parts[args_->part_count++];
    part.from = from.data();
    part.from_token = from.stride(0), part.from_head = from.rank() == 3 ? from.stride(1) : 0;
    part.heads = heads, part.dim = dim;
    part.norm = norm;
    part.turns = turns && pairs > 0;
    part.first = static_cast<int32_t>(nope_first ? dim - 2 * pairs : 0);
    return part;
  }
  void into_cache(FusedArgs::Part& part, const CacheLayout& to, const Arg& cache,
                  const CacheScales& scale, bool dynamic = false) {
    place(part, to, cache.dtype(), scale, dynamic).to_slots = true;
  }
  // Rows of an array (tokens, heads, ...), from dim `begin` on.
  void into_rows(FusedArgs::Part& part, const Arg& to, const CacheScales& scale = {},
                 int64_t begin = 0) {
    void* data = static_cast<char*>(to.data()) + begin * dtype_bytes(to.dtype());
    place(part, {data, to.stride(0), to.stride(1), 0, 0, 0, 1, kNotSplit, kNotSplit}, to.dtype(),
          scale, false);
  }
  // The last target of a part gets a power of two for each `group` dims, e8m0.
  void by_groups(FusedArgs::Part& part, int64_t group, void* scales, const CacheScales& strides) {
    FusedArgs::Target& target = part.targets[part.target_count - 1];
    target.quant = CacheQuant::kDynamic;
    target.group = group, target.scale_dtype = DType::kF8E8M0;
    target.scale = strides, target.scale.data = static_cast<float*>(scales);
  }

 private:
  FusedArgs::Target& place(FusedArgs::Part& part, const CacheLayout& to, DType dtype,
                           const CacheScales& scale, bool dynamic) {
    FusedArgs::Target& target = part.targets[part.target_count++];
    const bool codes = dtype != args_->dtype && dtype_bytes(dtype) == 1;
    if (codes) {
      check_.require(args_->code == DType::kNone || args_->code == dtype,
                     "q_out has dtype %s, expected %s, as the cache", dtype_name(args_->code),
                     dtype_name(dtype));
      args_->code = dtype;
    }
    target.to = to, target.dtype = dtype, target.scale = scale;
    target.quant = !codes    ? CacheQuant::kNone
                   : dynamic ? CacheQuant::kDynamic
                             : CacheQuant::kStatic;
    target.group = part.dim;
    target.scale_dtype = DType::kF32;
    // A pack of hip_vec, 16 bytes of the heads' dtype.
    const int64_t pack = 16 / dtype_bytes(args_->dtype) * dtype_bytes(dtype);
    bool whole = to.dim_inner == 1 && reinterpret_cast<uintptr_t>(to.data) % pack == 0 &&
                 (to.dim_bits == kNotSplit || (dtype_bytes(dtype) << to.dim_bits) % pack == 0);
    for (int64_t n : {to.page, to.head, to.slot_outer, to.slot_inner,
                      to.dim_bits == kNotSplit ? 0 : to.dim_outer})
      whole = whole && n * dtype_bytes(dtype) % pack == 0;
    target.whole = whole;
    return target;
  }

  const Check& check_;
  FusedArgs* args_;
};

void check_to_dtype(const Arg& from, const Arg& to, const Arg& scale) {
  to.dtype({from.dtype(), DType::kI8, DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2,
            DType::kF8E5M2FNUZ})
      .on_device_of(from);
  if (scale && to.dtype() == from.dtype())
    to.refuse("has dtype %s, expected int8 or an 8-bit float where scales are given",
              dtype_name(to.dtype()));
}

void check_tokens(const Check& check, const Arg& q, FusedArgs* args) {
  args->tokens = q.dim(0);
  args->dtype = q.dtype();
  check.require(args->tokens < int64_t{1} << 24, "q has %lld tokens, expected less than 2^24",
                static_cast<long long>(args->tokens));
}

RopeTurn turn_of(const aiter_fused_qk_rope_cache_opts& opts) {
  return {opts.interleaved != 0,
          opts.full_width != 0,
          {opts.section0, opts.section1, opts.section2},
          opts.sections_interleaved != 0};
}

void run(const FusedArgs& args, const Arg& q, const Arg& cache, uint32_t flags,
         aiter_stream stream) {
  bool whole_heads = true;
  for (int i = 0; i < args.part_count; ++i)
    for (int k = 0; k < args.parts[i].target_count; ++k)
      whole_heads = whole_heads && args.parts[i].targets[k].group >= args.parts[i].dim;
  const FusedQkRopeReshapeAndCacheProblem problem{
      args.dtype,
      cache.dtype(),
      args.tokens,
      args.parts[0].heads,
      q.dim(-1),
      2 * args.angles.pairs,
      heads_aligned16(args),
      whole_heads && units(args, 16 / dtype_bytes(args.dtype)) <= 32,
  };
  dispatch(fused_qk_rope_reshape_and_cache_op, kRows, problem, args, q.device(), stream, flags);
}

void fused_qk_rope_reshape_and_cache(
    const aiter_tensor* q_, const aiter_tensor* key_, const aiter_tensor* value_,
    const aiter_tensor* key_cache_, const aiter_tensor* value_cache_,
    const aiter_tensor* slot_mapping, const aiter_tensor* k_scale_, const aiter_tensor* v_scale_,
    const aiter_tensor* q_weight, const aiter_tensor* k_weight, const aiter_tensor* positions,
    const aiter_tensor* cos, const aiter_tensor* sin, const aiter_tensor* q_out_,
    const aiter_tensor* key_out_, const aiter_tensor* value_out_,
    const aiter_fused_qk_rope_cache_opts* opts_, aiter_stream stream) {
  const Check check("fused_qk_rope_reshape_and_cache");
  const auto opts =
      check.options<aiter_fused_qk_rope_cache_opts>(opts_, AITER_FUSED_QK_ROPE_CACHE_OPTS_INIT);
  check.require(opts.quant >= AITER_CACHE_QUANT_STATIC && opts.quant <= AITER_CACHE_QUANT_PER_PAGE,
                "opts.quant is %d, expected 0 to 2", opts.quant);
  const bool per_token = opts.quant == AITER_CACHE_QUANT_PER_TOKEN;
  const bool per_page = opts.quant == AITER_CACHE_QUANT_PER_PAGE;
  const Arg q = check.tensor("q", q_);
  q.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(3).unit_last_stride();
  const Arg key = check.tensor("key", key_);
  key.dtype_of(q).shape({q.dim(0), -1, -1}).unit_last_stride().on_device_of(q);
  if (key.dim(2) != q.dim(2)) key.shape({q.dim(0), -1, q.dim(2)});
  const int64_t heads = key.dim(1);
  const Arg value = check.tensor("value", value_);
  value.dtype_of(q).shape({q.dim(0), heads, -1}).unit_last_stride().on_device_of(q);
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
  const Arg q_out = check.tensor("q_out", q_out_);
  q_out.dtype_of(q).shape_of(q).unit_last_stride().on_device_of(q);
  // Results beside the caches: numbers, or the codes that the caches get with given scales.
  aiter_tensor typed[2];
  const auto result = [&](const char* name, const aiter_tensor* tensor, const Arg& like) {
    if (!tensor) return Arg();
    aiter_tensor& its = typed[&like == &value];
    its = with_dtype(tensor, opts.cache_dtype);
    const Arg out = check.tensor(name, &its);
    out.shape_of(like).unit_last_stride().on_device_of(q);
    if (opts.quant != AITER_CACHE_QUANT_STATIC || out.dtype() != key_cache.dtype()) out.dtype_of(q);
    return out;
  };
  const Arg key_out = result("key_out", key_out_, key);
  const Arg value_out = result("value_out", value_out_, value);

  FusedArgs args{};
  check_tokens(check, q, &args);
  args.angles = rope_angles(check, turn_of(opts), q, 1, check.optional("cos_cache", cos),
                            check.optional("sin_cache", sin),
                            check.optional("positions", positions), positions);
  const HeadNorm norm{nullptr, DType::kNone, opts.eps, opts.norm != 0, opts.gemma != 0};
  Parts parts(check, &args);
  const bool nope_first = opts.nope_first != 0;
  FusedArgs::Part& q_part =
      parts.add(q, q.dim(1), true, nope_first,
                head_norm(check, norm, check.optional("q_weight", q_weight), q));
  FusedArgs::Part& k_part =
      parts.add(key, heads, true, nope_first,
                head_norm(check, norm, check.optional("k_weight", k_weight), key));
  parts.into_rows(q_part, q_out);

  if (per_page) {
    check.require(bool(key_out), "key_out is NULL, expected an array with scales per page");
    parts.into_rows(k_part, key_out);
    if (value_out) parts.into_rows(parts.add(value, heads, false), value_out);
    aiter_reshape_and_cache_with_block_quant_opts block =
        AITER_RESHAPE_AND_CACHE_WITH_BLOCK_QUANT_OPTS_INIT;
    block.page_slots = opts.page_slots;
    block.cache_dtype = opts.cache_dtype;
    const auto write_pages = [&](uint32_t flags) {
      block.flags = flags;
      reshape_and_cache_with_block_quant(check, key_out_, value_, key_cache_, value_cache_,
                                         k_scale_, v_scale_, slot_mapping, &block, stream);
    };
    write_pages(opts.flags | AITER_DRY_RUN);  // its checks, before anything is written
    run(args, q, key_cache, opts.flags, stream);
    if (!(opts.flags & AITER_DRY_RUN)) write_pages(opts.flags);
    return;
  }
  CacheShape shape;
  const CacheLayout keys = check_key_cache(key_cache, heads, key.dim(2), &shape);
  const CacheLayout values = check_value_cache(value_cache, heads, value.dim(2), shape);
  args.slots = check_slots(check, slot_mapping, key, shape);
  CacheScales k_scales, v_scales;
  if (per_token) {
    check.require(k_scale && v_scale, "k_scale or v_scale is NULL, expected arrays of scales");
    k_scales = check_token_scale(k_scale, heads, shape, key);
    v_scales = check_token_scale(v_scale, heads, shape, key);
  } else {
    k_scales = check_static_scale(k_scale, heads, key);
    v_scales = check_static_scale(v_scale, heads, key);
  }
  FusedArgs::Part& v_part = parts.add(value, heads, false);
  if (key_out) parts.into_rows(k_part, key_out, per_token ? CacheScales{} : k_scales);
  if (value_out) parts.into_rows(v_part, value_out, per_token ? CacheScales{} : v_scales);
  parts.into_cache(k_part, keys, key_cache, k_scales, per_token);
  parts.into_cache(v_part, values, value_cache, v_scales, per_token);
  run(args, q, key_cache, opts.flags, stream);
}

void fused_qk_rope_concat_and_cache_mla(const aiter_tensor* q_nope_, const aiter_tensor* q_pe_,
                                        const aiter_tensor* kv_c_, const aiter_tensor* k_pe_,
                                        const aiter_tensor* kv_cache_, const aiter_tensor* slots,
                                        const aiter_tensor* k_scale_, const aiter_tensor* q_scale_,
                                        const aiter_tensor* positions, const aiter_tensor* cos,
                                        const aiter_tensor* sin, const aiter_tensor* q_out_,
                                        const aiter_fused_qk_rope_cache_opts* opts_,
                                        aiter_stream stream) {
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
  args.angles =
      rope_angles(check, turn_of(opts), q_nope, 1, check.tensor("cos_cache", cos),
                  check.tensor("sin_cache", sin), check.tensor("positions", positions), positions);
  const bool rope_first = opts.rope_first != 0;
  const MlaCache cache = check_mla_cache(kv_c, k_pe, kv_cache, rope_first);
  k_pe.on_device_of(q_nope);
  args.slots = check_slots(check, slots, kv_c, cache.shape);
  const CacheScales q_scales = check_static_scale(q_scale, 1, q_nope);
  const CacheScales k_scales = check_static_scale(k_scale, 1, q_nope);
  Parts parts(check, &args);
  parts.into_rows(parts.add(q_nope, heads, false), q_out, q_scales, rope_first ? rope : 0);
  parts.into_rows(parts.add(q_pe, heads, true), q_out, q_scales, rope_first ? 0 : latent);
  parts.into_cache(parts.add(kv_c, cache.heads, false), cache.latent, kv_cache, k_scales);
  parts.into_cache(parts.add(k_pe, cache.heads, true), cache.rope, kv_cache, k_scales);
  run(args, q_nope, kv_cache, opts.flags, stream);
}

void inverse_rope_group_quant(const aiter_tensor* o_, const aiter_tensor* positions,
                              const aiter_tensor* cos, const aiter_tensor* sin,
                              const aiter_tensor* codes_, const aiter_tensor* scale_,
                              const aiter_inverse_rope_group_quant_opts* opts_,
                              aiter_stream stream) {
  const Check check("inverse_rope_group_quant");
  const auto opts = check.options<aiter_inverse_rope_group_quant_opts>(
      opts_, AITER_INVERSE_ROPE_GROUP_QUANT_OPTS_INIT);
  const Arg o = check.tensor("o", o_);
  o.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(3).unit_last_stride();
  const int64_t tokens = o.dim(0), heads = o.dim(1), dim = o.dim(2), group = opts.group;
  check.require(codes_, "codes is NULL, expected a tensor");
  const aiter_tensor codes_tensor = with_dtype(codes_, opts.codes_dtype);
  const Arg codes = check.tensor("codes", &codes_tensor), scale = check.tensor("scale", scale_);
  codes.dtype({DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2, DType::kF8E5M2FNUZ})
      .rank(3)
      .on_device_of(o);
  scale.dtype({DType::kF8E8M0, DType::kU8}).on_device_of(o);
  const int64_t rows = codes.dim(1), width = codes.dim(2);
  check.require(group > 0 && dim % group == 0,
                "opts.group is %lld, expected a divisor of o's %lld dims",
                static_cast<long long>(group), static_cast<long long>(dim));
  if (rows * width != heads * dim || width % group)
    codes.refuse("has %lld rows of %lld, expected %lld in all, each a multiple of opts.group",
                 static_cast<long long>(rows), static_cast<long long>(width),
                 static_cast<long long>(heads * dim));
  codes.shape({tokens, rows, width}).unit_last_stride();
  const bool several = rows > 1 && tokens > 0;
  if (several && codes.stride(1) != width) codes.refuse("has gaps between rows, expected none");

  FusedArgs args{};
  check_tokens(check, o, &args);
  RopeTurn turn;
  turn.interleaved = opts.interleaved != 0;
  args.angles =
      rope_angles(check, turn, o, 1, check.tensor("cos_cache", cos), check.tensor("sin_cache", sin),
                  check.tensor("positions", positions), positions);
  args.angles.inverse = true;
  Parts parts(check, &args);
  FusedArgs::Part& part = parts.add(o, heads, true, true);
  parts.into_rows(part, codes);
  FusedArgs::Target& target = part.targets[0];
  target.to.head = dim;  // rows follow each other
  const int64_t columns = width / group, tiles = (tokens + 31) / 32;
  CacheScales strides{nullptr, 0, 0, dim / group, 1};
  if (opts.scale_layout == AITER_SCALES_ROW) {
    scale.shape({tokens, rows, columns}).unit_last_stride();
    if (several && scale.stride(1) != columns) scale.refuse("has gaps between rows, expected none");
    strides.page = scale.stride(0);
  } else if (opts.scale_layout == AITER_SCALES_MFMA_TILE) {
    const int64_t pad = group == 128 ? 2 : 8, padded = (columns + pad - 1) / pad * pad;
    scale.shape({rows, tiles * 32, padded}).contiguous();
    strides.page = 32 * padded, strides.slot = tiles * 32 * padded;
    target.order = pad == 8 ? FusedArgs::ScaleOrder::kTiles8 : FusedArgs::ScaleOrder::kTiles2;
  } else {
    check.require(opts.scale_layout == AITER_SCALES_N32K4,
                  "opts.scale_layout is %d, expected 0 to 2", opts.scale_layout);
    if (columns % 4)
      codes.refuse("has %lld groups a row, expected a multiple of 4",
                   static_cast<long long>(columns));
    scale.shape({tiles, rows, 32 * columns}).contiguous();
    strides.page = rows * 32 * columns, strides.slot = 32 * columns;
    target.order = FusedArgs::ScaleOrder::kTiles4;
  }
  target.columns = divisor(std::max<int64_t>(columns, 1));
  target.amax_floor = 1e-8f;
  parts.by_groups(part, group, scale.data(), strides);
  run(args, o, codes, opts.flags, stream);
}

}  // namespace

}  // namespace aiter

extern "C" aiter_status aiter_fused_qk_rope_reshape_and_cache(
    const aiter_tensor* q, const aiter_tensor* key, const aiter_tensor* value,
    const aiter_tensor* key_cache, const aiter_tensor* value_cache,
    const aiter_tensor* slot_mapping, const aiter_tensor* k_scale, const aiter_tensor* v_scale,
    const aiter_tensor* q_weight, const aiter_tensor* k_weight, const aiter_tensor* positions,
    const aiter_tensor* cos_cache, const aiter_tensor* sin_cache, const aiter_tensor* q_out,
    const aiter_tensor* key_out, const aiter_tensor* value_out,
    const aiter_fused_qk_rope_cache_opts* opts, aiter_stream stream) {
  return aiter::entry("fused_qk_rope_reshape_and_cache", [&] {
    aiter::fused_qk_rope_reshape_and_cache(
        q, key, value, key_cache, value_cache, slot_mapping, k_scale, v_scale, q_weight, k_weight,
        positions, cos_cache, sin_cache, q_out, key_out, value_out, opts, stream);
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

extern "C" aiter_status aiter_inverse_rope_group_quant(
    const aiter_tensor* o, const aiter_tensor* positions, const aiter_tensor* cos_cache,
    const aiter_tensor* sin_cache, const aiter_tensor* codes, const aiter_tensor* scale,
    const aiter_inverse_rope_group_quant_opts* opts, aiter_stream stream) {
  return aiter::entry("inverse_rope_group_quant", [&] {
    aiter::inverse_rope_group_quant(o, positions, cos_cache, sin_cache, codes, scale, opts, stream);
  });
}
