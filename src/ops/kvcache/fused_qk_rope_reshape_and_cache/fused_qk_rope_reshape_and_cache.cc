#include <algorithm>

#include "aiter/kvcache.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_parts.h"
#include "ops/kvcache/reshape_and_cache_with_block_quant/reshape_and_cache_with_block_quant.h"

namespace aiter {

struct FusedQkRopeReshapeAndCacheProblem {
  DType dtype, cache_dtype;
  int64_t tokens, heads, dim, rotary_dim;
  bool aligned16;     // heads, their parts, weights and tables in units of 16 bytes
  bool in_registers;  // a wave holds a head, whose scales are for all dims
  bool plain, codes;  // see is_plain; some target has codes
  bool pool;          // see pools_by_packs
};

AITER_CPU_ROW(fused_qk_rope_reshape_and_cache_cpu_simd, FusedArgs)
AITER_CPU_ROW(fused_qk_rope_reshape_and_cache_cpu_ref, FusedArgs)

// Pairs of packs of a head.
static int64_t units(const FusedArgs& args, const FusedArgs::Part& part, int64_t pack) {
  return head_units(part.dim, part.turns ? args.angles.pairs : 0, pack);
}

static void fused_qk_rope_cache_hip(const FloatKernels& kernels, int64_t pack, FusedArgs args,
                                    const Call& call) {
  const Device& device = device_of(call.device);
  constexpr int64_t kThreads = 128, kWidth = 1 << 20;
  int64_t blocks = 0, threads = 0, dims = 0;  // dims: in shared memory
  for (int i = 0; i < args.part_count; ++i) {
    FusedArgs::Part& part = args.parts[i];
    part.lanes = head_lanes(units(args, part, pack), device.wave);
    threads += args.tokens * part.heads * part.lanes;
    if (pack == 1 && part.changed(args)) dims = std::max(dims, kThreads / part.lanes * part.dim);
  }
  args.heads_at_once = pack > 1 && call.device.type == AITER_CUDA
                           ? heads_at_once(threads, device.multiprocessors)
                           : 1;
  for (int i = 0; i < args.part_count; ++i) {
    const FusedArgs::Part& part = args.parts[i];
    const int64_t per_block = kThreads / part.lanes,
                  shares = (part.heads + args.heads_at_once - 1) / args.heads_at_once;
    blocks = std::max(blocks, (args.tokens * shares + per_block - 1) / per_block);
  }
  launch(kernels[args.dtype], call,
         {.x = std::min(blocks, kWidth),
          .y = args.part_count,
          .z = (blocks + kWidth - 1) / kWidth,
          .threads = kThreads,
          .shared_bytes = static_cast<int>(dims * 4)},
         args);
}

static void fused_qk_rope_cache_plain(const FloatKernels& kernels, bool codes, FusedArgs args,
                                      const Call& call) {
  const Device& device = device_of(call.device);
  int64_t threads = 0, shares = 0;
  int32_t most_lanes = 1;
  for (int i = 0; i < args.part_count; ++i) {
    FusedArgs::Part& part = args.parts[i];
    part.lanes = head_lanes(units(args, part, 16 / dtype_bytes(args.dtype)), device.wave);
    threads += args.tokens * part.heads * part.lanes;
    most_lanes = std::max(most_lanes, part.lanes);
  }
  args.heads_at_once = heads_at_once(threads, device.multiprocessors, BlocksOfTokens::kMostHeads);
  const BlocksOfTokens blocks(args.tokens, most_lanes);
  args.tokens_of_block = blocks.tokens;
  for (int i = 0; i < args.part_count; ++i) {
    FusedArgs::Part& part = args.parts[i];
    shares += part.shares = blocks.shares(part.heads, part.lanes, args.heads_at_once);
  }
  // For each thread the places of its part's heads, and rows of heads that are turned.
  Grid grid = blocks.grid(shares);
  for (int i = 0; i < args.part_count; ++i) {
    const FusedArgs::Part& part = args.parts[i];
    int64_t bytes = part.target_count * grid.threads * (codes ? 32 : 16);
    for (int k = 0; k < part.target_count; ++k)
      if (args.targets[part.targets[k]].staged)
        bytes +=
            grid.threads / part.lanes * (part.dim * (codes ? 1 : dtype_bytes(args.dtype)) + 16);
    grid.shared_bytes = std::max(grid.shared_bytes, static_cast<int>(bytes));
  }
  launch(kernels[args.dtype], call, grid, args);
}

static void fused_qk_rope_reshape_and_cache_hip_plain(const FusedArgs& args, const Call& call) {
  static constexpr FloatKernels kernels =
      AITER_FLOAT_KERNELS(fused_qk_rope_reshape_and_cache, hip_plain);
  fused_qk_rope_cache_plain(kernels, false, args, call);
}

static void fused_qk_rope_reshape_and_cache_hip_codes(const FusedArgs& args, const Call& call) {
  static constexpr FloatKernels kernels[] = {
      AITER_FLOAT_KERNELS(fused_qk_rope_reshape_and_cache, hip_codes),
      AITER_FLOAT_KERNELS(fused_qk_rope_reshape_and_cache, hip_codes_e4m3fn),
      AITER_FLOAT_KERNELS(fused_qk_rope_reshape_and_cache, hip_codes_e4m3fnuz)};
  const int kind = args.code == DType::kF8E4M3FN ? 1 : args.code == DType::kF8E4M3FNUZ ? 2 : 0;
  fused_qk_rope_cache_plain(kernels[kind], true, args, call);
}

static void fused_qk_rope_reshape_and_cache_hip_vec(const FusedArgs& args, const Call& call) {
  static constexpr FloatKernels kernels =
      AITER_FLOAT_KERNELS(fused_qk_rope_reshape_and_cache, hip_vec);
  fused_qk_rope_cache_hip(kernels, 16 / dtype_bytes(args.dtype), args, call);
}

static void fused_qk_rope_reshape_and_cache_hip_pool(const FusedArgs& given, const Call& call) {
  static constexpr FloatKernels kernels =
      AITER_FLOAT_KERNELS(fused_qk_rope_reshape_and_cache, hip_pool);
  constexpr int64_t kThreads = 256, kMostThreads = 512, kLinesOfLane = 8, kPartsOfLane = 24;
  FusedArgs args = given;
  const int64_t lanes = head_lanes(units(args, args.parts[0], 4), kMostThreads);
  // Groups of lanes that share the lines of a head, as many for few heads as for many: sums do not depend
  // on the batch.
  int64_t shares = 1;
  while (2 * shares * lanes <= kMostThreads && shares * kLinesOfLane < args.pool.count) shares *= 2;
  args.parts[0].lanes = static_cast<int32_t>(lanes);
  const int64_t heads = std::max<int64_t>(kThreads / (lanes * shares), 1);
  args.tokens_of_block = static_cast<int32_t>(heads);
  launch(kernels[args.pool.kv.dtype], call,
         {.x = (args.tokens + heads - 1) / heads,
          .threads = static_cast<int>(heads * lanes * shares),
          .shared_bytes = static_cast<int>((shares - 1) * heads * lanes * kPartsOfLane * 4)},
         args);
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
    const int64_t from_bytes = dtype_bytes(part.from_dtype);
    aligned = aligned && part.dim * bytes % 16 == 0 && is_aligned16(part.norm.weight) &&
              is_aligned16(part.from);
    for (int64_t stride : {part.from_token, part.from_head, part.from_split})
      aligned = aligned && stride * from_bytes % 16 == 0;
  }
  return aligned;
}

