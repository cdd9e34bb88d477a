"""AITER's signatures of the paged cache: scales are passed even where the cache holds none."""

import aiter

from .quant import _name

__all__ = [
    "cat_and_cache_mla",
    "concat_and_cache_mla",
    "concat_and_cache_mla_seg",
    "cp_gather_indexer_k_quant_cache",
    "fused_compress_attn",
    "fused_kv_norm_rope_group_quant",
    "fused_qk_norm_mrope_3d_cache_pts_quant_shuffle",
    "fused_qk_norm_rope_cache_block_quant_shuffle",
    "fused_qk_norm_rope_cache_pts_quant_shuffle",
    "fused_qk_norm_rope_cache_quant_shuffle",
    "fused_qk_norm_rope_group_quant",
    "fused_qk_rope_cat_and_cache_mla",
    "fused_qk_rope_concat_and_cache_mla",
    "fused_qk_rope_concat_and_cache_mla_seg",
    "fused_qk_rope_cosine_cache_llama",
    "fused_qk_rope_reshape_and_cache",
    "fused_qknorm_idxrqknorm",
    "fused_qkv_split_qk_norm_rope_cache",
    "fused_reduce_qk_norm_rope_swa_write",
    "indexer_k_quant_and_cache",
    "indexer_qk_rope_quant_and_cache",
    "inverse_rope_group_quant",
    "ragged_layout_trans",
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
    """uint8 caches hold NVFP4. Its codes are those of the rounded scale, as of dynamic_nvfp4_quant."""
    nvfp4 = "uint8" in str(kv_cache.dtype)
    aiter.cat_and_cache_mla(
        k_nope,
        k_pe,
        kv_cache,
        slot_mapping,
        k_scale if nvfp4 else _scale(kv_cache, k_scale),
        apply_scale,
        shuffled_kv_cache,
        cache_dtype="float4_e2m1fnx2" if nvfp4 else None,
    )


def fused_qk_rope_cat_and_cache_mla(
    q_nope,
    q_pe,
    k_nope,
    k_pe,
    kv_cache,
    slot_mapping,
    pos,
    cos,
    sin,
    k_scale,
    is_neox,
    num_decode_toks_for_zeros=0,
    apply_scale=True,
    q_out=None,
    decode_q_pe_out=None,
    k_pe_out=None,
    q_out_dtype=None,
    shuffled_kv_cache=False,
    upcast_operand=False,
):
    """Returns (q_out, decode_q_pe_out, k_pe_out, q_nope_zeros_out). k_pe of the tokens past q's has been
    turned before. The arithmetic is in fp32 whatever upcast_operand."""
    import torch

    tokens, decode, slots = len(q_nope), num_decode_toks_for_zeros, len(slot_mapping)
    cos, sin, reuse = _cos_sin(cos, sin, q_pe.shape[-1])
    k_pe_out = torch.empty_like(k_pe) if k_pe_out is None else k_pe_out
    turned, _ = aiter.rope_cached_positions_2c_fwd(
        q_pe[None], k_pe[None, :tokens], cos, sin, pos[None, :tokens], 0 if is_neox else 1, reuse,
        False, out=(torch.empty_like(q_pe)[None], k_pe_out[None, :tokens]),
    )  # fmt: skip
    k_pe_out[tokens:].copy_(k_pe[tokens:])
    if q_out is None:
        shape = *q_nope.shape[:-1], q_nope.shape[-1] + q_pe.shape[-1]
        q_out = q_nope.new_empty(shape, dtype=q_out_dtype or q_nope.dtype)
    q_out[..., : q_nope.shape[-1]].copy_(q_nope)
    q_out[..., q_nope.shape[-1] :].copy_(turned[0])
    if decode_q_pe_out is None:
        decode_q_pe_out = q_pe.new_empty(decode, *q_pe.shape[1:])
    decode_q_pe_out.copy_(turned[0, :decode])
    cat_and_cache_mla(k_nope[:slots], k_pe_out[:slots], kv_cache, slot_mapping, k_scale,
                      apply_scale, shuffled_kv_cache)  # fmt: skip
    return q_out, decode_q_pe_out, k_pe_out, q_nope.new_zeros(decode, *q_nope.shape[1:])


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


def _cos_sin(cos, sin, head_dim):
    """Tables of one row a position, and whether they have one column for both of a pair."""
    cos, sin = (t.reshape(t.shape[0], -1) for t in (cos, sin))
    return cos, sin, 2 * cos.shape[-1] <= head_dim


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
    cos, sin, reuse = _cos_sin(cos, sin, q.shape[-1])
    q_out = aiter.fused_qk_rope_reshape_and_cache(
        q,
        k,
        v,
        key_cache,
        value_cache,
        slot_mapping[: len(q)],
        pos if offs is None else pos + offs,
        cos,
        sin,
        is_neox,
        reuse_freqs_front_part=reuse,
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


def fused_qk_rope_cosine_cache_llama(
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
):
    """fused_qk_rope_reshape_and_cache that returns (q_out, key_cache, value_cache)."""
    cos, sin, reuse = _cos_sin(cos, sin, q.shape[-1])
    q_out = aiter.fused_qk_rope_reshape_and_cache(
        q,
        k,
        v,
        key_cache,
        value_cache,
        slot_mapping[: len(q)],
        pos if offs is None else pos + offs,
        cos,
        sin,
        is_neox,
        reuse_freqs_front_part=reuse,
        k_scale=_scale(key_cache, k_scale) if apply_scale else None,
        v_scale=_scale(key_cache, v_scale) if apply_scale else None,
        cache_dtype=_holds(key_cache),
        q_out=q_out,
    )
    return q_out, key_cache, value_cache


def _shuffled(name, q, k, v, heads, head_dim, v_cache, k_cache, kv_cache_dtype, *args):
    tokens = len(q)
    q, k, v = (x.view(tokens, n, head_dim) for x, n in zip((q, k, v), heads, strict=True))
    eps, qw, kw, cos_sin_cache, is_neox_style, pos_ids, slot_mapping, *scales = args
    getattr(aiter, name)(
        q,
        k,
        v,
        eps,
        qw,
        kw,
        cos_sin_cache.view(-1, cos_sin_cache.shape[-1]),
        is_neox_style,
        pos_ids,
        k_cache,
        _values(k_cache, v_cache, True),
        slot_mapping,
        _holds(k_cache, None if kv_cache_dtype == "auto" else kv_cache_dtype) or "auto",
        *scales,
        out=(q, k),
    )


def fused_qk_norm_rope_cache_quant_shuffle(
    q,
    k,
    v,
    num_heads_q,
    num_heads_k,
    num_heads_v,
    head_dim,
    eps,
    qw,
    kw,
    cos_sin_cache,
    is_neox_style,
    pos_ids,
    k_cache,
    v_cache,
    slot_mapping,
    kv_cache_dtype,
    k_scale,
    v_scale,
):
    """q and k are normalized and turned in place; the values' cache is in the asm layout, whatever
    its shape. Scales: (pages, heads, block), written."""
    if kv_cache_dtype != "auto":
        pages, heads, _, block, _ = k_cache.shape
        k_scale, v_scale = (s.view(pages, heads, block) for s in (k_scale, v_scale))
    _shuffled(
        "fused_qk_norm_rope_cache_quant_shuffle",
        q,
        k,
        v,
        (num_heads_q, num_heads_k, num_heads_v),
        head_dim,
        v_cache,
        k_cache,
        kv_cache_dtype,
        eps,
        qw,
        kw,
        cos_sin_cache,
        is_neox_style,
        pos_ids,
        slot_mapping,
        k_scale,
        v_scale,
    )


def fused_qk_norm_rope_cache_block_quant_shuffle(
    qkv,
    num_heads_q,
    num_heads_k,
    num_heads_v,
    head_dim,
    eps,
    qw,
    kw,
    cos_sin_cache,
    is_neox_style,
    pos_ids,
    k_cache,
    v_cache,
    slot_mapping,
    cu_q_len,
    kv_cache_dtype,
    k_scale,
    v_scale,
    max_tokens_per_batch=0,
):
    """q and k are normalized and turned in place in qkv. Scales: (pages, heads), updated. Pages are
    found from slot_mapping, without cu_q_len."""
    heads = num_heads_q, num_heads_k, num_heads_v
    qkv = qkv.view(-1, sum(heads) * head_dim).view(-1, sum(heads), head_dim)
    q, k, v = qkv.split(heads, 1)
    if kv_cache_dtype != "auto":
        k_scale, v_scale = k_scale.view(-1, num_heads_k).T, v_scale.view(-1, num_heads_v).T
    _shuffled(
        "fused_qk_norm_rope_cache_block_quant_shuffle",
        q,
        k,
        v,
        heads,
        head_dim,
        v_cache,
        k_cache,
        kv_cache_dtype,
        eps,
        qw,
        kw,
        cos_sin_cache,
        is_neox_style,
        pos_ids,
        slot_mapping,
        k_scale,
        v_scale,
    )


def _pts(
    qkv,
    qw,
    kw,
    cos_sin,
    positions,
    num_tokens,
    num_heads_q,
    num_heads_k,
    num_heads_v,
    head_size,
    is_neox_style,
    eps,
    q_out,
    k_cache,
    v_cache,
    slot_mapping,
    per_tensor_k_scale,
    per_tensor_v_scale,
    k_out,
    v_out,
    return_kv,
    use_shuffle_layout,
    block_size,
    x,
    rotary_dim,
    **mrope,
):
    heads = num_heads_q, num_heads_k, num_heads_v
    if use_shuffle_layout:
        if k_cache.ndim != 5:
            k_cache = k_cache.view(-1, num_heads_k, head_size // x, block_size, x)
        if v_cache.ndim != 5:
            v_cache = v_cache.view(-1, num_heads_v, block_size // x, head_size, x)

    def rows(out, n):
        return out.view(num_tokens, n, head_size) if return_kv and out is not None else None

    scales = (s.reshape(-1).to(qkv.device) for s in (per_tensor_k_scale, per_tensor_v_scale))
    aiter.fused_qk_norm_rope_cache_pts_quant_shuffle(
        qkv.view(num_tokens, sum(heads) * head_size),
        qw,
        kw,
        cos_sin.view(-1, rotary_dim or head_size),
        positions,
        *heads,
        head_size,
        is_neox_style,
        eps,
        k_cache,
        v_cache,
        slot_mapping,
        *scales,
        cache_dtype=_holds(k_cache),
        q_out=q_out.view(num_tokens, num_heads_q, head_size),
        k_out=rows(k_out, num_heads_k),
        v_out=rows(v_out, num_heads_v),
        **mrope,
    )


def fused_qk_norm_rope_cache_pts_quant_shuffle(
    qkv,
    qw,
    kw,
    cos_sin,
    positions,
    num_tokens,
    num_heads_q,
    num_heads_k,
    num_heads_v,
    head_size,
    is_neox_style,
    eps,
    q_out,
    k_cache,
    v_cache,
    slot_mapping,
    per_tensor_k_scale,
    per_tensor_v_scale,
    k_out,
    v_out,
    return_kv,
    use_shuffle_layout,
    block_size,
    x,
    rotary_dim=0,
):
    """q_out, and with return_kv k_out and v_out (of the caches' dtype), are written. With
    use_shuffle_layout the caches are in the asm layout, with pages of block_size."""
    _pts(
        qkv,
        qw,
        kw,
        cos_sin,
        positions,
        num_tokens,
        num_heads_q,
        num_heads_k,
        num_heads_v,
        head_size,
        is_neox_style,
        eps,
        q_out,
        k_cache,
        v_cache,
        slot_mapping,
        per_tensor_k_scale,
        per_tensor_v_scale,
        k_out,
        v_out,
        return_kv,
        use_shuffle_layout,
        block_size,
        x,
        rotary_dim,
    )


def fused_qk_norm_mrope_3d_cache_pts_quant_shuffle(
    qkv,
    qw,
    kw,
    cos_sin,
    positions,
    num_tokens,
    num_heads_q,
    num_heads_k,
    num_heads_v,
    head_size,
    is_neox_style,
    mrope_section_,
    is_interleaved,
    eps,
    q_out,
    k_cache,
    v_cache,
    slot_mapping,
    per_tensor_k_scale,
    per_tensor_v_scale,
    k_out,
    v_out,
    return_kv,
    use_shuffle_layout,
    block_size,
    x,
    rotary_dim=0,
    gemma_norm=False,
):
    """The same with positions (3, num_tokens)."""
    _pts(
        qkv,
        qw,
        kw,
        cos_sin,
        positions,
        num_tokens,
        num_heads_q,
        num_heads_k,
        num_heads_v,
        head_size,
        is_neox_style,
        eps,
        q_out,
        k_cache,
        v_cache,
        slot_mapping,
        per_tensor_k_scale,
        per_tensor_v_scale,
        k_out,
        v_out,
        return_kv,
        use_shuffle_layout,
        block_size,
        x,
        rotary_dim,
        mrope_section=mrope_section_,
        mrope_interleaved=is_interleaved,
        gemma_norm=gemma_norm,
    )


def fused_qkv_split_qk_norm_rope_cache(
    qkv,
    q_weight,
    k_weight,
    cos,
    sin,
    positions,
    key_cache,
    value_cache,
    slot_mapping,
    qh,
    kvh,
    head_dim,
    is_neox=True,
    offsets=None,
    reuse_freqs_front_part=True,
    attn_output_gate=False,
    k_scale=None,
    v_scale=None,
    eps=1e-5,
    gated_qkv_layout="interleaved",
    kv_cache_layout="HND",
):
    """Returns (q, k, v), or (q, gate, k, v). Scales divide what goes to caches of floats, too."""
    import torch

    layout = kv_cache_layout.upper()
    if layout not in ("HND", "NHD"):
        raise ValueError(
            f"fused_qkv_split_qk_norm_rope_cache: kv_cache_layout is {kv_cache_layout!r}, expected "
            "'HND' or 'NHD'"
        )
    if layout == "HND":
        key_cache, value_cache = (c.transpose(1, 2) for c in (key_cache, value_cache))
    cos, sin = (t.reshape(t.shape[0], -1) for t in (cos, sin))
    k_out = torch.empty(len(qkv), kvh, head_dim, dtype=qkv.dtype, device=qkv.device)
    *results, _, v = aiter.fused_qkv_split_qk_norm_rope_cache(
        qkv,
        q_weight,
        k_weight,
        cos,
        sin,
        positions if offsets is None else positions + offsets,
        key_cache,
        value_cache,
        slot_mapping,
        qh,
        kvh,
        head_dim,
        is_neox,
        reuse_freqs_front_part,
        attn_output_gate,
        _scale(key_cache, k_scale),
        _scale(key_cache, v_scale),
        eps,
        gated_qkv_layout,
        cache_dtype=_holds(key_cache),
        k_out=k_out,
    )
    if key_cache.element_size() > 1 and (k_scale is not None or v_scale is not None):
        scaled = (x if s is None else x / s for x, s in ((k_out, k_scale), (v, v_scale)))
        rows = (x.to(qkv.dtype) for x in scaled)
        aiter.reshape_and_cache_flash(*rows, key_cache, value_cache, slot_mapping)
    return (*(x.contiguous() for x in results), k_out, v.contiguous())


def inverse_rope_group_quant(
    o,
    positions,
    cos_cache,
    sin_cache,
    num_groups,
    quant_group_size=128,
    scale_layout="row",
    x_fp8=None,
    x_scale=None,
):
    """Codes of the type that the device multiplies. Either result may be given."""
    import torch

    from .dtypes import fp8

    if x_fp8 is None:
        x_fp8 = torch.empty(
            len(o), num_groups, o.shape[1] * o.shape[2] // num_groups, dtype=fp8, device=o.device
        )
    return aiter.inverse_rope_group_quant(
        o,
        positions,
        cos_cache,
        sin_cache,
        num_groups,
        quant_group_size,
        scale_layout,
        quant_dtype=str(x_fp8.dtype).removeprefix("torch."),
        out=(x_fp8, x_scale),
    )


def ragged_layout_trans(kv_indptr, kv_indices, k_buffer, v_buffer):
    """Rows kv_indices of k_buffer and v_buffer, (slots, heads, dim), for the tokens of all sequences."""
    tokens = int(kv_indptr[-1])
    return aiter.gather_cache(
        k_buffer[:, None],
        v_buffer[:, None],
        kv_indices[None, :tokens],
        kv_indptr[[0, -1]],
        tokens,
    )


def _check_e8m0(name, scale_dtype):
    if scale_dtype != "e8m0":
        raise NotImplementedError(f"{name}: scale_dtype is {scale_dtype!r}, expected 'e8m0'")


def fused_kv_norm_rope_group_quant(
    kv,
    kv_weight,
    positions,
    slot_mapping,
    cos_cache,
    sin_cache,
    eps,
    k_nope_scale_buff,
    k_rope_buff,
    is_neox=False,
    quant_group_size=64,
    scale_dtype="e8m0",
):
    """Rows of both caches, (pages, block, bytes) and (pages, block, R); a negative slot skips its
    token."""
    _check_e8m0("fused_kv_norm_rope_group_quant", scale_dtype)
    aiter.fused_kv_norm_rope_group_quant(
        kv.view(len(kv), kv.shape[-1]),
        kv_weight,
        positions,
        slot_mapping,
        cos_cache,
        sin_cache,
        eps,
        k_nope_scale_buff,
        k_rope_buff,
        is_neox,
        quant_group_size,
        cache_dtype=_name(k_nope_scale_buff.dtype),
    )
    return k_nope_scale_buff, k_rope_buff


def fused_qk_norm_rope_group_quant(
    q,
    kv,
    k_weight,
    positions,
    cos_cache,
    sin_cache,
    eps,
    is_neox=False,
    q_out_dtype=None,
    q_nope_scale_buff=None,
    q_rope_buff=None,
    k_nope_scale_buff=None,
    k_rope_buff=None,
    q_weight=None,
    quant_group_size=64,
    scale_dtype="e8m0",
    swa_nope_scale_buff=None,
    swa_rope_buff=None,
    swa_block_tables=None,
    swa_dest_row=None,
    swa_block_size=None,
    batch_id_per_token=None,
):
    """Returns (q_nope_scale_buff, q_rope_buff or None, k_nope_scale_buff, k_rope_buff). Groups of k are of
    64 dims. The rows of the window are written, too; a batch id below 0 skips its token."""
    import torch

    from .dtypes import fp8

    _check_e8m0("fused_qk_norm_rope_group_quant", scale_dtype)
    rope = 2 * cos_cache.shape[-1]
    if q_nope_scale_buff is None:
        q_nope_scale_buff = torch.empty(q.shape, dtype=q_out_dtype or q.dtype, device=q.device)
    if q_nope_scale_buff.element_size() > 1:
        q_rope_buff = None
    elif q_rope_buff is None:
        q_rope_buff = torch.empty(*q.shape[:2], rope, dtype=kv.dtype, device=q.device)
    rows = kv.view(len(kv), kv.shape[-1])
    if k_nope_scale_buff is None:
        k_nope_scale_buff = torch.empty(len(kv), 1, kv.shape[-1], dtype=fp8, device=kv.device)
    if k_rope_buff is None:
        k_rope_buff = torch.empty(len(kv), 1, rope, dtype=kv.dtype, device=kv.device)
    if swa_dest_row is not None and batch_id_per_token is not None:
        swa_dest_row = torch.where(batch_id_per_token[: len(kv)] < 0, -1, swa_dest_row)
    aiter.fused_qk_norm_rope_group_quant(
        q,
        rows,
        k_weight,
        positions,
        cos_cache,
        sin_cache,
        eps,
        is_neox,
        q_nope_scale_buff.dtype,
        q_weight,
        quant_group_size,
        quant_dtype=_name(k_nope_scale_buff.dtype),
        swa_nope_scale_buff=swa_nope_scale_buff,
        swa_rope_buff=swa_rope_buff,
        swa_dest_row=swa_dest_row,
        swa_block_tables=swa_block_tables,
        swa_block_size=swa_block_size or 1,
        batch_id_per_token=None if swa_block_tables is None else batch_id_per_token[: len(kv)],
        out=(
            q_nope_scale_buff,
            q_rope_buff,
            k_nope_scale_buff.view(rows.shape),
            k_rope_buff.view(len(kv), rope),
        ),
    )
    return q_nope_scale_buff, q_rope_buff, k_nope_scale_buff, k_rope_buff


def fused_reduce_qk_norm_rope_swa_write(
    q,
    kv,
    q_norm_weight,
    kv_norm_weight,
    q_rms_eps,
    kv_rms_eps,
    rope_head_dim,
    cos_cache,
    sin_cache,
    positions,
    q_out=None,
    is_neox=False,
    write_indices=None,
    batch_id_per_token=None,
    state_slot_mapping=None,
    swa_kv=None,
    win=128,
    dtype=None,
):
    """Returns q_out; kv is updated in place. With a window, kv changes for the tokens alone that
    write_indices names."""
    import torch

    writes = None not in (write_indices, batch_id_per_token, state_slot_mapping, swa_kv)
    batches = None
    if writes:
        if swa_kv.shape[1] != win:
            raise ValueError(
                f"fused_reduce_qk_norm_rope_swa_write: win is {win}, expected swa_kv's {swa_kv.shape[1]}"
            )
        # The batch of each token that is named, -1 for the others; unused indices go to one past them.
        tokens = len(kv)
        named = torch.where(write_indices < 0, tokens, write_indices).long()
        known = torch.nn.functional.pad(batch_id_per_token[:tokens], (0, 1), value=-1)
        batches = torch.full_like(known, -1).index_copy_(0, named, known[named])[:tokens]
    q_out, _ = aiter.fused_reduce_qk_norm_rope_swa_write(
        q,
        kv,
        q_norm_weight,
        kv_norm_weight,
        q_rms_eps,
        kv_rms_eps,
        rope_head_dim,
        cos_cache,
        sin_cache,
        positions,
        is_neox,
        batches,
        state_slot_mapping if writes else None,
        swa_kv if writes else None,
        skip_unwritten=writes,
        dtype=dtype or torch.bfloat16,
        out=(q_out, kv),
    )
    return q_out


def fused_compress_attn(
    *,
    kv_in,
    score_in,
    kv_state,
    score_state,
    plan_gpu,
    state_slot_mapping,
    ape,
    rms_weight,
    rms_eps,
    cos_cache,
    sin_cache,
    kv_cache,
    block_tables,
    k_per_block,
    overlap,
    ratio,
    head_dim,
    rope_head_dim,
    quant=False,
    cache_scale=None,
    use_ue8m0=True,
    preshuffle=True,
    quant_mode=None,
    group_quant=False,
    quant_group_size=64,
    k_rope_buff=None,
):
    """The cache, and its scales or turned dims, are written."""
    name = "fused_compress_attn"
    mode = quant_mode or ("group_fp8" if group_quant else "fp8" if quant else "none")
    mode = {"per_row_fp8": "fp8"}.get(mode, mode)
    if head_dim * (1 + bool(overlap)) != kv_in.shape[1] or rope_head_dim != 2 * cos_cache.shape[-1]:
        raise ValueError(
            f"{name}: head_dim and rope_head_dim are {head_dim} and {rope_head_dim}, expected those of "
            "kv_in and cos_cache"
        )
    if mode == "fp4":
        k = head_dim // 128
        shapes = ((-1, k_per_block, head_dim // 2), (-1, k_per_block, head_dim // 32))
        if preshuffle:
            shapes = ((-1, k, 4, k_per_block, 16), (-1, k, 4, k_per_block))
        kv_cache, cache_scale = (
            t.view(shape) for t, shape in zip((kv_cache, cache_scale), shapes, strict=True)
        )
    else:
        kv_cache = kv_cache.view(-1, k_per_block, head_dim)
    aiter.fused_compress_attn(
        kv_in,
        score_in,
        kv_state,
        score_state,
        plan_gpu,
        state_slot_mapping,
        ape,
        rms_weight.float(),
        rms_eps,
        cos_cache,
        sin_cache,
        kv_cache,
        block_tables,
        bool(overlap),
        ratio,
        cache_scale if mode in ("fp8", "fp4") else None,
        use_ue8m0,
        preshuffle,
        mode,
        quant_group_size,
        k_rope_buff if mode == "group_fp8" else None,
    )


def fused_qknorm_idxrqknorm(
    qkv,
    q_norm_weight,
    k_norm_weight,
    cos_sin_cache,
    positions,
    num_heads,
    num_kv_heads,
    rotary_dim,
    eps,
    index_q_norm_weight=None,
    index_k_norm_weight=None,
    num_index_heads=0,
    slot_mapping=None,
    kv_cache_k=None,
    kv_cache_v=None,
    index_cache=None,
    block_size=0,
    q_out=None,
    index_q_out=None,
    index_slot_mapping=None,
    kv_cache_dtype="auto",
    index_cache_dtype=None,
    k_scale=None,
    v_scale=None,
    asm_layout=False,
):
    """Queries and keys, of attention and of its index, by (1 + weight), turned: into q_out and index_q_out
    and the caches, and what has no such place back into qkv. k_scale, v_scale: written for each token
    and head."""
    dim = q_norm_weight.numel()
    parts = [num_heads, num_kv_heads, num_kv_heads]
    parts += [num_index_heads, 1] if num_index_heads else []
    q, k, v, *index = qkv.view(len(qkv), -1, dim).split(parts, 1)
    cos, sin = cos_sin_cache.view(-1, rotary_dim).chunk(2, -1)
    tables = positions[: len(qkv)], cos, sin

    def heads(out, like):
        return like if out is None else out.view(like.shape)

    def turn(q, k, q_weight, k_weight, q_out):
        aiter.fused_qk_norm_rope(
            q, k, None, q_weight, k_weight, cos, sin, tables[0], eps, gemma_norm=True, out=(q_out, k)
        )  # fmt: skip

    if kv_cache_k is None:
        turn(q, k, q_norm_weight, k_norm_weight, heads(q_out, q))
    else:
        aiter.fused_qk_rope_reshape_and_cache(
            q,
            k,
            v,
            kv_cache_k,
            kv_cache_v,
            slot_mapping[: len(qkv)],
            *tables,
            k_scale=k_scale,
            v_scale=v_scale,
            q_weight=q_norm_weight,
            k_weight=k_norm_weight,
            eps=eps,
            gemma_norm=True,
            quant="static" if k_scale is None else "token",
            cache_dtype=_holds(kv_cache_k),
            q_out=heads(q_out, q),
        )
    if not index:
        return
    index_q, index_k = index
    turn(index_q, index_k, index_q_norm_weight, index_k_norm_weight, heads(index_q_out, index_q))
    if index_cache is not None:
        where = slot_mapping if index_slot_mapping is None else index_slot_mapping
        halves = index_k[:, 0].split((dim // 2, dim - dim // 2), -1)
        rows = index_cache.view(-1, 1, dim)
        aiter.concat_and_cache_mla(*halves, rows, where[: len(qkv)], _holds(rows) or "auto")
