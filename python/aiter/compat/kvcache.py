"""AITER's signatures of the paged cache: scales are passed even where the cache holds none."""

import aiter

__all__ = [
    "cat_and_cache_mla",
    "concat_and_cache_mla",
    "concat_and_cache_mla_seg",
    "cp_gather_indexer_k_quant_cache",
    "fused_qk_rope_concat_and_cache_mla",
    "fused_qk_rope_concat_and_cache_mla_seg",
    "fused_qk_rope_reshape_and_cache",
    "indexer_k_quant_and_cache",
    "indexer_qk_rope_quant_and_cache",
    "reshape_and_cache",
    "reshape_and_cache_flash",
    "reshape_and_cache_with_block_quant",
    "reshape_and_cache_with_block_quant_for_asm_pa",
    "reshape_and_cache_with_pertoken_quant",
]


def _holds(cache, kv_cache_dtype=None):
    """What a cache of uint8 holds: "fp8", the default, is the type that the device multiplies."""
    if "uint8" in str(cache.dtype) and kv_cache_dtype in (None, "fp8", "fp8_e4m3"):
        from .dtypes import fp8

        return str(fp8).removeprefix("torch.")
    return kv_cache_dtype


def _scale(cache, scale):
    """AITER's callers pass a scale for caches that are copied to, too."""
    return scale.reshape(-1) if scale is not None and cache.element_size() == 1 else None


