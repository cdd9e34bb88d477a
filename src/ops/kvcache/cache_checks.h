// The checks that the operators of paged caches share: tensors into what cache_layout.h describes.
#pragma once

#include "core/check.h"
#include "ops/kvcache/cache_layout.h"

namespace aiter {

Divisor divisor(int64_t n);  // 1 <= n < 2^31

// `tensor` with the dtype that the options name for caches of uint8 (bits = 0: as it is).
aiter_tensor with_dtype(const aiter_tensor* tensor, aiter_dtype dtype);

// Pages and slots of a page, from the key cache.
struct CacheShape {
  int64_t pages, block;
  bool flash;
};

// A cache of keys, (pages, block, heads, dim) or (pages, heads, dim / x, block, x); fills `shape`.
CacheLayout check_key_cache(const Arg& cache, int64_t heads, int64_t dim, CacheShape* shape);
// A cache of values beside it: flash like it, or (pages, heads, dim, block), or (pages, heads,
// block / x, dim, x).
CacheLayout check_value_cache(const Arg& cache, int64_t heads, int64_t dim,
                              const CacheShape& shape);

// A cache of MLA: both parts of a token, as views.
struct MlaCache {
  CacheShape shape;
  int64_t heads;
  CacheLayout latent, rope;
};

// kv_c: (tokens, latent) or (tokens, heads, latent); k_pe likewise. kv_cache: (pages, block,
// latent + rope), (pages, block, heads, latent + rope), or in segments, (pages, block * (latent +
// rope)). `rope_first` puts rope before.
MlaCache check_mla_cache(const Arg& kv_c, const Arg& k_pe, const Arg& kv_cache,
                         bool rope_first = false);
// kv_cache: (pages, heads, block, latent + rope), both parts in tiles of 16 slots x 16 bytes.
MlaCache check_shuffled_mla_cache(const Arg& kv_c, const Arg& k_pe, const Arg& kv_cache);

// A cache of MLA in NVFP4: codes by `cache`, in bytes; scales by `scales`, of the latent and of rope.
struct Nvfp4MlaCache {
  MlaCache cache;
  CacheLayout scales[2];
};

// kv_cache: (pages, heads, block, bytes) of fp4 codes: the latent's codes in tiles of 16 slots x 16
// bytes, its scales in tiles of 128 slots x up to 16, then those of rope.
Nvfp4MlaCache check_nvfp4_mla_cache(const Arg& kv_c, const Arg& k_pe, const Arg& kv_cache);

// A cache of the sparse-attention indexer.
struct IndexerCache {
  CacheShape shape;
  CacheLayout codes;
  CacheScales scales;
  DType dtype;  // of the codes
};

// kv_cache: (pages, block, bytes of a slot) of an 8-bit float, or uint8 which holds `dtype`
// (bits = 0: float8_e4m3fn). A page is all codes, then all scales, f32.
IndexerCache check_indexer_cache(const Check& check, const aiter_tensor* kv_cache,
                                 aiter_dtype dtype, const Arg& tokens, int64_t head_dim,
                                 int64_t groups, bool preshuffle);

// slot_mapping: (n) int32 | int64, n <= tokens. Values beyond the cache are refused on the CPU.
CacheSlots check_slots(const Check& check, const aiter_tensor* slot_mapping, const Arg& tokens,
                       const CacheShape& shape);

// Scales that are given: (1) or (heads) f32, or NULL for 1.
CacheScales check_static_scale(const Arg& scale, int64_t heads, const Arg& tokens);
// Scales that are computed: (heads, slots) or (pages, heads, block) f32.
CacheScales check_token_scale(const Arg& scale, int64_t heads, const CacheShape& shape,
                              const Arg& tokens);

// Heads that lie side by side in both places become one long head.
void fold_heads(CacheRows* rows);

// Whether 16 bytes of neighbouring slots stay together, at multiples of 16 bytes.
bool slots_by_16_bytes(const CacheLayout& to, const CacheSlots& slots, int64_t bytes);

// Whether 16 bytes at a time can go from one place to the other.
bool moves_by_16_bytes(const CacheRows& rows, int64_t bytes);

}  // namespace aiter
