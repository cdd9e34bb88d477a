"""AITER's signatures of the paged cache: scales are passed even where the cache holds none."""

import aiter

__all__ = [
    "cat_and_cache_mla",
    "concat_and_cache_mla",
    "concat_and_cache_mla_seg",
    "cp_gather_indexer_k_quant_cache",
    "indexer_k_quant_and_cache",
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