// Whether the lanes of hip_vec, each of which holds two packs of a head, can turn it by a Hadamard
// matrix and share the scales of groups; sets how many lanes share one.
bool lanes_share(FusedArgs* a) {
  const int64_t both = 2 * 16 / dtype_bytes(a->dtype);
  bool can = true;
  for (int i = 0; i < a->part_count; ++i) {
    const FusedArgs::Part& part = a->parts[i];
    // Else the two packs of some lanes are apart.
    if (a->hadamard != 0 && (part.dim < both || (part.turns && !a->angles.pairs_interleaved)))
      can = false;
  }
  for (int k = 0; k < a->target_count; ++k) {
    FusedArgs::Target& target = a->targets[k];
    if (target.quant != CacheQuant::kDynamic || target.group >= target.count) continue;
    const FusedArgs::Part& part = a->parts[target.part];
    const int64_t turned = part.turns ? 2 * a->angles.pairs : 0;
    const bool apart = turned && !a->angles.pairs_interleaved &&
                       (part.first == 0 || target.begin + target.count > part.first);
    const int64_t lanes = target.group / both;
    can = can && !apart && target.group % both == 0 && (lanes & (lanes - 1)) == 0 &&
          target.begin % both == 0 && target.begin / both % lanes == 0 &&
          (part.dim - turned) % both == 0;
    target.lanes_per_group = static_cast<int32_t>(lanes);
  }
  return can;
}

