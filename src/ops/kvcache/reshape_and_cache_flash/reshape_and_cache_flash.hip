// One block a token. hip_vec moves 16 bytes at a time into a cache of the same dtype; hip_any one
// element, converted where the dtypes differ.
#include "ck/core/pack.h"
#include "ops/kvcache/reshape_and_cache_flash/reshape_and_cache_flash_args.h"

namespace aiter {

// Elements are units of T; strides and dim come in units of them.
template <class T, class Move>
AITER_DEVICE void write_side(const ReshapeAndCacheFlashArgs& a,
                             const ReshapeAndCacheFlashArgs::Side& s, int64_t token, int64_t slot,
                             int unit, Move move) {
  const int64_t from = token * s.from_token;
  const int64_t to = slot / a.block * s.page + slot % a.block * s.slot;
  const int dim = static_cast<int>(s.dim / unit);
  const int count = static_cast<int>(a.heads) * dim;
  for (int i = thread_index(); i < count; i += block_threads()) {
    const int head = i / dim, k = i % dim * unit;
    move(to + head * s.head + k, from + head * s.from_head + k, s);
  }
}

template <class Move>
AITER_DEVICE void write_tokens(const ReshapeAndCacheFlashArgs& a, int unit, Move move) {
  for (int64_t t = block_index_x(); t < a.tokens; t += grid_blocks()) {
    const int64_t slot = a.slot_dtype == DType::kI64 ? static_cast<const int64_t*>(a.slots)[t]
                                                     : static_cast<const int32_t*>(a.slots)[t];
    if (slot < 0 || slot >= a.capacity) continue;
    write_side<void>(a, a.key, t, slot, unit, move);
    write_side<void>(a, a.value, t, slot, unit, move);
  }
}

AITER_DEVICE void cache_vectors(const ReshapeAndCacheFlashArgs& a) {
  const int bytes = a.dtype == DType::kF32 ? 4 : 2;
  write_tokens(
      a, 16 / bytes,
      [bytes] AITER_LAMBDA(int64_t to, int64_t from, const ReshapeAndCacheFlashArgs::Side& s) {
        *reinterpret_cast<Words4*>(static_cast<uint8_t*>(s.cache) + to * bytes) =
            *reinterpret_cast<const Words4*>(static_cast<const uint8_t*>(s.from) + from * bytes);
      });
}

AITER_DEVICE void cache_elements(const ReshapeAndCacheFlashArgs& a) {
  const DType dtype = a.dtype, cache_dtype = a.cache_dtype;
  write_tokens(a, 1,
               [=] AITER_LAMBDA(int64_t to, int64_t from, const ReshapeAndCacheFlashArgs::Side& s) {
                 if (dtype != cache_dtype)
                   store_float(s.cache, to, cache_dtype, load_float(s.from, from, dtype));
                 else if (dtype == DType::kF32)  // bits, so that a NaN stays the same
                   static_cast<uint32_t*>(s.cache)[to] = static_cast<const uint32_t*>(s.from)[from];
                 else
                   static_cast<uint16_t*>(s.cache)[to] = static_cast<const uint16_t*>(s.from)[from];
               });
}

}  // namespace aiter

AITER_KERNEL(reshape_and_cache_flash_hip_vec, 256)(const aiter::ReshapeAndCacheFlashArgs a) {
  aiter::cache_vectors(a);
}
AITER_KERNEL(reshape_and_cache_flash_hip_any, 256)(const aiter::ReshapeAndCacheFlashArgs a) {
  aiter::cache_elements(a);
}
