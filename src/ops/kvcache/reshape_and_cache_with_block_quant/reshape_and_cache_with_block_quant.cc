#include "ops/kvcache/reshape_and_cache_with_block_quant/reshape_and_cache_with_block_quant.h"

#include <algorithm>
#include <vector>

#include "aiter/kvcache.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/kvcache/cache_checks.h"
#include "ops/kvcache/reshape_and_cache_with_block_quant/reshape_and_cache_with_block_quant_args.h"

namespace aiter {

struct ReshapeAndCacheWithBlockQuantProblem {
  DType dtype, cache_dtype;
  int64_t tokens, page_slots;
  bool packs;  // see move_by_packs
};

using BlockQuantArgs = ReshapeAndCacheWithBlockQuantArgs;

AITER_CPU_ROW(reshape_and_cache_with_block_quant_cpu_simd, BlockQuantArgs)
AITER_CPU_ROW(reshape_and_cache_with_block_quant_cpu_ref, BlockQuantArgs)

static void reshape_and_cache_with_block_quant_hip_any(const BlockQuantArgs& args,
                                                       const Call& call) {
#define AITER_BLOCK_QUANT_KERNEL(code)                                                        \
  {                                                                                           \
    "reshape_and_cache_with_block_quant", "reshape_and_cache_with_block_quant_hip_any_" #code \
  }
  static constexpr Kernel kernels[] = {
      AITER_BLOCK_QUANT_KERNEL(int8), AITER_BLOCK_QUANT_KERNEL(e4m3fn),
      AITER_BLOCK_QUANT_KERNEL(e4m3fnuz), AITER_BLOCK_QUANT_KERNEL(e5m2),
      AITER_BLOCK_QUANT_KERNEL(e5m2fnuz)};
  const DType code = args.spec.code;
  const Kernel& kernel = kernels[code == DType::kI8           ? 0
                                 : code == DType::kF8E4M3FN   ? 1
                                 : code == DType::kF8E4M3FNUZ ? 2
                                 : code == DType::kF8E5M2     ? 3
                                                              : 4];
  if (!args.slots.capacity) return;
  const Device& device = device_of(call.device);
  const int64_t heads = args.rows[0].heads, waves = 256 / device.wave;
  const int64_t x = args.slots.count;
  // Few tokens: their heads go to several blocks, each of which looks for the tokens of its page.
  const int64_t parts = std::clamp<int64_t>(2 * device.multiprocessors / std::max<int64_t>(x, 1), 1,
                                            std::max<int64_t>((heads + waves - 1) / waves, 1));
  launch(kernel, call,
         {.x = heads ? x : 0,
          .y = parts,
          .shared_bytes = static_cast<int>(args.slots.block.divisor * sizeof(int32_t))},
         args);
}

static void reshape_and_cache_with_block_quant_hip_vec(const BlockQuantArgs& given,
                                                       const Call& call) {
  static constexpr FloatKernels kernels =
      AITER_FLOAT_KERNELS(reshape_and_cache_with_block_quant, hip_vec);
  constexpr int64_t kTableBytes = 16384;  // some blocks are to share a multiprocessor
  BlockQuantArgs args = given;
  if (!args.slots.capacity) return;
  const Device& device = device_of(call.device);
  const int64_t slots = args.slots.block.divisor, tokens = args.slots.count;
  // All blocks look at all tokens: so few of them as leave the GPU full.
  int64_t own = 1;
  while (own < args.kMostTokens && 2 * own * slots * 4 <= kTableBytes &&
         2 * own * device.multiprocessors * 3 <= tokens)
    own *= 2;
  args.tokens_of_block = static_cast<int32_t>(own);
  const int64_t blocks = (tokens + own - 1) / own, waves = 256 / device.wave;
  const int64_t heads = 2 * args.rows[0].heads;
  const int64_t parts =
      std::clamp<int64_t>(2 * device.multiprocessors / std::max<int64_t>(blocks, 1), 1,
                          std::max<int64_t>((heads + waves - 1) / waves, 1));
  launch(kernels[args.dtype], call,
         {.x = heads ? blocks : 0,
          .y = parts,
          .shared_bytes = static_cast<int>(own * slots * sizeof(int32_t))},
         args);
}

static constexpr Row<ReshapeAndCacheWithBlockQuantProblem, BlockQuantArgs> kRows[] = {
#include "ops/kvcache/reshape_and_cache_with_block_quant/reshape_and_cache_with_block_quant.def"
};
AITER_OP(kvcache, reshape_and_cache_with_block_quant)

// Tokens by page, in the order of the call within a page.
struct TokensByPage {
  std::vector<int64_t> tokens, begins;