def _values(key_cache, value_cache, asm_layout):
    """value_cache with the layout that asm_layout says, if its shape does not."""
    if not asm_layout or value_cache.ndim == 5 or key_cache.ndim == 4:
        return value_cache
    pages, heads, dim, block = value_cache.shape
    x = 16 // value_cache.element_size()
    return value_cache.view(pages, heads, block // x, dim, x)


def reshape_and_cache(
    key,
    value,
    key_cache,
    value_cache,
    slot_mapping,
    kv_cache_dtype,
    k_scale=None,
    v_scale=None,
    asm_layout=False,
):
    aiter.reshape_and_cache(
        key,
        value,
        key_cache,
        _values(key_cache, value_cache, asm_layout),
        slot_mapping,
        _holds(key_cache, kv_cache_dtype),
        _scale(key_cache, k_scale),
        _scale(key_cache, v_scale),
    )


def reshape_and_cache_flash(
    key, value, key_cache, value_cache, slot_mapping, kv_cache_dtype, k_scale, v_scale
):
    reshape_and_cache(
        key, value, key_cache, value_cache, slot_mapping, kv_cache_dtype, k_scale, v_scale
    )


def reshape_and_cache_with_pertoken_quant(
    key,
    value,
    key_cache,
    value_cache,
    k_dequant_scales,
    v_dequant_scales,
    slot_mapping,
    asm_layout,
):
    """Scales are (heads, tokens), or (pages, heads, block) in the asm layout."""
    scales = k_dequant_scales, v_dequant_scales
    if asm_layout:
        pages, heads, _, block, _ = key_cache.shape
        scales = [s.view(pages, heads, block) for s in scales]
    aiter.reshape_and_cache_with_pertoken_quant(
        key,
        value,
        key_cache,
        _values(key_cache, value_cache, asm_layout),
        *scales,
        slot_mapping,
        cache_dtype=_holds(key_cache),
    )


def reshape_and_cache_with_block_quant(
    key,
    value,
    key_cache,
    value_cache,
    k_dequant_scales,
    v_dequant_scales,
    slot_mapping,
    asm_layout,
):
    """key, value: (batch, tokens, heads, dim). Scales are (heads, pages), or (pages, heads) in the
    asm layout."""
    _block_quant(
        key,
        value,
        key_cache,
        value_cache,
        k_dequant_scales,
        v_dequant_scales,
        slot_mapping,
        asm_layout,
        0,
    )


def reshape_and_cache_with_block_quant_for_asm_pa(
    key,
    value,
    key_cache,
    value_cache,
    k_dequant_scales,
    v_dequant_scales,
    slot_mapping,
    asm_layout,
    ori_block_size=128,
):
    """The same with a scale for ori_block_size slots, over caches with pages of 16."""
    _block_quant(
        key,
        value,
        key_cache,
        value_cache,
        k_dequant_scales,
        v_dequant_scales,
        slot_mapping,
        asm_layout,
        ori_block_size,
    )


def _block_quant(
    key, value, key_cache, value_cache, k_scales, v_scales, slot_mapping, asm_layout, page_slots
):
    if asm_layout:
        k_scales, v_scales = k_scales.T, v_scales.T
    aiter.reshape_and_cache_with_block_quant(
        key.reshape(-1, *key.shape[-2:]),
        value.reshape(-1, *value.shape[-2:]),
        key_cache,
        _values(key_cache, value_cache, asm_layout),
        k_scales,
        v_scales,
        slot_mapping.reshape(-1),
        page_slots=page_slots,
        cache_dtype=_holds(key_cache),
    )


def concat_and_cache_mla(kv_c, k_pe, kv_cache, slot_mapping, kv_cache_dtype, scale):
    aiter.concat_and_cache_mla(
        kv_c,
        k_pe,
        kv_cache,
        slot_mapping,
        _holds(kv_cache, kv_cache_dtype),
        _scale(kv_cache, scale),
    )


def concat_and_cache_mla_seg(kv_c, k_pe, kv_cache, slot_mapping, kv_cache_dtype, scale):
    concat_and_cache_mla(kv_c, k_pe, kv_cache, slot_mapping, kv_cache_dtype, scale)


def cat_and_cache_mla(
    k_nope, k_pe, kv_cache, slot_mapping, k_scale, apply_scale=True, shuffled_kv_cache=False
):
    if shuffled_kv_cache:
        raise NotImplementedError("cat_and_cache_mla: shuffled_kv_cache is True, expected False")
    scale = _scale(kv_cache, k_scale) if apply_scale else None
    aiter.cat_and_cache_mla(k_nope, k_pe, kv_cache, slot_mapping, scale)


def indexer_k_quant_and_cache(
    k, kv_cache, slot_mapping, quant_block_size, scale_fmt, preshuffle=False
):
    aiter.indexer_k_quant_and_cache(
        k,
        kv_cache,
        slot_mapping,
        quant_block_size,
        scale_fmt,
        preshuffle,
        cache_dtype=_holds(kv_cache),
    )


def indexer_qk_rope_quant_and_cache(
    q,
    q_out,
    weights,
    weights_out,
    k,
    kv_cache,
    slot_mapping,
    norm_weight,
    norm_bias,
    positions,
    cos_cache,
    sin_cache,
    epsilon,
    quant_block_size,
    scale_fmt,
    weights_scale,
    preshuffle=False,
    is_neox=True,
):
    """quant_block_size is the head's dims, as in AITER."""
    if quant_block_size != k.shape[1]:
        raise ValueError(
            f"indexer_qk_rope_quant_and_cache: quant_block_size is {quant_block_size}, expected "
            f"k's {k.shape[1]} dims"
        )
    aiter.indexer_qk_rope_quant_and_cache(
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
        scale_fmt,
        weights_scale,
        preshuffle,
        is_neox,
        cache_dtype=_holds(kv_cache),
        out=(q_out, weights_out),
    )


def cp_gather_indexer_k_quant_cache(
    kv_cache, dst_k, dst_scale, block_table, cu_seq_lens, preshuffle=False
):
    """dst_scale: (tokens, groups) f32, or the bytes of it."""
    import torch

    scales = dst_scale if dst_scale.dtype == torch.float32 else dst_scale.view(torch.float32)
    tokens, head_dim = dst_k.shape
    aiter.cp_gather_indexer_k_quant_cache(
        kv_cache,
        block_table,
        cu_seq_lens,
        tokens,
        head_dim,
        head_dim // scales.shape[1],
        preshuffle,
        out=(dst_k, scales),
    )


def fused_qk_rope_concat_and_cache_mla(
    q_nope,
    q_pe,
    kv_c,
    k_pe,
    kv_cache,
    q_out,
    slot_mapping,
    k_scale,
    q_scale,
    positions,
    cos_cache,
    sin_cache,
    is_neox,
    is_nope_first,
    compute_all_q_rope=False,
):
    """q_out is written for every token, whatever compute_all_q_rope."""
    aiter.fused_qk_rope_concat_and_cache_mla(
        q_nope,
        q_pe,
        kv_c,
        k_pe,
        kv_cache,
        slot_mapping,
        positions,
        cos_cache,
        sin_cache,
        is_neox,
        is_nope_first,
        k_scale=_scale(kv_cache, k_scale),
        q_scale=_scale(q_out, q_scale),
        cache_dtype=_holds(kv_cache),
        q_out=q_out,
    )


def fused_qk_rope_concat_and_cache_mla_seg(
    q_nope,
    q_pe,
    kv_c,
    k_pe,
    kv_cache,
    q_out,
    slot_mapping,
    k_scale,
    q_scale,
    positions,
    cos_cache,
    sin_cache,
    is_neox,
    is_nope_first=True,
):
    fused_qk_rope_concat_and_cache_mla(
        q_nope,
        q_pe,
        kv_c,
        k_pe,
        kv_cache,
        q_out,
        slot_mapping,
        k_scale,
        q_scale,
        positions,
        cos_cache,
        sin_cache,
        is_neox,
        is_nope_first,
    )


def fused_qk_rope_reshape_and_cache(
    q,
    k,
    v,
    key_cache,
    value_cache,
    slot_mapping,
    pos,
    cos,
    sin,
    k_scale,
    v_scale,
    is_neox,
    flash_layout,
    apply_scale=True,
    offs=None,
    q_out=None,
    k_out=None,
    output_zeros=True,
    zeros_out=None,
    upcast_operand=False,
):
    """Returns (q_out, k_out, key_cache, value_cache[, zeros_out]). The layout is that of the caches'
    shapes; the arithmetic is in fp32 whatever upcast_operand."""
    import torch

    k_out = torch.empty_like(k) if k_out is None else k_out
    q_out = aiter.fused_qk_rope_reshape_and_cache(
        q,
        k,
        v,
        key_cache,
        value_cache,
        slot_mapping,
        pos if offs is None else pos + offs,
        cos.reshape(cos.shape[0], -1),
        sin.reshape(sin.shape[0], -1),
        is_neox,
        k_scale=_scale(key_cache, k_scale) if apply_scale else None,
        v_scale=_scale(key_cache, v_scale) if apply_scale else None,
        cache_dtype=_holds(key_cache),
        q_out=q_out,
        k_out=k_out,
    )
    results = q_out, k_out, key_cache, value_cache
    if output_zeros:
        results += (torch.zeros_like(q) if zeros_out is None else zeros_out.zero_(),)
    return results
