"""Attention over contiguous and paged keys and values.

With g = h // (q_heads // kv_heads) and p = i + seqlen_k - seqlen_q, the position of query i:

    s[j] = softmax_scale * dot(q[i, h], k[j, g]), then soft_cap * tanh(s[j] / soft_cap) if given
    key j is visible when (p - left <= j or j < sink_tokens) and j <= p + right;
        -1 = no bound; causal means right = 0, aligned to the bottom right
    out[i, h] = sum_j exp(s[j]) / Z * v[j, g],   Z = sum_j exp(s[j]) (+ exp(sink_ptr[h]))
    lse = log(Z), f32

A query that sees no key gets out = 0 and lse = -inf (the sink where there is one). q and out are
f32, f16 or bf16; k and v have q's dtype, or f16 or bf16 under an f32 q. Of q, k, v and out only the
last stride must be 1. Stale or NaN slots that no query sees change no bit.
Accuracy: f32 sums; bf16 kernels round the weights exp(s - max) to bf16.
"""

from __future__ import annotations

from . import _aiter

__all__ = [
    "flash_attn_func",
    "flash_attn_varlen_func",
    "paged_attention_decode",
    "paged_attention_decode_workspace",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayLike, ArrayT, Stream


def flash_attn_func(
    q: ArrayT,
    k: ArrayLike,
    v: ArrayLike,
    *,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] | tuple[int, int, int] = (-1, -1, 0),
    logits_soft_cap: float = 0.0,
    return_lse: bool = False,
    sink_ptr: ArrayLike | None = None,
    out: ArrayT | None = None,
    lse: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """Attention of a dense batch.

    q: (batch, seqlen_q, q_heads, head_dim). k: (batch, seqlen_k, kv_heads, head_dim).
    v: (batch, seqlen_k, kv_heads, v_dim). q_heads is a multiple of kv_heads.
    softmax_scale: None = 1 / sqrt(head_dim). window_size: (left, right[, sink_tokens]).
    sink_ptr: (q_heads,) f32, a learned logit of each head that joins the denominator.
    Returns out (batch, seqlen_q, q_heads, v_dim), with return_lse also lse (batch, q_heads, seqlen_q).
    Raises ValueError on a wrong shape, dtype or stride. The formula is in this module's docstring.
    Source: AITER flash_attn_func.
    """
    return _aiter.flash_attn(
        q,
        k,
        v,
        sink_ptr,
        softmax_scale,
        logits_soft_cap,
        causal,
        window_size,
        return_lse,
        out,
        lse,
        stream,
    )


def flash_attn_varlen_func(
    q: ArrayT,
    k: ArrayLike,
    v: ArrayLike,
    cu_seqlens_q: ArrayLike,
    cu_seqlens_k: ArrayLike,
    max_seqlen_q: int = 0,
    max_seqlen_k: int = 0,
    *,
    softmax_scale: float | None = None,
    logits_soft_cap: float = 0.0,
    causal: bool = False,
    window_size: tuple[int, int] | tuple[int, int, int] = (-1, -1, 0),
    return_lse: bool = False,
    block_table: ArrayLike | None = None,
    seqused_k: ArrayLike | None = None,
    sink_ptr: ArrayLike | None = None,
    out: ArrayT | None = None,
    lse: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """Attention of sequences of any lengths, packed one after another, or over a paged cache.

    q: (total_q, q_heads, head_dim). k, v: (total_k, kv_heads, head_dim | v_dim), or with a
        block_table (pages, block, kv_heads, head_dim | v_dim).
    cu_seqlens_q: (batch + 1,) int32, where each sequence begins. Rows outside give out = 0.
    cu_seqlens_k: (batch + 1,) int32, the same of keys; None with block_table and seqused_k.
    max_seqlen_q, max_seqlen_k: upper bounds on the lengths, 0 = not told; ValueError if exceeded.
    block_table: (batch, max_pages) int32: key j is in page block_table[b, j // block].
    seqused_k: (batch,) int32, number of keys of each sequence.
    softmax_scale, window_size, sink_ptr: as in flash_attn_func.
    Returns out (total_q, q_heads, v_dim), with return_lse also lse (q_heads, total_q).
    Raises ValueError before anything is written when lengths or page numbers lead out of k and v.
    Source: AITER flash_attn_varlen_func; block_table and seqused_k as in vLLM.
    """
    return _aiter.flash_attn_varlen(
        q,
        k,
        v,
        cu_seqlens_q,
        cu_seqlens_k,
        seqused_k,
        block_table,
        sink_ptr,
        max_seqlen_q,
        max_seqlen_k,
        softmax_scale,
        logits_soft_cap,
        causal,
        window_size,
        return_lse,
        out,
        lse,
        stream,
    )


def paged_attention_decode(
    query: ArrayT,
    key_cache: ArrayLike,
    value_cache: ArrayLike,
    seq_lens: ArrayLike,
    block_tables: ArrayLike,
    attn_scale: float | None = None,
    max_seq_len: int = 0,
    *,
    logits_soft_cap: float = 0.0,
    window_size: tuple[int, int] | tuple[int, int, int] = (-1, -1, 0),
    return_lse: bool = False,
    sink_ptr: ArrayLike | None = None,
    workspace: ArrayLike | None = None,
    out: ArrayT | None = None,
    lse: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """Attention of one query per sequence, its last token, over a paged cache.

    query: (batch, q_heads, head_dim). key_cache, value_cache: (pages, block, kv_heads, head_dim |
        v_dim); AITER's (pages, kv_heads, block, head_dim) is `cache.transpose(0, 2, 1, 3)`.
    seq_lens: (batch,) int32, number of keys of each sequence; 0 gives out = 0 and lse = -inf.
    block_tables: (batch, max_pages) int32: key j is in page block_tables[b, j // block].
    attn_scale: None = 1 / sqrt(head_dim). max_seq_len: upper bound on seq_lens, 0 = not told.
    window_size, logits_soft_cap, sink_ptr: as in flash_attn_func.
    workspace: (bytes,) uint8 of as many bytes as paged_attention_decode_workspace tells; None = one
        is made on GPUs, which a graph of aiter.capture cannot record.
    Returns out (batch, q_heads, v_dim), with return_lse also lse (batch, q_heads).
    Raises ValueError before anything is written when lengths or page numbers lead out of the cache.
    Source: AITER paged_attention_decode.
    """
    return _aiter.paged_attention_decode(
        query,
        key_cache,
        value_cache,
        block_tables,
        seq_lens,
        sink_ptr,
        max_seq_len,
        attn_scale,
        logits_soft_cap,
        window_size,
        return_lse,
        workspace,
        out,
        lse,
        stream,
    )


def paged_attention_decode_workspace(
    query: ArrayLike,
    key_cache: ArrayLike,
    value_cache: ArrayLike,
    block_tables: ArrayLike,
    out: ArrayLike,
    max_seq_len: int = 0,
) -> int:
    """Bytes of workspace with which paged_attention_decode is fastest for arrays like these.

    0 on the CPU. It looks at shapes, dtypes and max_seq_len alone.
    """
    return _aiter.paged_attention_decode_workspace(
        query, key_cache, value_cache, block_tables, out, max_seq_len
    )
