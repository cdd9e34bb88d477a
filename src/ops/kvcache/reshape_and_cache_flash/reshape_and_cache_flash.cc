#include <algorithm>

#include "aiter/kvcache.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/kvcache/reshape_and_cache_flash/reshape_and_cache_flash_args.h"

namespace aiter {

struct ReshapeAndCacheFlashProblem {
  DType dtype, cache_dtype;
  int64_t tokens;
  bool aligned16;  // heads begin at, and are, multiples of 16 bytes
};

AITER_CPU_ROW(reshape_and_cache_flash_cpu_simd, ReshapeAndCacheFlashArgs)
AITER_CPU_ROW(reshape_and_cache_flash_cpu_ref, ReshapeAndCacheFlashArgs)

// Whether the heads of a token lie one behind the other, in the tensor and in the cache.
static bool heads_are_dense(const ReshapeAndCacheFlashArgs::Side& s) {
  return s.from_head == s.dim && s.head == s.dim;
}

static void reshape_and_cache_flash_hip(const Kernel& kernel, int64_t unit,
                                        ReshapeAndCacheFlashArgs args, const Call& call) {
  constexpr int kThreads = 128;
  if (args.capacity == 0) return;
  if (heads_are_dense(args.key) && heads_are_dense(args.value)) {  // one head: nothing to divide
    args.key.dim *= args.heads, args.value.dim *= args.heads;
    args.heads = 1;
  }
  const int64_t items = args.heads * std::max(args.key.dim, args.value.dim) / unit;
  const int64_t each = args.tokens <= 1024 ? 1 : 2;  // units that a thread moves at a time
  int threads = 32;
  while (threads * each < items && threads < kThreads) threads *= 2;
  args.threads_per_token = threads;
  const int64_t tokens_per_block = kThreads / threads;
  launch(kernel, call,
         {.x = std::min<int64_t>((args.tokens + tokens_per_block - 1) / tokens_per_block, 1 << 20),
          .threads = kThreads},
         args);
}

static void reshape_and_cache_flash_hip_vec(const ReshapeAndCacheFlashArgs& args,
                                            const Call& call) {
  static constexpr Kernel kernel{"reshape_and_cache_flash", "reshape_and_cache_flash_hip_vec"};
  reshape_and_cache_flash_hip(kernel, 16 / dtype_bytes(args.dtype), args, call);
}

static void reshape_and_cache_flash_hip_any(const ReshapeAndCacheFlashArgs& args,
                                            const Call& call) {
  static constexpr Kernel kernel{"reshape_and_cache_flash", "reshape_and_cache_flash_hip_any"};
  reshape_and_cache_flash_hip(kernel, 1, args, call);
}

static constexpr Row<ReshapeAndCacheFlashProblem, ReshapeAndCacheFlashArgs> kRows[] = {
#include "ops/kvcache/reshape_and_cache_flash/reshape_and_cache_flash.def"
};
AITER_OP(kvcache, reshape_and_cache_flash)

static ReshapeAndCacheFlashArgs::Side side(const Arg& from, const Arg& cache) {
  return {from.data(),     cache.data(),    from.stride(0),  from.stride(1),
          cache.stride(0), cache.stride(1), cache.stride(2), from.dim(2)};
}

static bool is_aligned16(const ReshapeAndCacheFlashArgs::Side& s, int64_t bytes) {
  bool aligned = is_aligned16(s.from) && is_aligned16(s.cache);
  for (int64_t stride : {s.from_token, s.from_head, s.page, s.slot, s.head, s.dim})
    aligned = aligned && stride * bytes % 16 == 0;
  return aligned;
}

template <class Int>
static void check_slots(const Check& check, const ReshapeAndCacheFlashArgs& args) {
  const Int* slots = static_cast<const Int*>(args.slots);
  bool ok = true;
  for (int64_t t = 0; t < args.tokens; ++t) ok &= slots[t] < args.capacity;
  for (int64_t t = 0; !ok && t < args.tokens; ++t)
    check.require(slots[t] < args.capacity,
                  "slot_mapping[%lld] is %lld, expected less than the cache's %lld slots",
                  static_cast<long long>(t), static_cast<long long>(slots[t]),
                  static_cast<long long>(args.capacity));
}

static void reshape_and_cache_flash(const aiter_tensor* key_, const aiter_tensor* value_,
                                    const aiter_tensor* key_cache_,
                                    const aiter_tensor* value_cache_, const aiter_tensor* slots_,
                                    const aiter_tensor* k_scale, const aiter_tensor* v_scale,
                                    const aiter_reshape_and_cache_flash_opts* opts_,
                                    aiter_stream stream) {
  const Check check("reshape_and_cache_flash");
  const auto opts = check.options<aiter_reshape_and_cache_flash_opts>(
      opts_, AITER_RESHAPE_AND_CACHE_FLASH_OPTS_INIT);
  const Arg key = check.tensor("key", key_);
  key.dtype({DType::kF32, DType::kF16, DType::kBF16}).rank(3).unit_last_stride();
  const Arg value = check.tensor("value", value_);
  value.dtype_of(key).shape({key.dim(0), key.dim(1), -1}).unit_last_stride().on_device_of(key);
  const Arg key_cache = check.tensor("key_cache", key_cache_);
  if (key.dtype() == DType::kF32)
    key_cache.dtype({DType::kF32, DType::kF16, DType::kBF16});
  else
    key_cache.dtype_of(key);
  key_cache.shape({-1, -1, key.dim(1), key.dim(2)}).unit_last_stride().on_device_of(key);
  const Arg value_cache = check.tensor("value_cache", value_cache_);
  value_cache.dtype_of(key_cache)
      .shape({key_cache.dim(0), key_cache.dim(1), key.dim(1), value.dim(2)})
      .unit_last_stride()
      .on_device_of(key);
  const Arg slots = check.tensor("slot_mapping", slots_);
  slots.dtype({DType::kI64, DType::kI32}).rank(1).unit_last_stride().on_device_of(key);
  check.require(slots.dim(0) <= key.dim(0), "slot_mapping has %lld entries, key has %lld tokens",
                static_cast<long long>(slots.dim(0)), static_cast<long long>(key.dim(0)));
  check.require(!k_scale && !v_scale,
                "k_scale or v_scale is given, expected NULL for a %s cache (quantized caches are "
                "not served yet)",
                dtype_name(key_cache.dtype()));

  ReshapeAndCacheFlashArgs args{};
  args.key = side(key, key_cache);
  args.value = side(value, value_cache);
  args.slots = slots.data();
  args.tokens = slots.dim(0);
  args.heads = key.dim(1);
  args.block = key_cache.dim(1);
  args.capacity = key_cache.dim(0) * key_cache.dim(1);
  args.dtype = key.dtype();
  args.cache_dtype = key_cache.dtype();
  args.slot_dtype = slots.dtype();
  if (machine_of(key.device()).target == ANY_CPU) {
    if (args.slot_dtype == DType::kI64)
      check_slots<int64_t>(check, args);
    else
      check_slots<int32_t>(check, args);
  }
  const int64_t bytes = dtype_bytes(args.dtype);
  const ReshapeAndCacheFlashProblem problem{
      args.dtype, args.cache_dtype, args.tokens,
      is_aligned16(args.key, bytes) && is_aligned16(args.value, bytes)};
  dispatch(reshape_and_cache_flash_op, kRows, problem, args, key.device(), stream, opts.flags);
}

}  // namespace aiter

extern "C" aiter_status aiter_reshape_and_cache_flash(
    const aiter_tensor* key, const aiter_tensor* value, const aiter_tensor* key_cache,
    const aiter_tensor* value_cache, const aiter_tensor* slot_mapping, const aiter_tensor* k_scale,
    const aiter_tensor* v_scale, const aiter_reshape_and_cache_flash_opts* opts,
    aiter_stream stream) {
  return aiter::entry("reshape_and_cache_flash", [&] {
    aiter::reshape_and_cache_flash(key, value, key_cache, value_cache, slot_mapping, k_scale,
                                   v_scale, opts, stream);
  });
}
