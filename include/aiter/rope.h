/* Rotary position embedding. */
#ifndef AITER_ROPE_H_
#define AITER_ROPE_H_

#include "aiter/device.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

typedef struct aiter_rotary_embedding_opts {
  uint32_t struct_size;
  uint32_t flags;
  int64_t head_size; /* needed where heads are not a dimension of their own; 0 = the last extent */
  int32_t interleaved; /* 0 = neox: i turns with i + R/2; nonzero = gptj: 2 i turns with 2 i + 1 */
  int32_t nope_first;  /* nonzero: the last R dimensions of a head turn, instead of the first R */
} aiter_rotary_embedding_opts;

#define AITER_ROTARY_EMBEDDING_OPTS_INIT {sizeof(aiter_rotary_embedding_opts), 0, 0, 0, 0}

/* Turns the pairs (a, b) of each head: a' = a cos - b sin, b' = b cos + a sin, with cos and sin of
 * the token's position and the pair's index. R = 2 * (width of the caches) <= head_size dimensions
 * turn, the rest is copied.
 *
 * positions: (...) int32 | int64, in [0, max_position); on the CPU any other value is refused before
 *            anything is written.
 * query: (..., heads * head_size) or (..., heads, head_size), bf16 | f16 | f32.
 * key:   like query with its own number of heads, query's dtype; or NULL.
 * cos_cache, sin_cache: (max_position, R/2) or (max_position, 1, 1, R/2), query's dtype or f32.
 * query_out, key_out: like query and key, and may be these (in place). key_out is NULL with key.
 * Last strides are 1. Heads and tokens may be strided (slices of a fused QKV tensor) as long as the
 * leading dimensions fold into two. Tokens and heads may be 0: nothing is written. fp32 inside.
 * Accuracy: aiter.testing.bound of the dtype, relative to |a| + |b|.
 * Source: AITER rotary_embedding_fwd (in place there); Su et al. 2021. @since 0.1 unstable */
AITER_API aiter_status aiter_rotary_embedding(
    const aiter_tensor* positions, const aiter_tensor* query, const aiter_tensor* key,
    const aiter_tensor* cos_cache, const aiter_tensor* sin_cache, const aiter_tensor* query_out,
    const aiter_tensor* key_out, const aiter_rotary_embedding_opts* opts, aiter_stream stream);

AITER_END_DECLS

#endif /* AITER_ROPE_H_ */