  explicit TokensByPage(const CacheSlots& slots) {
    std::vector<int64_t> pages(slots.count);
    bool sorted = true;
    int64_t last = 0;
    for (int64_t t = 0; t < slots.count; ++t) {
      uint32_t slot;
      if (!slots.find(t, pages[t], slot)) continue;
      tokens.push_back(t);
      sorted = sorted && pages[t] >= last;
      last = pages[t];
    }
    if (!sorted)
      std::stable_sort(tokens.begin(), tokens.end(),
                       [&](int64_t a, int64_t b) { return pages[a] < pages[b]; });
    for (size_t i = 0; i < tokens.size(); ++i)
      if (!i || pages[tokens[i]] != pages[tokens[i - 1]]) begins.push_back(i);
    begins.push_back(tokens.size());
  }
};

// Whether hip_vec can work on this: dims in packs, codes of 4 dims or of 16 slots together.
static bool move_by_packs(BlockQuantArgs* args, const CacheSlots& blocks) {
  constexpr int kDims = BlockQuantArgs::kDimsOfLane;
  const int64_t bytes = kDims * dtype_bytes(args->dtype), unit = dtype_bytes(args->dtype);
  for (int i = 0; i < 2; ++i) {
    const CacheRows& rows = args->rows[i];
    const CacheLayout& to = rows.to;
    if (rows.dim % kDims || rows.heads >= int64_t{1} << 29 ||
        reinterpret_cast<uintptr_t>(rows.from) % bytes || rows.from_token * unit % bytes ||
        rows.from_head * unit % bytes)
      return false;
    args->turned[i] = slots_by_16_bytes(to, blocks, 1) &&
                      args->slots.block.divisor % BlockQuantArgs::kSlotsAtOnce == 0;
    bool together = to.dim_inner == 1 && (to.dim_bits == kNotSplit || to.dim_bits >= 2) &&
                    reinterpret_cast<uintptr_t>(to.data) % kDims == 0;
    for (int64_t n : {to.page, to.head, to.slot_outer, to.slot_inner,
                      to.dim_bits == kNotSplit ? 0 : to.dim_outer})
      together = together && n % kDims == 0;
    if (!args->turned[i] && !together) return false;
  }
  return true;
}

static CacheScales page_scale(const Arg& scale, int64_t heads, int64_t pages, const Arg& key) {
  scale.dtype({DType::kF32}).shape({heads, pages}).on_device_of(key);
  return {static_cast<float*>(scale.data()), scale.stride(1), 0, scale.stride(0), 0};
}

void reshape_and_cache_with_block_quant(const Check& check, const aiter_tensor* key_,
                                        const aiter_tensor* value_, const aiter_tensor* key_cache_,
                                        const aiter_tensor* value_cache_,
                                        const aiter_tensor* k_scale_, const aiter_tensor* v_scale_,
                                        const aiter_tensor* slot_mapping,
                                        const aiter_reshape_and_cache_with_block_quant_opts* opts_,
                                        aiter_stream stream) {
  const auto opts = check.options<aiter_reshape_and_cache_with_block_quant_opts>(
      opts_, AITER_RESHAPE_AND_CACHE_WITH_BLOCK_QUANT_OPTS_INIT);
  const Arg key = check.tensor("key", key_);
  key.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(3).unit_last_stride();
  const int64_t heads = key.dim(1);
  const Arg value = check.tensor("value", value_);
  value.dtype_of(key).shape({key.dim(0), heads, -1}).unit_last_stride().on_device_of(key);
  check.require(key.dim(0) < int64_t{1} << 24, "key has %lld tokens, expected less than 2^24",
                static_cast<long long>(key.dim(0)));
  check.require(key_cache_, "key_cache is NULL, expected a tensor");
  check.require(value_cache_, "value_cache is NULL, expected a tensor");
  const aiter_tensor key_cache_tensor = with_dtype(key_cache_, opts.cache_dtype);
  const aiter_tensor value_cache_tensor = with_dtype(value_cache_, opts.cache_dtype);
  const Arg key_cache = check.tensor("key_cache", &key_cache_tensor);
  const Arg value_cache = check.tensor("value_cache", &value_cache_tensor);
  key_cache
      .dtype({DType::kI8, DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2, DType::kF8E5M2FNUZ})
      .on_device_of(key);
  value_cache.dtype_of(key_cache).on_device_of(key);

  BlockQuantArgs args{};
  CacheShape shape;
  const CacheLayout key_layout = check_key_cache(key_cache, heads, key.dim(2), &shape);
  const CacheLayout value_layout = check_value_cache(value_cache, heads, value.dim(2), shape);
  const int64_t block = std::max<int64_t>(shape.block, 1);
  const int64_t page_slots = opts.page_slots ? opts.page_slots : block;
  check.require(page_slots > 0 && page_slots <= args.kMaxPage && page_slots % block == 0,
                "opts.page_slots is %lld, expected a multiple of the page's %lld slots up to %lld",
                static_cast<long long>(page_slots), static_cast<long long>(shape.block),
                static_cast<long long>(args.kMaxPage));
  args.blocks = page_slots / block;
  args.block = divisor(block);
  if (shape.pages % args.blocks)
    key_cache.refuse("has %lld pages, expected a multiple of the %lld that share a scale",
                     static_cast<long long>(shape.pages), static_cast<long long>(args.blocks));
  const CacheShape groups{shape.pages / args.blocks, shape.block ? page_slots : 0, shape.flash};
  const CacheScales k_scale =
      page_scale(check.tensor("k_scale", k_scale_), heads, groups.pages, key);
  const CacheScales v_scale =
      page_scale(check.tensor("v_scale", v_scale_), heads, groups.pages, key);
  args.slots = check_slots(check, slot_mapping, key, groups);
  args.rows[0] = {key.data(), key.stride(0), key.stride(1), heads, key.dim(2), key_layout, k_scale};
  args.rows[1] = {value.data(), value.stride(0), value.stride(1), heads,
                  value.dim(2), value_layout,    v_scale};
  args.dtype = key.dtype();
  args.spec = {key_cache.dtype(), DType::kF32, MxRound::kUp, __builtin_inff(), 1.0f, nullptr};
  args.amax_floor = 1e-6f;

  CacheSlots blocks = args.slots;
  blocks.block = args.block;
  const ReshapeAndCacheWithBlockQuantProblem problem{args.dtype, args.spec.code, args.slots.count,
                                                     page_slots, move_by_packs(&args, blocks)};
  if (machine_of(key.device()).target == ANY_CPU && !(opts.flags & AITER_DRY_RUN)) {
    const TokensByPage pages(args.slots);
    args.tokens = pages.tokens.data();
    args.begins = pages.begins.data();
    args.run_count = static_cast<int64_t>(pages.begins.size()) - 1;
    dispatch(reshape_and_cache_with_block_quant_op, kRows, problem, args, key.device(), stream,
             opts.flags);
  } else {
    dispatch(reshape_and_cache_with_block_quant_op, kRows, problem, args, key.device(), stream,
             opts.flags);
  }
}

}  // namespace aiter

extern "C" aiter_status aiter_reshape_and_cache_with_block_quant(
    const aiter_tensor* key, const aiter_tensor* value, const aiter_tensor* key_cache,
    const aiter_tensor* value_cache, const aiter_tensor* k_scale, const aiter_tensor* v_scale,
    const aiter_tensor* slot_mapping, const aiter_reshape_and_cache_with_block_quant_opts* opts,
    aiter_stream stream) {
  return aiter::entry("reshape_and_cache_with_block_quant", [&] {
    aiter::reshape_and_cache_with_block_quant(aiter::Check("reshape_and_cache_with_block_quant"),
                                              key, value, key_cache, value_cache, k_scale, v_scale,
                                              slot_mapping, opts, stream);
  });
}
