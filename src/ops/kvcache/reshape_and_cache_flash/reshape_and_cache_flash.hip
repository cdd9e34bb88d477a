// A group of threads takes a token, its keys and values side by side. hip_vec moves 16 bytes at a
// time into a cache of the same dtype; hip_any one element, converted where the dtypes differ.
#include "ck/core/pack.h"
#include "ops/kvcache/reshape_and_cache_flash/reshape_and_cache_flash_args.h"

namespace aiter {

// Moves units of `unit` elements: load(side, from) gives one, store(side, to, it) puts it.
template <class Load, class Store>
AITER_DEVICE void write_tokens(const ReshapeAndCacheFlashArgs& a, int unit, Load load,
                               Store store) {
  using Side = ReshapeAndCacheFlashArgs::Side;
  constexpr int kMost = 2;  // units of keys, and of values, that are loaded at once
  const int threads = a.threads_per_token;
  const int tokens_per_block = block_threads() / threads;
  const int64_t step = static_cast<int64_t>(grid_blocks()) * tokens_per_block;
  for (int64_t t =
           static_cast<int64_t>(block_index_x()) * tokens_per_block + thread_index() / threads;
       t < a.tokens; t += step) {
    const int64_t slot = a.slot_dtype == DType::kI64 ? static_cast<const int64_t*>(a.slots)[t]
                                                     : static_cast<const int32_t*>(a.slots)[t];
    if (slot < 0 || slot >= a.capacity) continue;
    int64_t page, rest;
    if ((a.capacity >> 31) == 0) {  // the division of 32 bits is much the shorter one
      page = static_cast<uint32_t>(slot) / static_cast<uint32_t>(a.block);
      rest = static_cast<uint32_t>(slot) - static_cast<uint32_t>(page * a.block);
    } else {
      page = slot / a.block, rest = slot % a.block;
    }
    const int count[2] = {static_cast<int>(a.heads * (a.key.dim / unit)),
                          static_cast<int>(a.heads * (a.value.dim / unit))};
    for (int i = thread_index() % threads; i < max(count[0], count[1]); i += kMost * threads) {
      decltype(load(a.key, 0)) units[2][kMost];
      int64_t to[2][kMost];
      AITER_UNROLL
      for (int side = 0; side < 2; ++side) {
        const Side& s = side ? a.value : a.key;
        AITER_UNROLL
        for (int c = 0; c < kMost; ++c) {
          const int at = i + c * threads;
          if (at >= count[side]) continue;
          int head = 0, k = at;
          if (a.heads > 1) {
            const int dim = static_cast<int>(s.dim / unit);
            head = at / dim, k = at - head * dim;
          }
          units[side][c] = load(s, t * s.from_token + head * s.from_head + k * unit);
          to[side][c] = page * s.page + rest * s.slot + head * s.head + k * unit;
        }
      }
      AITER_UNROLL
      for (int side = 0; side < 2; ++side) AITER_UNROLL
      for (int c = 0; c < kMost; ++c)
        if (i + c * threads < count[side])
          store(side ? a.value : a.key, to[side][c], units[side][c]);
    }
  }
}

AITER_DEVICE void cache_vectors(const ReshapeAndCacheFlashArgs& a) {
  using Side = ReshapeAndCacheFlashArgs::Side;
  const int bytes = a.dtype == DType::kF32 ? 4 : 2;
  write_tokens(
      a, 16 / bytes,
      [bytes] AITER_LAMBDA(const Side& s, int64_t from) {
        return *reinterpret_cast<const Words4*>(static_cast<const uint8_t*>(s.from) + from * bytes);
      },
      [bytes] AITER_LAMBDA(const Side& s, int64_t to, Words4 words) {
        *reinterpret_cast<Words4*>(static_cast<uint8_t*>(s.cache) + to * bytes) = words;
      });
}

AITER_DEVICE void cache_elements(const ReshapeAndCacheFlashArgs& a) {
  using Side = ReshapeAndCacheFlashArgs::Side;
  const DType dtype = a.dtype, cache_dtype = a.cache_dtype;
  write_tokens(
      a, 1,
      [=] AITER_LAMBDA(const Side& s, int64_t from) {  // as bits, so that a NaN stays the same
        if (dtype != cache_dtype) return bit_cast<uint32_t>(load_float(s.from, from, dtype));
        if (dtype == DType::kF32) return static_cast<const uint32_t*>(s.from)[from];
        return static_cast<uint32_t>(static_cast<const uint16_t*>(s.from)[from]);
      },
      [=] AITER_LAMBDA(const Side& s, int64_t to, uint32_t bits) {
        if (dtype != cache_dtype)
          store_float(s.cache, to, cache_dtype, bit_cast<float>(bits));
        else if (dtype == DType::kF32)
          static_cast<uint32_t*>(s.cache)[to] = bits;
        else
          static_cast<uint16_t*>(s.cache)[to] = static_cast<uint16_t>(bits);
      });
}

}  // namespace aiter

AITER_KERNEL(reshape_and_cache_flash_hip_vec, 256)(const aiter::ReshapeAndCacheFlashArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::cache_vectors(a);
}
AITER_KERNEL(reshape_and_cache_flash_hip_any, 256)(const aiter::ReshapeAndCacheFlashArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::cache_elements(a);
}
