#include <algorithm>
#include <cmath>

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
  constexpr int64_t kThreads = 256, kMostThreads = 512, kLinesAtOnce = 4, kPartsOfLane = 24;
  FusedArgs args = given;
  const int64_t lanes = head_lanes(units(args, args.parts[0], 4), kMostThreads);
  // Groups of lanes that share the lines of a head, where there are few heads.
  int64_t shares = 1;
  while (2 * shares * lanes <= kMostThreads && shares * kLinesAtOnce < args.pool.count &&
         args.tokens * lanes * shares < int64_t{1024} * device_of(call.device).multiprocessors)
    shares *= 2;
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

// The parts of a call, and where they go.
class Parts {
 public:
  Parts(const Check& check, FusedArgs* args) : check_(check), args_(args) {}

  // Heads of `from`, (tokens, heads, dim) or (tokens, dim). Parts are named by their index.
  int add(const Arg& from, int64_t heads, bool turns, bool nope_first = false,
          const HeadNorm& norm = {}) {
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
  FusedArgs::Target& into_cache(int part, const CacheLayout& to, const Arg& cache,
                                const CacheScales& scale, bool dynamic = false) {
    FusedArgs::Target& target = place(part, to, cache.dtype(), scale, dynamic);
    target.to_slots = args_->cached = true;
    return target;
  }
  // Rows of an array (tokens, heads, ...), or (tokens, ...), from dim `begin` on.
  FusedArgs::Target& into_rows(int part, const Arg& to, const CacheScales& scale = {},
                               int64_t begin = 0, bool dynamic = false) {
    void* data = static_cast<char*>(to.data()) + begin * dtype_bytes(to.dtype());
    const int64_t head = to.rank() == 3 ? to.stride(1) : 0;
    return place(part, {data, to.stride(0), head, 0, 0, 0, 1, kNotSplit, kNotSplit}, to.dtype(),
                 scale, dynamic);
  }

 private:
  FusedArgs::Target& place(int index, const CacheLayout& to, DType dtype, const CacheScales& scale,
                           bool dynamic) {
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
    target.quant = !codes    ? CacheQuant::kNone
                   : dynamic ? CacheQuant::kDynamic
                             : CacheQuant::kStatic;
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

void run(FusedArgs* args, const Arg& q, const Arg& cache, uint32_t flags, aiter_stream stream) {
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
    run(&args, q, key_cache, opts.flags, stream);
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
  run(&args, q, key_cache, opts.flags, stream);
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
  run(&args, q_nope, kv_cache, opts.flags, stream);
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
  FusedArgs::Target& target = parts.into_rows(parts.add(o, heads, true, true), codes, {}, 0, true);
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
  target.group = group, target.scale_dtype = DType::kF8E8M0;
  target.scale = strides, target.scale.data = static_cast<float*>(scale.data());
  run(&args, o, codes, opts.flags, stream);
}

// Outputs of q, kv or the cache of kv: numbers or codes, the scales of codes, and the turned dims where
// these have a place of their own.
struct Output {
  Arg out, scale, rope;
};

class GroupQuant {
 public:
  struct Opts {
    bool hadamard;
    int64_t page_slots;
    float amax_floor;
    bool power_scales;  // f32, but powers of two
  };
  GroupQuant(const Check& check, const Opts& opts, const Arg& heads, FusedArgs* args)
      : check_(check), opts_(opts), heads_(heads), args_(args), parts_(check, args) {}

  Parts& parts() { return parts_; }

  // (tokens, heads, ...), or (tokens, ...) without heads.
  void into_rows(int index, const Output& to, int64_t group, bool cached_only) {
    const FusedArgs::Part& part = args_->parts[index];
    const bool has_heads = index == 0 && parts_have_heads_;
    auto shape = [&](const Arg& arg, int64_t last) {
      arg.on_device_of(heads_);
      if (has_heads)
        arg.shape({args_->tokens, part.heads, last});
      else
        arg.shape({args_->tokens, last});
      arg.unit_last_stride();
    };
    const int64_t count = check_numbers(to, part.dim);
    shape(to.out, count * element_bits(to.out.dtype()) / (8 * dtype_bytes(to.out.dtype())));
    FusedArgs::Target& target = parts_.into_rows(index, to.out, {}, 0, true);
    target.count = count, target.cached_only = cached_only;
    if (to.scale) {
      const int64_t groups = check_groups(to.out, count, &group);
      CacheScales strides{nullptr, 0, 0, 0, 0};
      if (has_heads && to.scale.rank() == 4) {
        tiled(to.scale, args_->tokens, groups, (part.heads + 15) / 16, &target, &strides);
      } else {
        shape(to.scale, -1);
        copies(to.scale, groups, &target);
        strides.page = to.scale.stride(0), strides.head = has_heads ? to.scale.stride(1) : 0;
      }
      scales(to.scale, group, strides, &target);
    }
    if (to.rope) {
      shape(to.rope, part.dim - count);
      FusedArgs::Target& rope = parts_.into_rows(index, to.rope);
      turned_dims(count, &rope);
      rope.cached_only = cached_only;
    }
  }

  void into_cache(int index, const Output& to, int64_t group, CacheShape* cache_shape) {
    const FusedArgs::Part& part = args_->parts[index];
    const int64_t count = check_numbers(to, part.dim);
    const CacheLayout layout = cache_layout(
        to.out, count * element_bits(to.out.dtype()) / (8 * dtype_bytes(to.out.dtype())),
        cache_shape);
    FusedArgs::Target& target = parts_.into_cache(index, layout, to.out, {}, true);
    target.count = count;
    auto same_slots = [&](const Arg& arg, const CacheShape& its) {
      if (its.pages != cache_shape->pages || its.block != cache_shape->block)
        arg.refuse("has %lld pages of %lld slots, expected %lld of %lld, as kv_cache",
                   static_cast<long long>(its.pages), static_cast<long long>(its.block),
                   static_cast<long long>(cache_shape->pages),
                   static_cast<long long>(cache_shape->block));
    };
    if (to.scale) {
      const int64_t groups = check_groups(to.out, count, &group);
      CacheScales strides{nullptr, 0, 0, 0, 0};
      if (to.scale.rank() == 4) {
        if (cache_shape->block % 16)
          to.scale.refuse("has tiles of 16 slots, expected none of pages of %lld",
                          static_cast<long long>(cache_shape->block));
        tiled(to.scale, cache_shape->pages, groups, cache_shape->block / 16, &target, &strides);
      } else {
        CacheShape its;
        const CacheLayout scales_at = cache_layout(to.scale, to.scale.dim(-1), &its);
        same_slots(to.scale, its);
        copies(to.scale, groups, &target);
        strides.page = scales_at.page, strides.slot = scales_at.slot_inner;
      }
      scales(to.scale, group, strides, &target);
    }
    if (to.rope) {
      CacheShape its;
      const CacheLayout rope_at = cache_layout(to.rope, part.dim - count, &its);
      same_slots(to.rope, its);
      turned_dims(count, &parts_.into_cache(index, rope_at, to.rope, {}));
    }
  }

  void parts_have_heads() { parts_have_heads_ = true; }

 private:
  static int64_t element_bits(DType dtype) {
    return dtype_bytes(dtype) == 1 ? code_bits(dtype) : 8 * dtype_bytes(dtype);
  }
  // How many dims go to to.out, whose dtype and companions are checked.
  int64_t check_numbers(const Output& to, int64_t dim) const {
    const std::initializer_list<DType> floats{DType::kF32, DType::kF16, DType::kBF16};
    to.out.on_device_of(heads_).dtype({DType::kF32, DType::kF16, DType::kBF16, DType::kI8,
                                       DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2,
                                       DType::kF8E5M2FNUZ, DType::kF4E2M1x2});
    const bool codes = dtype_bytes(to.out.dtype()) == 1;
    if (codes != bool(to.scale))
      to.out.refuse("has dtype %s %s scales, expected scales for codes alone",
                    dtype_name(to.out.dtype()), to.scale ? "with" : "without");
    if (!to.rope) return dim;
    to.rope.dtype(floats).on_device_of(heads_);
    check_.require(args_->angles.pairs > 0 && !opts_.hadamard,
                   "a place for the turned dims is given, expected NULL where none turn or "
                   "opts.hadamard mixes them with others");
    return dim - 2 * args_->angles.pairs;
  }
  int64_t check_groups(const Arg& out, int64_t count, int64_t* group) const {
    if (*group == 0) *group = std::max<int64_t>(count, 1);
    check_.require(
        *group > 0 && count % *group == 0 && *group % (element_bits(out.dtype()) == 4 ? 2 : 1) == 0,
        "the group of a scale has %lld dims, expected a divisor of the %lld coded ones, "
        "even for pairs of codes",
        static_cast<long long>(*group), static_cast<long long>(count));
    return count / *group;
  }
  static void tiled(const Arg& scale, int64_t rows, int64_t groups, int64_t tiles,
                    FusedArgs::Target* target, CacheScales* strides) {
    scale.shape({rows, groups, 16, -1});
    if (scale.dim(3) < tiles)
      scale.refuse("has %lld tiles of 16, expected %lld", static_cast<long long>(scale.dim(3)),
                   static_cast<long long>(tiles));
    target->order = FusedArgs::ScaleOrder::kRows16;
    *strides = {nullptr, scale.stride(0), scale.stride(2), scale.stride(3), scale.stride(1)};
  }
  // Sets how often each of a row's scales is there.
  static void copies(const Arg& scale, int64_t groups, FusedArgs::Target* target) {
    const int64_t last = scale.dim(-1);
    int32_t bits = 0;
    while (bits < 3 && groups << bits < last) ++bits;
    if (groups << bits != last)
      scale.refuse("has %lld scales a head, expected %lld, or 2, 4 or 8 of each",
                   static_cast<long long>(last), static_cast<long long>(groups));
    scale.unit_last_stride();
    target->scale_bits = bits;
  }
  void scales(const Arg& scale, int64_t group, CacheScales strides,
              FusedArgs::Target* target) const {
    scale.dtype({DType::kF32, DType::kF8E8M0, DType::kU8}).on_device_of(heads_);
    strides.data = static_cast<float*>(scale.data());
    if (target->order == FusedArgs::ScaleOrder::kStrided)
      strides.group = int64_t{1} << target->scale_bits;
    target->scale = strides;
    target->whole_scale = scale.dtype() == DType::kF32;
    target->scale_dtype = target->whole_scale && !opts_.power_scales ? DType::kF32 : DType::kF8E8M0;
    target->group = group;
    target->amax_floor = opts_.amax_floor;
  }
  static void turned_dims(int64_t begin, FusedArgs::Target* target) {
    target->begin = static_cast<int32_t>(begin), target->count -= begin;
  }
  // (pages, block, last), (slots, last), (pages, last / x, block, x) or (pages, block / y, last / x, y,
  // x).
  CacheLayout cache_layout(const Arg& cache, int64_t last, CacheShape* shape) const {
    cache.min_rank(2).on_device_of(heads_);
    if (cache.rank() > 5) cache.rank(5);
    auto log2_of = [&](int i) {
      const int64_t x = cache.dim(i);
      if (x < 1 || x > 1024 || (x & (x - 1)))
        cache.refuse("has %lld in dimension %d, expected a power of two up to 1024",
                     static_cast<long long>(x), i);
      return static_cast<int32_t>(__builtin_ctzll(x));
    };
    CacheLayout to{cache.data(), cache.stride(0), 0, 0, 0, 0, 1, kNotSplit, kNotSplit};
    *shape = {cache.dim(0), 0, true};
    if (cache.rank() == 2) {
      check_.require(opts_.page_slots > 0 && cache.dim(0) % opts_.page_slots == 0,
                     "opts.page_slots is %lld, expected a divisor of the cache's %lld slots",
                     static_cast<long long>(opts_.page_slots),
                     static_cast<long long>(cache.dim(0)));
      cache.shape({-1, last}).unit_last_stride();
      shape->block = opts_.page_slots, shape->pages /= opts_.page_slots;
      to.slot_inner = to.page, to.page *= opts_.page_slots;
    } else if (cache.rank() == 3) {
      cache.shape({-1, -1, last}).unit_last_stride();
      shape->block = cache.dim(1);
      to.slot_inner = cache.stride(1);
    } else {
      const bool slots_split = cache.rank() == 5;
      const int tile = slots_split ? 2 : 1;
      to.dim_bits = log2_of(-1 + cache.rank());
      if (cache.dim(tile) << to.dim_bits != last)
        cache.refuse("has %lld tiles of %lld, expected %lld in all",
                     static_cast<long long>(cache.dim(tile)), static_cast<long long>(cache.dim(-1)),
                     static_cast<long long>(last));
      to.dim_outer = cache.stride(tile), to.dim_inner = cache.stride(cache.rank() - 1);
      to.slot_inner = cache.stride(cache.rank() - 2);
      shape->block = cache.dim(cache.rank() - 2);
      if (slots_split) {
        to.slot_bits = log2_of(3), to.slot_outer = cache.stride(1);
        shape->block *= cache.dim(1);
      }
    }
    if (shape->block >= int64_t{1} << 31)
      cache.refuse("has %lld slots a page, expected less than 2^31",
                   static_cast<long long>(shape->block));
    return to;
  }

  const Check& check_;
  const Opts opts_;
  const Arg& heads_;
  FusedArgs* args_;
  Parts parts_;
  bool parts_have_heads_ = false;
};

// Block tables, (sequences, blocks), or windows, (sequences): all of args->slots and ->sequences but
// which sequence and position a token has.
void check_tables(const Arg& table, const Arg& heads, const CacheShape& shape, FusedArgs* args) {
  table.dtype({DType::kI64, DType::kI32}).min_rank(1).on_device_of(heads);
  if (table.rank() > 2) table.rank(2);
  table.unit_last_stride();
  if (table.rank() == 2 && table.dim(1) == 0 && table.dim(0) > 0)
    table.refuse("has tables of no blocks, expected some");
  args->slots = {table.data(),
                 table.elements(),
                 shape.block > 0 ? shape.pages : 0,
                 shape.pages * shape.block,
                 divisor(std::max<int64_t>(shape.block, 1)),
                 table.dtype()};
  SequenceSlots& sequences = args->sequences;
  sequences.sequences = table.dim(0);
  sequences.columns = table.rank() == 2 ? table.dim(1) : 0;
  sequences.stride = table.rank() == 2 ? table.stride(0) : 1;
  sequences.ratio = divisor(1);
}

// On the CPU: that tables lead to no pages beyond the cache.
void check_pages(const Check& check, const char* name, const Arg& heads, const FusedArgs& args) {
  if (machine_of(heads.device()).target != ANY_CPU) return;
  FusedArgs any = args;
  any.slots.pages = INT64_MAX;
  for (int64_t t = 0; t < args.tokens; ++t) {
    int64_t page = 0;
    uint32_t slot = 0;
    const bool found = any.find(t, page, slot);
    check.require(!found || page < args.slots.pages,
                  "%s has %lld for token %lld, expected less than the cache's %lld pages", name,
                  static_cast<long long>(page), static_cast<long long>(t),
                  static_cast<long long>(args.slots.pages));
  }
}

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
    return Output{check.optional(out, given[0]), check.optional(scale, given[1]),
                  check.optional(rope, given[2])};
  };
  const Output q_out = output(0, "q_out", "q_scale", "q_rope");
  const Output kv_out = output(3, "kv_out", "kv_scale", "kv_rope");
  const Output cache = output(6, "kv_cache", "kv_cache_scale", "kv_cache_rope");
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
  run(&args, heads, q ? q_out.out : kv_out.out ? kv_out.out : cache.out, opts.flags, stream);
}

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
  const Output cache{check.tensor("kv_cache", &typed),
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
  run(&args, kv, cache.out, opts.flags, stream);
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