// Whether parts are heads of tokens that turn plainly, and go as they are, or as codes of 8 bits, to a
// few places each; sets which. Heads that change on their way go where dims stay together.
bool is_plain(FusedArgs* a, bool codes) {
  bool plain = heads_turn_plainly(a->angles, a->dtype) && !a->pool.plan && a->hadamard == 0;
  for (int i = 0; i < a->part_count; ++i)
    plain = plain && !a->parts[i].summed(a->dtype) && weighs_plainly(a->parts[i].norm, a->dtype);
  for (int k = 0; k < a->target_count && plain; ++k) {
    FusedArgs::Target& target = a->targets[k];
    FusedArgs::Part& part = a->parts[target.part];
    const bool its_codes = target.quant != CacheQuant::kNone;
    const CacheLayout& to = target.to;
    plain = part.target_count < FusedArgs::plain_targets(codes) &&
            (its_codes ? target.dtype != DType::kF4E2M1x2 &&
                             target.order == FusedArgs::ScaleOrder::kStrided
                       : target.dtype == a->dtype);
    target.staged = !target.whole;
    if (target.staged)
      plain = plain && its_codes == codes && target.to_slots && !part.turns && !part.norm.on &&
              target.begin == 0 && target.count == part.dim && target.lanes_per_group == 0 &&
              slots_by_16_bytes(to, a->slots, its_codes ? 1 : dtype_bytes(a->dtype));
    for (int j = 0; j < part.target_count; ++j)
      plain = plain && !(target.staged && a->targets[part.targets[j]].staged);
    // Where dims are is counted in 32 bits.
    const int64_t last = std::max<int64_t>(part.dim - 1, 0);
    const int64_t outer = to.dim_bits == kNotSplit ? 0 : last >> to.dim_bits;
    const int64_t inner = to.dim_bits == kNotSplit ? last : (int64_t{1} << to.dim_bits) - 1;
    const auto near = [](int64_t count, int64_t stride) {
      return static_cast<double>(count) * std::abs(static_cast<double>(stride)) <= 1 << 28;
    };
    plain = plain && near(outer, to.dim_outer) && near(inner, to.dim_inner);
    if (plain) part.targets[part.target_count++] = k;
  }
  return plain;
}

