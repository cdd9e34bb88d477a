/* Attention over contiguous and paged keys and values. */
#ifndef AITER_ATTENTION_H_
#define AITER_ATTENTION_H_

#include <stddef.h>

#include "aiter/device.h"
#include "aiter/status.h"
#include "aiter/tensor.h"

AITER_BEGIN_DECLS

/* What all operators of this header compute, for query i of head h in a sequence of Sq queries and
 * Sk keys, with g = h / (q_heads / kv_heads) and the query's position p = i + Sk - Sq (the queries
 * are the last of the keys: causal is aligned to the bottom right):
 *
 *   s[j]   = softmax_scale * dot(q[i, h, :], k[j, g, :])
 *   s[j]   = logits_soft_cap * tanh(s[j] / logits_soft_cap)       where a soft cap is given
 *   key j is visible when (p - window_left <= j or j < sink_tokens) and j <= p + window_right;
 *          a window of -1 has no bound on its side; causal allows j <= p only
 *   Z      = sum over visible j of exp(s[j])  (+ exp(sink[h]))
 *   out[i, h, :] = sum over visible j of exp(s[j]) / Z * v[j, g, :],     lse[h, i] = log(Z)
 *
 * A query that sees no key gets out = 0 (and lse = -inf, or sink[h] where there is a sink); so does
 * every row of a sequence without keys, and every row of q that belongs to no sequence.
 * Memory of k and v is read for those keys alone that some query of their sequence sees: stale or
 * NaN slots outside of it change no bit. Scores, sums and out are accumulated in f32.
 *
 * dtypes: q, out f32 | f16 | bf16; k, v one dtype: q's, or f16 | bf16 under an f32 q. cu_seqlens,
 * seqused_k, block_table int32 with stride 1 in the last dimension; sink f32; lse f32 contiguous.
 * q, k, v, out: the last stride is 1, all others are free (slices of a fused QKV tensor, caches as
 * (pages, kv_heads, block, head_dim) in memory). k and v have strides of their own. q_heads is any
 * multiple of kv_heads; head_dim and v_dim are any. out and lse must not overlap an input.
 * Lengths, offsets and page numbers are checked on the CPU before anything is written. */
typedef struct aiter_attention_opts {
  uint32_t struct_size;
  uint32_t flags;
  float softmax_scale;   /* 0 = 1 / sqrt(head_dim) */
  float logits_soft_cap; /* 0 = none */
  int32_t causal;        /* nonzero: window_right is taken as 0 */
  int32_t window_left;   /* keys to the left of the query's position; -1 = all */
  int32_t window_right;  /* -1 = all */
  int32_t sink_tokens;   /* leading keys that the left bound does not hide */
  int32_t max_seqlen_q;  /* upper bounds on the lengths; 0 = not told. A longer sequence is an */
  int32_t max_seqlen_k;  /* error where lengths are checked. */
  void* workspace; /* device memory at a multiple of 16 bytes, for as long as the call runs; */
  uint64_t workspace_bytes; /* NULL where an operator can do without */
} aiter_attention_opts;

#define AITER_ATTENTION_OPTS_INIT \
  {sizeof(aiter_attention_opts), 0, 0.0f, 0.0f, 0, -1, -1, 0, 0, 0, NULL, 0}

/* Sequences of any lengths, packed one after another; prefill, chunked prefill and mixed batches.
 *
 * q:            (total_q, q_heads, head_dim)
 * k, v:         (total_k, kv_heads, head_dim), (total_k, kv_heads, v_dim), or with a block_table
 *               (pages, block, kv_heads, ...): key j of sequence b is in page block_table[b, j / block]
 *               at j % block.
 * cu_seqlens_q: (batch + 1): the queries of sequence b are [cu_seqlens_q[b], cu_seqlens_q[b + 1]).
 * cu_seqlens_k: (batch + 1), the same for keys; with a block_table only its differences count. NULL
 *               when block_table and seqused_k are given.
 * seqused_k:    (batch) or NULL: keys of each sequence, instead of all of its part of cu_seqlens_k.
 * block_table:  (batch, max_pages) or NULL. Entries of pages that no query sees are not looked at.
 * sink:         (q_heads) or NULL, a learned logit that joins the denominator.
 * out:          (total_q, q_heads, v_dim). lse: (q_heads, total_q) or NULL.
 * Source: AITER flash_attn_varlen_func, vLLM; FlashAttention-2, Dao 2023. @since 0.1 unstable */
AITER_API aiter_status
aiter_flash_attn_varlen(const aiter_tensor* q, const aiter_tensor* k, const aiter_tensor* v,
                        const aiter_tensor* cu_seqlens_q, const aiter_tensor* cu_seqlens_k,
                        const aiter_tensor* seqused_k, const aiter_tensor* block_table,
                        const aiter_tensor* sink, const aiter_tensor* out, const aiter_tensor* lse,
                        const aiter_attention_opts* opts, aiter_stream stream);

/* Sequences of one length.
 *
 * q: (batch, seqlen_q, q_heads, head_dim). k, v: (batch, seqlen_k, kv_heads, head_dim | v_dim).
 * sink: (q_heads) or NULL. out: (batch, seqlen_q, q_heads, v_dim). lse: (batch, q_heads, seqlen_q).
 * Source: AITER flash_attn_func. @since 0.1 unstable */
AITER_API aiter_status aiter_flash_attn(const aiter_tensor* q, const aiter_tensor* k,
                                        const aiter_tensor* v, const aiter_tensor* sink,
                                        const aiter_tensor* out, const aiter_tensor* lse,
                                        const aiter_attention_opts* opts, aiter_stream stream);

/* Decode: one query a sequence, over a paged cache. Its position is the last key, so causal is
 * without effect, and so is window_right.
 *
 * q:           (batch, q_heads, head_dim)
 * key_cache:   (pages, block, kv_heads, head_dim). value_cache: (pages, block, kv_heads, v_dim).
 * block_table: (batch, max_pages). seqused_k: (batch), keys of each sequence; 0 gives out = 0.
 * sink: (q_heads) or NULL. out: (batch, q_heads, v_dim). lse: (batch, q_heads) or NULL.
 * Keys are split among the threads when the batch is small, so sums may group differently with
 * another number of threads; on GPUs they are split among blocks when there is a workspace.
 * Source: AITER paged_attention_decode; vLLM. @since 0.1 unstable */
AITER_API aiter_status aiter_paged_attention_decode(
    const aiter_tensor* q, const aiter_tensor* key_cache, const aiter_tensor* value_cache,
    const aiter_tensor* block_table, const aiter_tensor* seqused_k, const aiter_tensor* sink,
    const aiter_tensor* out, const aiter_tensor* lse, const aiter_attention_opts* opts,
    aiter_stream stream);

/* Bytes of opts.workspace with which aiter_paged_attention_decode is fastest for tensors like these:
 * 0 on the CPU. Only shapes, dtypes and opts.max_seqlen_k are looked at, no memory and no device;
 * the result grows with the batch and with max_seqlen_k. Without a workspace the call works, too,
 * slower where the batch is small. @since 0.1 unstable */
AITER_API aiter_status aiter_paged_attention_decode_workspace(
    const aiter_tensor* q, const aiter_tensor* key_cache, const aiter_tensor* value_cache,
    const aiter_tensor* block_table, const aiter_tensor* out, const aiter_attention_opts* opts,
    uint64_t* bytes);

AITER_END_DECLS

#endif /* AITER_ATTENTION_H_ */
