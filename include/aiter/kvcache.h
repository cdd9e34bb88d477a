/* The paged cache of keys and values. */
#ifndef AITER_KVCACHE_H_
#define AITER_KVCACHE_H_

#include "aiter/device.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

typedef struct aiter_reshape_and_cache_flash_opts {
  uint32_t struct_size;
  uint32_t flags;
} aiter_reshape_and_cache_flash_opts;

#define AITER_RESHAPE_AND_CACHE_FLASH_OPTS_INIT {sizeof(aiter_reshape_and_cache_flash_opts), 0}

/* key_cache[s / block, s % block, h, :] = key[t, h, :] with s = slot_mapping[t]; value likewise.
 *
 * key:          (tokens, heads, head_dim) f32 | f16 | bf16; the last stride is 1, the others free.
 * value:        (tokens, heads, v_dim) like key; v_dim may differ from head_dim.
 * key_cache:    (pages, block, heads, head_dim) of key's dtype, or f16 | bf16 under an f32 key (then
 *               rounded to nearest even). The last stride is 1, the others free, so a cache that lies
 *               in memory as (pages, heads, block, head_dim) is passed as a transposed view.
 * value_cache:  (pages, block, heads, v_dim), key_cache's dtype; strides as for key_cache.
 * slot_mapping: (n) int64 | int32, stride 1, n <= tokens; rows of key from n on are padding. A
 *               negative slot skips its token. A slot >= pages * block is an error on the CPU, before
 *               anything is written; on a GPU, where it cannot be reported, its token is skipped.
 *               Memory outside the caches is touched in no case. Of tokens with the same slot, one
 *               wins.
 * k_scale, v_scale: NULL; they are for quantized caches, which no row serves yet.
 * Both caches are updated in place; all slots that are not named keep their bits. Any dimension may
 * be 0. Exact: bits are copied when the dtypes agree.
 * Source: vLLM and AITER reshape_and_cache_flash. @since 0.1 unstable */
AITER_API aiter_status aiter_reshape_and_cache_flash(
    const aiter_tensor* key, const aiter_tensor* value, const aiter_tensor* key_cache,
    const aiter_tensor* value_cache, const aiter_tensor* slot_mapping, const aiter_tensor* k_scale,
    const aiter_tensor* v_scale, const aiter_reshape_and_cache_flash_opts* opts,
    aiter_stream stream);

AITER_END_DECLS

#endif /* AITER_KVCACHE_H_ */