// Whether lanes can hold two packs of 4 dims of heads that are means of lines, numbers and scores of one
// dtype.
bool pools_by_packs(const FusedArgs& a) {
  const PooledHeads& pool = a.pool;
  const FusedArgs::Part& part = a.parts[0];
  bool can = pool.plan && part.dim % 8 == 0 && is_aligned16(part.norm.weight) &&
             (a.angles.pairs == 0 || (rope_tables_aligned16(a.angles) && a.angles.second == 0 &&
                                      a.angles.pairs % 4 == 0)) &&
             (pool.bias.dtype == DType::kF32 || pool.bias.dtype == pool.kv.dtype) &&
             (pool.kv_state.dtype == DType::kF32 || pool.kv_state.dtype == pool.kv.dtype);
  for (const PooledHeads::Lines& lines :
       {pool.kv, pool.score, pool.kv_state, pool.score_state, pool.bias}) {
    const int64_t bytes = dtype_bytes(lines.dtype);
    can = can && is_aligned16(lines.data) && pool.second * bytes % 16 == 0;
    for (int64_t stride : {lines.row, lines.line}) can = can && stride * bytes % 16 == 0;
  }
  return can;
}

}  // namespace

void run_fused(FusedArgs* args, const Arg& q, const Arg& cache, uint32_t flags,
               aiter_stream stream) {
  const bool shared = lanes_share(args);
  bool pool = shared && pools_by_packs(*args);
  for (int k = 0; k < args->target_count; ++k)
    pool = pool && args->targets[k].lanes_per_group <= 32;  // that reach each other
  bool in_registers = shared && !args->pool.plan;
  for (int i = 0; i < args->part_count; ++i)
    in_registers =
        in_registers && units(*args, args->parts[i], 16 / dtype_bytes(args->dtype)) <= 32;
  bool codes = false;
  for (int k = 0; k < args->target_count; ++k)
    codes = codes || args->targets[k].quant != CacheQuant::kNone;
  const FusedQkRopeReshapeAndCacheProblem problem{
      args->dtype,
      cache.dtype(),
      args->tokens,
      args->parts[0].heads,
      q.dim(-1),
      2 * args->angles.pairs,
      heads_aligned16(*args),
      in_registers,
      is_plain(args, codes),
      codes,
      pool,
  };
  dispatch(fused_qk_rope_reshape_and_cache_op, kRows, problem, *args, q.device(), stream, flags);
}

namespace {

void check_to_dtype(const Arg& from, const Arg& to, const Arg& scale) {
  to.dtype({from.dtype(), DType::kI8, DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2,
            DType::kF8E5M2FNUZ})
      .on_device_of(from);
  if (scale && to.dtype() == from.dtype())
    to.refuse("has dtype %s, expected int8 or an 8-bit float where scales are given",
              dtype_name(to.dtype()));
}

RopeTurn turn_of(const aiter_fused_qk_rope_cache_opts& opts) {
  return {opts.interleaved != 0,
          opts.full_width != 0,
          {opts.section0, opts.section1, opts.section2},
          opts.sections_interleaved != 0};
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
  FusedParts parts(check, &args);
  const bool nope_first = opts.nope_first != 0;
  const int q_part = parts.add(q, q.dim(1), true, nope_first,
                               head_norm(check, norm, check.optional("q_weight", q_weight), q));
  const int k_part = parts.add(key, heads, true, nope_first,
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
    run_fused(&args, q, key_cache, opts.flags, stream);
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
  const int v_part = parts.add(value, heads, false);
  if (key_out) parts.into_rows(k_part, key_out, per_token ? CacheScales{} : k_scales);
  if (value_out) parts.into_rows(v_part, value_out, per_token ? CacheScales{} : v_scales);
  parts.into_cache(k_part, keys, key_cache, k_scales, per_token);
  parts.into_cache(v_part, values, value_cache, v_scales, per_token);
  run_fused(&args, q, key_cache, opts.flags, stream);
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
  FusedParts parts(check, &args);
  parts.into_rows(parts.add(q_nope, heads, false), q_out, q_scales, rope_first ? rope : 0);
  parts.into_rows(parts.add(q_pe, heads, true), q_out, q_scales, rope_first ? 0 : latent);
  parts.into_cache(parts.add(kv_c, cache.heads, false), cache.latent, kv_cache, k_scales);
  parts.into_cache(parts.add(k_pe, cache.heads, true), cache.rope, kv_cache, k_scales);
  run_fused(&args, q_nope, kv_cache, opts.flags, stream);
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
