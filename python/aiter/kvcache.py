"""The paged cache of keys and values.

A cache is an array of pages; slot s is slot s % block of page s // block. Three layouts are told
apart by their shapes, with x a power of two (AITER: 16 bytes of elements):

    flash       (pages, block, heads, head_dim) for keys and for values
    vectorized  (pages, heads, head_dim / x, block, x) and (pages, heads, head_dim, block)
    asm         (pages, heads, head_dim / x, block, x) and (pages, heads, block / x, head_dim, x)

All functions write the caches in place, so these must be arrays that can be written: of NumPy,
torch, CuPy or aiter.zeros. A JAX array is immutable and is refused; keep the cache in one of the
others, or call the C function through XLA with donated buffers. A negative slot skips its token.
A slot past the cache raises ValueError on the CPU, before anything is written, and skips its token
on a GPU. Slots that are not named keep their bits.
"""

from __future__ import annotations

from . import _aiter

__all__ = [
    "cat_and_cache_mla",
    "concat_and_cache_mla",
    "concat_and_cache_mla_seg",
    "copy_blocks",
    "cp_gather_indexer_k_quant_cache",
    "fused_compress_attn",
    "fused_kv_norm_rope_group_quant",
    "fused_qk_norm_mrope_3d_cache_pts_quant_shuffle",
    "fused_qk_norm_rope_cache_block_quant_shuffle",
    "fused_qk_norm_rope_cache_pts_quant_shuffle",
    "fused_qk_norm_rope_cache_quant_shuffle",
    "fused_qk_norm_rope_group_quant",
    "fused_qk_rope_concat_and_cache_mla",
    "fused_qk_rope_concat_and_cache_mla_seg",
    "fused_qk_rope_reshape_and_cache",
    "fused_qkv_split_qk_norm_rope_cache",
    "fused_reduce_qk_norm_rope_swa_write",
    "gather_cache",
    "indexer_k_quant_and_cache",
    "indexer_qk_rope_quant_and_cache",
    "inverse_rope_group_quant",
    "reshape_and_cache",
    "reshape_and_cache_flash",
    "reshape_and_cache_with_block_quant",
    "reshape_and_cache_with_pertoken_quant",
    "rmsnorm_rope_rotate_activation_fp4quant_kvcache",
    "rope_rotate_activation",
    "swap_blocks",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .typing import ArrayLike, ArrayT, DType, Stream

# AITER's names of what a cache of uint8 holds.
_CACHE_DTYPES = {
    "auto": None,
    "fp8": "float8_e4m3fn",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
}


def _cache_dtype(cache: ArrayLike, kv_cache_dtype: DType) -> DType | None:
    dtype = _CACHE_DTYPES.get(kv_cache_dtype, kv_cache_dtype)
    if dtype is not None:
        held = str(cache.dtype)
        if "int8" not in held and "float8" not in held:
            raise ValueError(
                f"kv_cache_dtype is {kv_cache_dtype!r}, expected 'auto' for a cache of {held}"
            )
    return dtype


def reshape_and_cache(
    key: ArrayLike,
    value: ArrayLike,
    key_cache: ArrayLike,
    value_cache: ArrayLike,
    slot_mapping: ArrayLike,
    kv_cache_dtype: DType = "auto",
    k_scale: ArrayLike | None = None,
    v_scale: ArrayLike | None = None,
    *,
    stream: Stream = None,
) -> None:
    """Write the keys and values of new tokens into their slots of the paged cache, in place.

    key, value: (tokens, heads, head_dim) f32, f16 or bf16; slices of a fused QKV array will do:
        only the last stride must be 1. value's head_dim may differ.
    key_cache, value_cache: flash, vectorized or asm layout, only the last stride must be 1. Of
        key's dtype, f16 or bf16 under an f32 key (rounded to nearest even), or int8 or an 8-bit
        float: then codes of key / k_scale and value / v_scale, those of `quantize`.
    slot_mapping: (n,) int64 or int32, n <= tokens.
    kv_cache_dtype: "auto", the dtype of the arrays; or what caches of uint8 hold: "fp8"
        (float8_e4m3fn), "int8", "float8_e4m3fnuz" (gfx942) ...
    k_scale, v_scale: (1,) or (heads,) f32, for caches of codes; None = 1.
    Source: AITER reshape_and_cache.
    """
    dtype = _cache_dtype(key_cache, kv_cache_dtype)
    _aiter.reshape_and_cache(
        key, value, key_cache, value_cache, slot_mapping, k_scale, v_scale, 0, dtype, stream
    )


def reshape_and_cache_flash(
    key: ArrayLike,
    value: ArrayLike,
    key_cache: ArrayLike,
    value_cache: ArrayLike,
    slot_mapping: ArrayLike,
    kv_cache_dtype: DType = "auto",
    k_scale: ArrayLike | None = None,
    v_scale: ArrayLike | None = None,
    *,
    stream: Stream = None,
) -> None:
    """`reshape_and_cache` for the flash layout: key_cache[s // block, s % block] = key[t].

    Source: AITER reshape_and_cache_flash.
    """
    dtype = _cache_dtype(key_cache, kv_cache_dtype)
    _aiter.reshape_and_cache(
        key, value, key_cache, value_cache, slot_mapping, k_scale, v_scale, 0, dtype, stream
    )


def reshape_and_cache_with_pertoken_quant(
    key: ArrayLike,
    value: ArrayLike,
    key_cache: ArrayLike,
    value_cache: ArrayLike,
    k_dequant_scales: ArrayLike,
    v_dequant_scales: ArrayLike,
    slot_mapping: ArrayLike,
    *,
    cache_dtype: DType | None = None,
    stream: Stream = None,
) -> None:
    """`reshape_and_cache` into int8 or fp8 caches with a scale for each token and head.

    k_dequant_scales, v_dequant_scales: (heads, slots) or (pages, heads, block) f32, written for the
        slots that are named: the numbers are code * scale, as of `pertoken_quant`.
    cache_dtype: what caches of uint8 hold.
    Source: AITER reshape_and_cache_with_pertoken_quant.
    """
    _aiter.reshape_and_cache(
        key,
        value,
        key_cache,
        value_cache,
        slot_mapping,
        k_dequant_scales,
        v_dequant_scales,
        1,
        cache_dtype,
        stream,
    )


def reshape_and_cache_with_block_quant(
    key: ArrayLike,
    value: ArrayLike,
    key_cache: ArrayLike,
    value_cache: ArrayLike,
    k_dequant_scales: ArrayLike,
    v_dequant_scales: ArrayLike,
    slot_mapping: ArrayLike,
    *,
    page_slots: int = 0,
    cache_dtype: DType | None = None,
    stream: Stream = None,
) -> None:
    """`reshape_and_cache` into int8 or fp8 caches with a scale for each page and head.

    When later tokens need a larger scale, the codes that are there already are rescaled. A call
    that names a page's first slot begins the page anew.

    k_dequant_scales, v_dequant_scales: (heads, scaled pages) f32, updated; a transposed view of
        (scaled pages, heads) will do.
    page_slots: slots that share a scale, a multiple of the caches' block; 0 = block. (AITER's
        ..._for_asm_pa: 128 or 256 over blocks of 16.)
    cache_dtype: what caches of uint8 hold.
    Source: AITER reshape_and_cache_with_block_quant, reshape_and_cache_with_block_quant_for_asm_pa.
    """
    _aiter.reshape_and_cache_with_block_quant(
        key,
        value,
        key_cache,
        value_cache,
        k_dequant_scales,
        v_dequant_scales,
        slot_mapping,
        page_slots,
        cache_dtype,
        stream,
    )


def concat_and_cache_mla(
    kv_c: ArrayLike,
    k_pe: ArrayLike,
    kv_cache: ArrayLike,
    slot_mapping: ArrayLike,
    kv_cache_dtype: DType = "auto",
    scale: ArrayLike | None = None,
    *,
    stream: Stream = None,
) -> None:
    """Write [kv_c | k_pe] of new tokens into their slots of an MLA cache, in place.

    kv_c: (tokens, latent), or (tokens, heads, latent); k_pe: (tokens, rope) likewise.
    kv_cache: (pages, block, latent + rope), (pages, block, heads, latent + rope), or in segments,
        (pages, block * (latent + rope)): the page's kv_c, then its k_pe.
    kv_cache_dtype, scale (1,): as for `reshape_and_cache`.
    Source: AITER concat_and_cache_mla.
    """
    dtype = _cache_dtype(kv_cache, kv_cache_dtype)
    _aiter.concat_and_cache_mla(kv_c, k_pe, kv_cache, slot_mapping, scale, False, dtype, stream)


def concat_and_cache_mla_seg(
    kv_c: ArrayLike,
    k_pe: ArrayLike,
    kv_cache: ArrayLike,
    slot_mapping: ArrayLike,
    kv_cache_dtype: DType = "auto",
    scale: ArrayLike | None = None,
    *,
    stream: Stream = None,
) -> None:
    """`concat_and_cache_mla` for a cache in segments, (pages, block * (latent + rope)).

    Source: AITER concat_and_cache_mla_seg.
    """
    if len(kv_cache.shape) != 2:
        raise ValueError(
            f"concat_and_cache_mla_seg: kv_cache has shape {tuple(kv_cache.shape)}, expected "
            "(pages, block * (latent + rope))"
        )
    concat_and_cache_mla(kv_c, k_pe, kv_cache, slot_mapping, kv_cache_dtype, scale, stream=stream)


def cat_and_cache_mla(
    k_nope: ArrayLike,
    k_pe: ArrayLike,
    kv_cache: ArrayLike,
    slot_mapping: ArrayLike,
    k_scale: ArrayLike | None = None,
    apply_scale: bool = True,
    shuffled_kv_cache: bool = False,
    *,
    cache_dtype: DType | None = None,
    stream: Stream = None,
) -> None:
    """`concat_and_cache_mla` for a cache without pages, or in tiles.

    k_nope: (tokens, heads, latent); k_pe: (tokens, heads, rope); kv_cache: (slots, heads, latent +
    rope), or, shuffled_kv_cache, (pages, heads, block, latent + rope), where a head of a page has
    its k_nope in tiles of 16 slots by 16 bytes, then its k_pe; block is a multiple of 16.
        With cache_dtype "float4_e2m1fnx2", NVFP4: (pages, heads, block, (latent + rope) / 16 * 9)
        uint8, where a head has k_nope's codes, their scales, k_pe's codes, their scales (the order
        of scales is in aiter/kvcache.h); block is a multiple of 128.
    k_scale: (1,), used with apply_scale for a cache of codes; of NVFP4 the global scale.
    Source: AITER cat_and_cache_mla.
    """
    holds = str(kv_cache.dtype) + str(cache_dtype)
    scale = k_scale if apply_scale and ("float8" in holds or "float4" in holds) else None
    cache = kv_cache if shuffled_kv_cache else kv_cache[:, None]
    _aiter.concat_and_cache_mla(
        k_nope, k_pe, cache, slot_mapping, scale, shuffled_kv_cache, cache_dtype, stream
    )


def indexer_k_quant_and_cache(
    k: ArrayLike,
    kv_cache: ArrayLike,
    slot_mapping: ArrayLike,
    quant_block_size: int = 128,
    scale_fmt: str = "",
    preshuffle: bool = False,
    *,
    cache_dtype: DType | None = None,
    stream: Stream = None,
) -> None:
    """Write the sparse-attention indexer's keys as fp8 codes with scales, in place.

    k: (tokens, head_dim). kv_cache: (pages, block, at least head_dim + 4 * head_dim /
        quant_block_size) bytes, fp8 or uint8: a page is the codes of its slots, then their f32
        scales, max(amax, 1e-4) / max(codes).
    scale_fmt: "ue8m0" rounds scales up to powers of two.
    preshuffle: codes in tiles of 16 slots x 16 dims.
    cache_dtype: what a cache of uint8 holds; None = float8_e4m3fn.
    Source: AITER indexer_k_quant_and_cache.
    """
    _aiter.indexer_k_quant_and_cache(
        k,
        kv_cache,
        slot_mapping,
        quant_block_size,
        scale_fmt == "ue8m0",
        preshuffle,
        cache_dtype,
        stream,
    )


def cp_gather_indexer_k_quant_cache(
    kv_cache: ArrayT,
    block_table: ArrayLike,
    cu_seq_lens: ArrayLike,
    tokens: int,
    head_dim: int = 128,
    quant_block_size: int = 128,
    preshuffle: bool = False,
    *,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """The codes and scales of the sequences in block_table, one after the other.

    tokens: rows of the results; cu_seq_lens (sequences + 1,) ends at or before it, and rows from
    there on are not written. out: (codes, scales) arrays for the results.
    Returns (codes (tokens, head_dim) of kv_cache's dtype, scales (tokens, head_dim /
    quant_block_size) f32). Source: AITER cp_gather_indexer_k_quant_cache.
    """
    codes, scales = out or (None, None)
    return _aiter.cp_gather_indexer_k_quant_cache(
        kv_cache,
        block_table,
        cu_seq_lens,
        tokens,
        head_dim,
        head_dim // quant_block_size,
        preshuffle,
        codes,
        scales,
        stream,
    )


def gather_cache(
    key_cache: ArrayT,
    value_cache: ArrayT | None,
    block_table: ArrayLike,
    cu_seq_lens: ArrayLike,
    tokens: int,
    k_scale: ArrayLike | None = None,
    v_scale: ArrayLike | None = None,
    dtype: DType | None = None,
    *,
    quant: str = "static",
    page_slots: int = 0,
    cache_dtype: DType | None = None,
    out: ArrayT | tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """Keys and values of the sequences in block_table, one after the other: `reshape_and_cache`
    undone.

    block_table: (sequences, n) int32 or int64, the pages of each. cu_seq_lens: (sequences + 1,).
    tokens: rows of the results; those past the last sequence are not written.
    dtype: None = the caches' own, bits are copied; a float for codes, then code * scale.
    quant: which scales are given: "static" (1,) or (heads,); "token" (heads, slots) or (pages,
        heads, block); "page" (heads, scaled pages), with page_slots as they were written.
    out: arrays for the results.
    Returns key (tokens, heads, head_dim) and, with value_cache, value.
    """
    out_key, out_value = out if isinstance(out, tuple) else (out, None)
    return _aiter.gather_cache(
        key_cache,
        value_cache,
        block_table,
        cu_seq_lens,
        tokens,
        k_scale,
        v_scale,
        ("static", "token", "page").index(quant),
        page_slots,
        cache_dtype,
        dtype,
        out_key,
        out_value,
        stream,
    )


def copy_blocks(
    key_caches: Sequence[ArrayLike],
    value_caches: Sequence[ArrayLike],
    block_mapping: ArrayLike,
    *,
    stream: Stream = None,
) -> None:
    """Copy page block_mapping[i, 0] over page block_mapping[i, 1] in the caches of every layer.

    key_caches, value_caches: lists of arrays (pages, ...) of any layout, pages without gaps.
    block_mapping: (n, 2) int64 or int32 on the caches' device; no page is written twice, or
        written and read. Source: AITER copy_blocks.
    """
    if len(key_caches) != len(value_caches):
        raise ValueError(
            f"copy_blocks: key_caches has {len(key_caches)} layers, value_caches "
            f"{len(value_caches)}"
        )
    for key_cache, value_cache in zip(key_caches, value_caches, strict=True):
        _aiter.copy_blocks(key_cache, value_cache, block_mapping, stream)


def swap_blocks(
    src: ArrayLike, dst: ArrayLike, block_mapping: ArrayLike, *, stream: Stream = None
) -> None:
    """Copy page block_mapping[i, 0] of src over page block_mapping[i, 1] of dst.

    src, dst: (pages, ...) of one dtype, each in host memory or on a GPU. block_mapping: (n, 2)
    int64 or int32 in host memory. With a GPU the copies are queued on the stream: wait for it before
    host memory is read or written. Source: AITER swap_blocks.
    """
    _aiter.swap_blocks(src, dst, block_mapping, stream)


def fused_qk_rope_reshape_and_cache(
    q: ArrayT,
    k: ArrayLike,
    v: ArrayLike,
    key_cache: ArrayLike,
    value_cache: ArrayLike,
    slot_mapping: ArrayLike,
    pos: ArrayLike | None,
    cos: ArrayLike | None,
    sin: ArrayLike | None,
    is_neox: bool = True,
    nope_first: bool = False,
    k_scale: ArrayLike | None = None,
    v_scale: ArrayLike | None = None,
    *,
    q_weight: ArrayLike | None = None,
    k_weight: ArrayLike | None = None,
    eps: float | None = None,
    gemma_norm: bool = False,
    reuse_freqs_front_part: bool = True,
    mrope_section: Sequence[int] | None = None,
    mrope_interleaved: bool = False,
    quant: str = "static",
    page_slots: int = 0,
    cache_dtype: DType | None = None,
    q_out: ArrayT | None = None,
    k_out: ArrayLike | None = None,
    v_out: ArrayLike | None = None,
    stream: Stream = None,
) -> ArrayT:
    """An RMS norm of each head of q and k (with eps), their rotation, and the write of the turned k
    and of v into the caches, in one pass: `fused_qk_norm_rope` and `reshape_and_cache`.

    q: (tokens, q_heads, head_dim); k, v: (tokens, heads, head_dim), of q's dtype.
    key_cache, value_cache, slot_mapping, k_scale, v_scale: as for `reshape_and_cache`; caches of
        q's dtype or of codes. cache_dtype: what caches of uint8 hold.
    quant: scales of caches of codes: "static" (given); "token", written as by
        `reshape_and_cache_with_pertoken_quant`; "page", with page_slots, updated as by
        `reshape_and_cache_with_block_quant`: a second pass, which needs k_out.
    pos: (tokens,) int32 or int64, or (3, tokens) with mrope_section (see `mrope_fwd`); None: token t
        takes row t modulo the rows.
    cos, sin: (max_position, R / 2), or R without reuse_freqs_front_part; None: nothing turns.
    q_weight, k_weight: (head_dim,) of q's dtype or f32; None = ones. eps: None = no norm.
        gemma_norm: multiply by (1 + weight).
    q_out: for the result, may be q. k_out, v_out: if given, get what goes to the caches; may be k
        and v; with static scales also of the caches' dtype, for the codes.
    Returns the turned q, for every token, also those whose slot is skipped.
    Source: AITER fused_qk_rope_reshape_and_cache.
    """
    return _aiter.fused_qk_rope_reshape_and_cache(
        q,
        k,
        v,
        key_cache,
        value_cache,
        slot_mapping,
        k_scale,
        v_scale,
        q_weight,
        k_weight,
        pos,
        cos,
        sin,
        is_neox,
        nope_first,
        not reuse_freqs_front_part,
        eps is not None,
        1e-6 if eps is None else eps,
        gemma_norm,
        *(mrope_section or (0, 0, 0)),
        mrope_interleaved,
        ("static", "token", "page").index(quant),
        page_slots,
        cache_dtype,
        q_out,
        k_out,
        v_out,
        stream,
    )


def _norm_rope_cache(
    qkv, weights, cos_sin, positions, eps, is_neox, caches, slot_mapping, scales, **options
):
    """`fused_qk_rope_reshape_and_cache` with a table [cos | sin], and caches (slots, heads, dim)
    without pages."""
    half = cos_sin.shape[-1] // 2
    tables = cos_sin[:, :half], cos_sin[:, half:]
    caches = [c[:, None] if c.ndim == 3 else c for c in caches]
    return fused_qk_rope_reshape_and_cache(
        *qkv,
        *caches,
        slot_mapping,
        positions,
        *tables,
        is_neox,
        False,
        *scales,
        q_weight=weights[0],
        k_weight=weights[1],
        eps=eps,
        **options,
    )


def _split_heads(qkv, heads, dim):
    """q, k and v of a fused QKV array (tokens, heads * dim), as views (tokens, heads, dim)."""
    begin, parts = 0, []
    for n in heads:
        parts.append(qkv[:, begin : begin + n * dim].reshape((qkv.shape[0], n, dim)))
        begin += n * dim
    return parts


def fused_qk_norm_rope_cache_quant_shuffle(
    q: ArrayT,
    k: ArrayT,
    v: ArrayLike,
    eps: float,
    qw: ArrayLike,
    kw: ArrayLike,
    cos_sin_cache: ArrayLike,
    is_neox_style: bool,
    pos_ids: ArrayLike,
    k_cache: ArrayLike,
    v_cache: ArrayLike,
    slot_mapping: ArrayLike,
    kv_cache_dtype: DType = "auto",
    k_scale: ArrayLike | None = None,
    v_scale: ArrayLike | None = None,
    *,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """Norm and rotation of q and k, and the write of k and v into the caches, with a scale for each
    token and head where these hold codes.

    q, k, v: (tokens, heads, head_dim). cos_sin_cache: (max_position, R), cosines, then sines.
    k_cache, v_cache, slot_mapping: as for `reshape_and_cache`.
    kv_cache_dtype: "auto" for caches of q's dtype; else what those of uint8 hold.
    k_scale, v_scale: (pages, heads, block) or (heads, slots) f32, written, for caches of codes.
    out: (q_out, k_out), which may be q and k.
    Returns q, or, with out, (q, k). Source: AITER fused_qk_norm_rope_cache_quant_shuffle.
    """
    dtype = _cache_dtype(k_cache, kv_cache_dtype)
    codes = str(k_cache.dtype) != str(q.dtype)
    q_out, k_out = out or (None, None)
    result = _norm_rope_cache(
        (q, k, v),
        (qw, kw),
        cos_sin_cache,
        pos_ids,
        eps,
        is_neox_style,
        (k_cache, v_cache),
        slot_mapping,
        (k_scale, v_scale) if codes else (None, None),
        quant="token" if codes else "static",
        cache_dtype=dtype,
        q_out=q_out,
        k_out=k_out,
        stream=stream,
    )
    return (result, k_out) if out else result


def fused_qk_norm_rope_cache_block_quant_shuffle(
    q: ArrayT,
    k: ArrayT,
    v: ArrayLike,
    eps: float,
    qw: ArrayLike,
    kw: ArrayLike,
    cos_sin_cache: ArrayLike,
    is_neox_style: bool,
    pos_ids: ArrayLike,
    k_cache: ArrayLike,
    v_cache: ArrayLike,
    slot_mapping: ArrayLike,
    kv_cache_dtype: DType = "auto",
    k_scale: ArrayLike | None = None,
    v_scale: ArrayLike | None = None,
    *,
    out: tuple[ArrayT, ArrayT],
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """`fused_qk_norm_rope_cache_quant_shuffle` with a scale for each page and head, updated as by
    `reshape_and_cache_with_block_quant`.

    k_scale, v_scale: (heads, pages); a transposed view of (pages, heads) will do.
    out: (q_out, k_out), which may be q and k: the codes are made from k_out.
    Returns (q, k). Source: AITER fused_qk_norm_rope_cache_block_quant_shuffle.
    """
    dtype = _cache_dtype(k_cache, kv_cache_dtype)
    codes = str(k_cache.dtype) != str(q.dtype)
    result = _norm_rope_cache(
        (q, k, v),
        (qw, kw),
        cos_sin_cache,
        pos_ids,
        eps,
        is_neox_style,
        (k_cache, v_cache),
        slot_mapping,
        (k_scale, v_scale) if codes else (None, None),
        quant="page" if codes else "static",
        cache_dtype=dtype,
        q_out=out[0],
        k_out=out[1],
        stream=stream,
    )
    return result, out[1]


def fused_qk_norm_rope_cache_pts_quant_shuffle(
    qkv: ArrayT,
    qw: ArrayLike,
    kw: ArrayLike,
    cos_sin: ArrayLike,
    positions: ArrayLike,
    num_heads_q: int,
    num_heads_k: int,
    num_heads_v: int,
    head_size: int,
    is_neox_style: bool,
    eps: float,
    k_cache: ArrayLike,
    v_cache: ArrayLike,
    slot_mapping: ArrayLike,
    per_tensor_k_scale: ArrayLike | None = None,
    per_tensor_v_scale: ArrayLike | None = None,
    *,
    mrope_section: Sequence[int] | None = None,
    mrope_interleaved: bool = False,
    gemma_norm: bool = False,
    cache_dtype: DType | None = None,
    q_out: ArrayT | None = None,
    k_out: ArrayLike | None = None,
    v_out: ArrayLike | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Norm and rotation of q and k of a fused QKV array, and the write of k and v into the caches,
    with given scales where these hold codes.

    qkv: (tokens, (num_heads_q + num_heads_k + num_heads_v) * head_size).
    cos_sin: (max_position, R), cosines, then sines. positions: (tokens,), or (3, tokens) with
        mrope_section, mrope_interleaved (see `mrope_fwd`). gemma_norm: multiply by (1 + weight).
    k_cache, v_cache, slot_mapping: as for `reshape_and_cache`, or caches (slots, heads, head_size).
    per_tensor_k_scale, per_tensor_v_scale: (1,) f32, for caches of codes; None = 1.
    q_out, k_out, v_out: as for `fused_qk_rope_reshape_and_cache`.
    Returns the turned q. Source: AITER fused_qk_norm_rope_cache_pts_quant_shuffle.
    """
    codes = str(k_cache.dtype) != str(qkv.dtype)
    return _norm_rope_cache(
        _split_heads(qkv, (num_heads_q, num_heads_k, num_heads_v), head_size),
        (qw, kw),
        cos_sin,
        positions,
        eps,
        is_neox_style,
        (k_cache, v_cache),
        slot_mapping,
        (per_tensor_k_scale, per_tensor_v_scale) if codes else (None, None),
        gemma_norm=gemma_norm,
        mrope_section=mrope_section,
        mrope_interleaved=mrope_interleaved,
        cache_dtype=cache_dtype,
        q_out=q_out,
        k_out=k_out,
        v_out=v_out,
        stream=stream,
    )


def fused_qk_norm_mrope_3d_cache_pts_quant_shuffle(
    qkv: ArrayT,
    qw: ArrayLike,
    kw: ArrayLike,
    cos_sin: ArrayLike,
    positions: ArrayLike,
    num_heads_q: int,
    num_heads_k: int,
    num_heads_v: int,
    head_size: int,
    is_neox_style: bool,
    mrope_section: Sequence[int],
    is_interleaved: bool,
    *args: object,
    **options: object,
) -> ArrayT:
    """`fused_qk_norm_rope_cache_pts_quant_shuffle` with three positions a token, (3, tokens).

    args, options: those of that function, from eps on.
    Source: AITER fused_qk_norm_mrope_3d_cache_pts_quant_shuffle.
    """
    heads = num_heads_q, num_heads_k, num_heads_v
    return fused_qk_norm_rope_cache_pts_quant_shuffle(
        qkv, qw, kw, cos_sin, positions, *heads, head_size, is_neox_style, *args,
        mrope_section=mrope_section, mrope_interleaved=is_interleaved, **options,
    )  # fmt: skip


def fused_qkv_split_qk_norm_rope_cache(
    qkv: ArrayT,
    q_weight: ArrayLike,
    k_weight: ArrayLike,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    key_cache: ArrayLike,
    value_cache: ArrayLike,
    slot_mapping: ArrayLike,
    qh: int,
    kvh: int,
    head_dim: int,
    is_neox: bool = True,
    reuse_freqs_front_part: bool = True,
    attn_output_gate: bool = False,
    k_scale: ArrayLike | None = None,
    v_scale: ArrayLike | None = None,
    eps: float = 1e-5,
    gated_qkv_layout: str = "interleaved",
    *,
    gemma_norm: bool = True,
    cache_dtype: DType | None = None,
    q_out: ArrayT | None = None,
    k_out: ArrayLike | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ...]:
    """Norm, by (1 + weight), and rotation of q and k of a fused QKV array, and the write of k and v
    into the caches.

    qkv: (tokens, (qh + 2 kvh) * head_dim); attn_output_gate: (tokens, (2 qh + 2 kvh) * head_dim), in
        which the gate follows each head of q ("interleaved") or all of them ("blocked").
    The others as for `fused_qk_rope_reshape_and_cache`.
    Returns (q, k or None, v) or (q, gate, k or None, v), where gate and v are views of qkv, and k is
    k_out. Source: AITER fused_qkv_split_qk_norm_rope_cache.
    """
    if gated_qkv_layout not in ("interleaved", "blocked"):
        raise ValueError(
            f"fused_qkv_split_qk_norm_rope_cache: gated_qkv_layout is {gated_qkv_layout!r}, expected "
            "'interleaved' or 'blocked'"
        )
    if not attn_output_gate:
        q, k, v = _split_heads(qkv, (qh, kvh, kvh), head_dim)
    elif gated_qkv_layout == "blocked":
        q, gate, k, v = _split_heads(qkv, (qh, qh, kvh, kvh), head_dim)
    else:
        both, k, v = _split_heads(qkv, (2 * qh, kvh, kvh), head_dim)
        q, gate = both[:, ::2], both[:, 1::2]
    q = fused_qk_rope_reshape_and_cache(
        q,
        k,
        v,
        key_cache,
        value_cache,
        slot_mapping,
        positions,
        cos,
        sin,
        is_neox,
        False,
        k_scale,
        v_scale,
        q_weight=q_weight,
        k_weight=k_weight,
        eps=eps,
        gemma_norm=gemma_norm,
        reuse_freqs_front_part=reuse_freqs_front_part,
        cache_dtype=cache_dtype,
        q_out=q_out,
        k_out=k_out,
        stream=stream,
    )
    return (q, gate, k_out, v) if attn_output_gate else (q, k_out, v)


def fused_qk_rope_concat_and_cache_mla(
    q_nope: ArrayT,
    q_pe: ArrayLike,
    kv_c: ArrayLike,
    k_pe: ArrayLike,
    kv_cache: ArrayLike,
    slot_mapping: ArrayLike,
    positions: ArrayLike,
    cos_cache: ArrayLike,
    sin_cache: ArrayLike,
    is_neox: bool = True,
    is_nope_first: bool = True,
    k_scale: ArrayLike | None = None,
    q_scale: ArrayLike | None = None,
    out_dtype: DType | None = None,
    *,
    cache_dtype: DType | None = None,
    q_out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """[q_nope | turned q_pe], and [kv_c | turned k_pe] into an MLA cache, in one pass.

    q_nope: (tokens, q_heads, latent); q_pe: (tokens, q_heads, rope); kv_c, k_pe, kv_cache,
        slot_mapping: as for `concat_and_cache_mla`.
    positions: (tokens,) int32 or int64; cos_cache, sin_cache: (max_position, R / 2).
    is_nope_first: False for rows [k_pe | kv_c], and queries likewise.
    k_scale, q_scale: (1,), for codes. out_dtype: of the queries; None = q_nope's.
    cache_dtype: what arrays of uint8 hold. q_out: an array for the queries, whose last extent may
        be larger.
    Returns the queries, for every token, also those whose slot is skipped.
    Source: AITER fused_qk_rope_concat_and_cache_mla.
    """
    return _aiter.fused_qk_rope_concat_and_cache_mla(
        q_nope,
        q_pe,
        kv_c,
        k_pe,
        kv_cache,
        slot_mapping,
        k_scale,
        q_scale,
        positions,
        cos_cache,
        sin_cache,
        is_neox,
        not is_nope_first,
        out_dtype,
        cache_dtype,
        q_out,
        stream,
    )


def fused_qk_rope_concat_and_cache_mla_seg(
    q_nope: ArrayT,
    q_pe: ArrayLike,
    kv_c: ArrayLike,
    k_pe: ArrayLike,
    kv_cache: ArrayLike,
    *args: object,
    **options: object,
) -> ArrayT:
    """`fused_qk_rope_concat_and_cache_mla` for a cache in segments, (pages, block * (latent +
    rope)). Source: AITER fused_qk_rope_concat_and_cache_mla_seg."""
    if len(kv_cache.shape) != 2:
        raise ValueError(
            f"fused_qk_rope_concat_and_cache_mla_seg: kv_cache has shape {tuple(kv_cache.shape)}, "
            "expected (pages, block * (latent + rope))"
        )
    return fused_qk_rope_concat_and_cache_mla(q_nope, q_pe, kv_c, k_pe, kv_cache, *args, **options)


def inverse_rope_group_quant(
    o: ArrayT,
    positions: ArrayLike,
    cos_cache: ArrayLike,
    sin_cache: ArrayLike,
    num_groups: int,
    quant_group_size: int = 128,
    scale_layout: str = "row",
    *,
    quant_dtype: DType = "float8_e4m3fn",
    is_neox: bool = False,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """The last R dims of each head of an attention's output turned back, then codes with e8m0 scales.

    o: (tokens, heads, head_dim); positions: (tokens,); cos_cache, sin_cache: (max_position, R / 2).
    num_groups: rows of the result, of heads * head_dim / num_groups dims each.
    quant_group_size: dims that share a scale, a divisor of head_dim.
    scale_layout: "row": (tokens, num_groups, columns); "mfma_tile": (num_groups, tokens to 32, columns
        to 2 with groups of 128, else to 8), in gfx950's tiles; "n32k4": (tokens / 32, num_groups, 32
        columns), 4 columns of 32 tokens together. What pads is not written.
    Returns (codes (tokens, num_groups, dims), scales). Source: AITER inverse_rope_group_quant, which
    does not round to o's dtype between.
    """
    codes, scale = out or (None, None)
    layouts = ("row", "mfma_tile", "n32k4")
    if scale_layout not in layouts:
        raise ValueError(
            f"inverse_rope_group_quant: scale_layout is {scale_layout!r}, expected one of {layouts}"
        )
    return _aiter.inverse_rope_group_quant(
        o,
        positions,
        cos_cache,
        sin_cache,
        num_groups,
        quant_group_size,
        layouts.index(scale_layout),
        is_neox,
        quant_dtype,
        codes,
        scale,
        stream,
    )


def fused_qk_norm_rope_group_quant(
    q: ArrayT,
    kv: ArrayLike,
    k_weight: ArrayLike | None,
    positions: ArrayLike,
    cos_cache: ArrayLike,
    sin_cache: ArrayLike,
    eps: float,
    is_neox: bool = False,
    q_out_dtype: DType | None = None,
    q_weight: ArrayLike | None = None,
    quant_group_size: int = 64,
    *,
    quant_dtype: DType = "float8_e4m3fn",
    swa_nope_scale_buff: ArrayLike | None = None,
    swa_rope_buff: ArrayLike | None = None,
    swa_dest_row: ArrayLike | None = None,
    swa_block_tables: ArrayLike | None = None,
    swa_block_size: int = 1,
    batch_id_per_token: ArrayLike | None = None,
    out: tuple[ArrayT | None, ...] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT | None, ArrayT, ArrayT]:
    """Norm of the heads, rotation of their last R dims, and codes with e8m0 scales of the others: rows
    of a query and a key, and the key's in a cache of a sliding window, in one pass.

    q: (tokens, heads, head_dim); kv: (tokens, head_dim); k_weight, q_weight: (head_dim,), None = ones.
    positions: (tokens,); cos_cache, sin_cache: (max_position, R / 2).
    q_out_dtype: of codes, too; None: q stays as it is, all of a head together.
    quant_group_size: dims of q that share a scale; those of kv are 64. quant_dtype: of kv's codes.
    swa_nope_scale_buff, swa_rope_buff: rows (n, head_dim) and (n, R) for what is returned of kv. They
        go to row swa_dest_row (tokens,), or swa_block_tables (sequences, blocks)[batch_id_per_token,
        position / swa_block_size] * swa_block_size + position % swa_block_size; below 0: to none.
    out: arrays for the results, or None for some.
    Returns (q, its turned dims or None, kv, its turned dims): of codes (..., head_dim) bytes, of which
    the first head_dim - R are codes, and next to them each scale twice; the rest is not written.
    Source: AITER fused_qk_norm_rope_group_quant, which does not round between.
    """
    q_out, q_rope, kv_out, kv_rope = out or (None, None, None, None)
    tables = swa_block_tables is not None
    *of_q, kv_out, kv_rope = _aiter.fused_qk_norm_rope_group_quant(
        q,
        kv,
        q_weight,
        k_weight,
        positions,
        cos_cache,
        sin_cache,
        slot_mapping=swa_block_tables if tables else swa_dest_row,
        batch_ids=batch_id_per_token if tables else None,
        q_dtype=q_out_dtype,
        kv_dtype=quant_dtype,
        packed=True,
        q_out=q_out,
        q_rope=q_rope,
        kv_out=kv_out,
        kv_rope=kv_rope,
        kv_cache=swa_nope_scale_buff,
        kv_cache_rope=swa_rope_buff,
        q_eps=eps,
        kv_eps=eps,
        neox=is_neox,
        q_group=quant_group_size,
        kv_group=64,
        page_slots=swa_block_size,
        amax_floor=1e-12,
        codes_dtype=quant_dtype,
        stream=stream,
    )
    return of_q[0], of_q[1] if len(of_q) == 2 else None, kv_out, kv_rope


def fused_kv_norm_rope_group_quant(
    kv: ArrayLike,
    kv_weight: ArrayLike | None,
    positions: ArrayLike,
    slot_mapping: ArrayLike,
    cos_cache: ArrayLike,
    sin_cache: ArrayLike,
    eps: float,
    k_nope_scale_buff: ArrayLike,
    k_rope_buff: ArrayLike,
    is_neox: bool = False,
    quant_group_size: int = 64,
    *,
    cache_dtype: DType = "float8_e4m3fn",
    stream: Stream = None,
) -> None:
    """kv as in `fused_qk_norm_rope_group_quant`, into the caches alone: (pages, block, head_dim) of codes
    and scales, and (pages, block, R). A negative slot skips its token.

    cache_dtype: what an array of uint8 holds. Source: AITER fused_kv_norm_rope_group_quant.
    """
    _aiter.fused_qk_norm_rope_group_quant(
        None,
        kv,
        None,
        kv_weight,
        positions,
        cos_cache,
        sin_cache,
        slot_mapping,
        packed=True,
        rows=False,
        kv_cache=k_nope_scale_buff,
        kv_cache_rope=k_rope_buff,
        kv_eps=eps,
        neox=is_neox,
        kv_group=quant_group_size,
        amax_floor=1e-12,
        codes_dtype=cache_dtype,
        stream=stream,
    )


def fused_reduce_qk_norm_rope_swa_write(
    q: ArrayLike,
    kv: ArrayT,
    q_norm_weight: ArrayLike | None,
    kv_norm_weight: ArrayLike | None,
    q_rms_eps: float,
    kv_rms_eps: float,
    rope_head_dim: int,
    cos_cache: ArrayLike,
    sin_cache: ArrayLike,
    positions: ArrayLike,
    is_neox: bool = False,
    batch_id_per_token: ArrayLike | None = None,
    state_slot_mapping: ArrayLike | None = None,
    swa_kv: ArrayLike | None = None,
    *,
    skip_unwritten: bool = False,
    dtype: DType | None = None,
    out: tuple[ArrayT | None, ArrayT | None] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """Partial sums of queries added up, norm of the heads of q and of kv, rotation of their last
    rope_head_dim dims, and kv into a ring of the last positions of each sequence, in one pass.

    q: (tokens, heads * head_dim), or (splits, tokens, ...) to be summed in fp32, f32 or of kv's dtype;
        kv: (tokens, head_dim); weights: (head_dim,), None = ones.
    cos_cache, sin_cache: (max_position, rope_head_dim / 2); positions: (tokens,).
    swa_kv: (rings, window, head_dim): token t goes to ring state_slot_mapping[batch_id_per_token[t]],
        line positions[t] % window; a negative id writes nothing.
    skip_unwritten: kv stays as it is in `out` for tokens that go nowhere. dtype: of q; None = kv's.
    Returns (q (tokens, heads, head_dim), kv). Source: AITER fused_reduce_qk_norm_rope_swa_write.
    """
    name = "fused_reduce_qk_norm_rope_swa_write"
    if len(kv.shape) != 2 or len(q.shape) not in (2, 3) or q.shape[-1] % (kv.shape[1] or 1):
        raise ValueError(
            f"{name}: q and kv have shapes {tuple(q.shape)} and {tuple(kv.shape)}, expected "
            "(tokens, heads * head_dim), or (splits, tokens, ...), and (tokens, head_dim)"
        )
    if 2 * cos_cache.shape[-1] != rope_head_dim:
        raise ValueError(
            f"{name}: rope_head_dim is {rope_head_dim}, expected {2 * cos_cache.shape[-1]}, twice the "
            "width of cos_cache"
        )
    head_dim = kv.shape[1]
    q_out, kv_out = out or (None, None)
    return _aiter.fused_qk_norm_rope_group_quant(
        q.reshape(*q.shape[:-1], q.shape[-1] // (head_dim or 1), head_dim),
        kv,
        q_norm_weight,
        kv_norm_weight,
        positions,
        cos_cache,
        sin_cache,
        slot_mapping=state_slot_mapping,
        batch_ids=batch_id_per_token,
        q_dtype=dtype,
        q_out=q_out,
        kv_out=kv_out,
        kv_cache=swa_kv,
        q_eps=q_rms_eps,
        kv_eps=kv_rms_eps,
        neox=is_neox,
        skip_uncached=skip_unwritten,
        stream=stream,
    )


_FP4_FLOOR = 6 * 2.0**-126  # AITER's smallest amax of a group


def rope_rotate_activation(
    x: ArrayT,
    cos: ArrayLike | None,
    sin: ArrayLike | None,
    positions: ArrayLike | None,
    quant_dtype: DType | None = None,
    group_size: int | None = None,
    shuffle_scale: bool = False,
    do_rotate_act: bool = True,
    *,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """The last R dims of each head turned (GPT-J), then `rotate_activation`, then codes.

    x: (tokens, heads, head_dim), head_dim a power of two up to 1024; positions: (tokens,); cos, sin:
        (max_position, R / 2); the three None: nothing turns.
    quant_dtype: "float4_e2m1fnx2", with e8m0 scales of groups of 32, or an 8-bit type, with f32 scales
        of groups of 128; None: x's own. group_size: another one.
    shuffle_scale: scales (tokens, groups, 16, heads / 16 up to a multiple of 4) instead of (tokens,
        heads, groups), for multiplications of 16 heads; what pads is not written.
    do_rotate_act: False leaves the Hadamard rotation out.
    Returns the heads, or (codes, scale). Source: AITER rope_rotate_activation, which does not round
    between.
    """
    fp4 = quant_dtype is not None and "float4" in str(quant_dtype)
    return _aiter.fused_qk_norm_rope_group_quant(
        x,
        positions=positions,
        cos=cos,
        sin=sin,
        q_dtype=quant_dtype,
        scale_dtype="float8_e8m0fnu" if fp4 else "float32",
        tiled=shuffle_scale,
        q_out=out,
        q_scale=out_scale,
        norm=False,
        hadamard=do_rotate_act,
        q_group=group_size or (32 if fp4 else 128),
        amax_floor=_FP4_FLOOR if fp4 else 1e-10,
        codes_dtype=quant_dtype,
        stream=stream,
    )


def rmsnorm_rope_rotate_activation_fp4quant_kvcache(
    kvcache: ArrayLike,
    scale: ArrayLike,
    x: ArrayLike,
    norm_weight: ArrayLike | None,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    slot_mapping: ArrayLike,
    epsilon: float,
    group_size: int = 32,
    shuffle_scale: bool = True,
    do_rotate_act: bool = False,
    *,
    stream: Stream = None,
) -> None:
    """An RMS norm of keys, their last R dims turned (GPT-J), `rotate_activation` with do_rotate_act, and
    fp4 codes with e8m0 scales into a cache.

    x: (tokens, head_dim); norm_weight: (head_dim,); cos, sin: (max_position, R / 2); positions,
        slot_mapping: (tokens,), where a negative slot skips its token.
    kvcache, scale: (pages, head_dim / 128, 4, block, 16) bytes and (pages, head_dim / 128, 4, block),
        whose slots are in the order of tiles of 16, 32 dims a scale; without shuffle_scale rows
        (slots, head_dim / 2) and (slots, groups).
    Source: AITER rmsnorm_rope_rotate_activation_fp4quant_kvcache, which does not round between.
    """
    _aiter.fused_qk_norm_rope_group_quant(
        None,
        x,
        None,
        norm_weight,
        positions,
        cos,
        sin,
        slot_mapping,
        rows=False,
        tiled=shuffle_scale,
        kv_cache=kvcache,
        kv_cache_scale=scale,
        kv_eps=epsilon,
        hadamard=do_rotate_act,
        kv_group=group_size,
        page_slots=1,
        amax_floor=_FP4_FLOOR,
        codes_dtype="float4_e2m1fnx2",
        stream=stream,
    )


def fused_compress_attn(
    kv_in: ArrayLike,
    score_in: ArrayLike,
    kv_state: ArrayLike,
    score_state: ArrayLike,
    plan: ArrayLike,
    state_slot_mapping: ArrayLike,
    ape: ArrayLike,
    rms_weight: ArrayLike | None,
    rms_eps: float,
    cos_cache: ArrayLike | None,
    sin_cache: ArrayLike | None,
    kv_cache: ArrayLike,
    block_tables: ArrayLike,
    overlap: bool,
    ratio: int,
    cache_scale: ArrayLike | None = None,
    use_ue8m0: bool = True,
    preshuffle: bool = True,
    quant_mode: str = "none",
    quant_group_size: int = 64,
    k_rope_buff: ArrayLike | None = None,
    *,
    is_neox: bool = False,
    cache_dtype: DType | None = None,
    stream: Stream = None,
) -> None:
    """The compressor of DeepSeek V4: the lines of `ratio` positions, or with overlap of twice as many,
    become one, their mean weighted for each dim by the softmax of their scores, which is normalized,
    turned and written into the cache.

    plan: (heads, 4) int32: for each line to write the row of kv_in of its last position, its sequence,
        that position p (negative: none), and how many of its first positions are in the state.
    kv_in, score_in: (rows, head_dim), with overlap (rows, 2 * head_dim), where the earlier positions
        have the first half; ape: (ratio, ...) added to score_in; kv_state, score_state: (states, lines,
        ...), of which position s of a sequence is line s % lines of state_slot_mapping[sequence].
    rms_weight: (head_dim,) f32; cos_cache, sin_cache: (max_position, R / 2), of which row p - p % ratio
        turns the last R dims.
    kv_cache: the line goes to slot c % block of page block_tables[sequence, c // block], where c is
        p // ratio. quant_mode "none": (pages, block, head_dim) of floats; "fp8": of codes, with
        cache_scale (pages, block) f32, powers of two with use_ue8m0, and with preshuffle in tiles of
        16 slots x 16 dims; "group_fp8": codes and e8m0 scales of quant_group_size dims side by side,
        and the dims that turn in k_rope_buff (pages, block, R), as in
        `fused_qk_norm_rope_group_quant`; "fp4": with cache_scale, as in
        `rmsnorm_rope_rotate_activation_fp4quant_kvcache`, preshuffle for shuffle_scale.
    cache_dtype: what a cache of uint8 holds. Source: AITER fused_compress_attn.
    """
    modes = ("none", "fp8", "group_fp8", "fp4")
    if quant_mode not in modes:
        raise ValueError(
            f"fused_compress_attn: quant_mode is {quant_mode!r}, expected one of {modes}"
        )
    fp4, grouped = quant_mode == "fp4", quant_mode == "group_fp8"
    floors = {"none": 0.0, "fp8": 1e-4, "group_fp8": 1e-12, "fp4": _FP4_FLOOR}
    _aiter.fused_compress_attn(
        kv_in,
        score_in,
        kv_state,
        score_state,
        plan,
        state_slot_mapping,
        ape,
        rms_weight,
        cos_cache,
        sin_cache,
        block_tables,
        kv_cache,
        cache_scale,
        k_rope_buff,
        overlap,
        ratio,
        rms_eps,
        is_neox,
        32 if fp4 else quant_group_size if grouped else 0,
        1,
        floors[quant_mode],
        use_ue8m0 and quant_mode == "fp8",
        grouped,
        fp4 and preshuffle,
        quant_mode == "fp8" and preshuffle,
        "float4_e2m1fnx2" if fp4 else cache_dtype,
        stream,
    )


def indexer_qk_rope_quant_and_cache(
    q: ArrayT,
    weights: ArrayLike,
    k: ArrayLike,
    kv_cache: ArrayLike,
    slot_mapping: ArrayLike,
    norm_weight: ArrayLike,
    norm_bias: ArrayLike,
    positions: ArrayLike,
    cos_cache: ArrayLike,
    sin_cache: ArrayLike,
    epsilon: float = 1e-6,
    scale_fmt: str = "",
    weights_scale: float = 1.0,
    preshuffle: bool = False,
    is_neox: bool = True,
    *,
    cache_dtype: DType | None = None,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """Queries and keys of the sparse-attention indexer in one pass: the turned q as codes with a
    scale for each head, and the turned LayerNorm of k into the cache.

    q: (tokens, heads, dim); weights: (tokens, heads); k: (tokens, dim); norm_weight, norm_bias:
        (dim,) f32; positions (tokens,); cos_cache, sin_cache: (max_position, R / 2): the first R
        dims turn.
    kv_cache, slot_mapping, scale_fmt, preshuffle, cache_dtype: as for
        `indexer_k_quant_and_cache`, with one scale a slot.
    Returns (codes of q, of kv_cache's dtype; weights * scale of q * weights_scale, f32), for every
    token. Source: AITER indexer_qk_rope_quant_and_cache.
    """
    q_out, weights_out = out or (None, None)
    return _aiter.indexer_qk_rope_quant_and_cache(
        q,
        weights,
        k,
        kv_cache,
        slot_mapping,
        norm_weight,
        norm_bias,
        positions,
        cos_cache,
        sin_cache,
        epsilon,
        weights_scale,
        scale_fmt == "ue8m0",
        preshuffle,
        is_neox,
        cache_dtype,
        q_out,
        weights_out,
        stream,
    )
