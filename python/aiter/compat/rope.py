"""AITER's rotary embedding where its signatures are not aiter's: in place, or outputs first."""

import aiter as _aiter

__all__ = [
    "RoPE",
    "RoPE2D",
    "RoPECached",
    "RoPETHD",
    "batched_rotary_embedding",
    "fused_qk_cat",
    "fused_qk_norm_rope_1way",
    "fused_qk_norm_rope_1way_fp8_perhead_quant",
    "fused_qk_norm_rope_2way",
    "fused_qk_norm_rope_2way_fp8_perhead_quant",
    "fused_qk_rope_cat",
    "fused_qkv_split_qk_rope",
    "get_rope",
    "minimax_qk_norm_rope",
    "rope_cached_thd_positions_2c_bwd",
    "rope_cached_thd_positions_2c_fwd",
    "rope_cached_thd_positions_2c_fwd_inplace",
    "rope_cached_thd_positions_offsets_2c_bwd",
    "rope_cached_thd_positions_offsets_2c_fwd",
    "rope_cached_thd_positions_offsets_2c_fwd_inplace",
    "rope_fwd_2d",
    "rope_fwd_2d_inplace",
    "rope_fwd_3d",
    "rotary_embedding_fwd",
    "v_1way_per_head_fp8_quant",
    "v_2way_per_head_fp8_quant",
]


def _pair(query, key):
    return query if key is None else (query, key)


def rotary_embedding_fwd(
    positions, query, key, head_size, cos_cache, sin_cache, is_neox, is_nope_first
):
    """aiter.rotary_embedding_fwd of query and key in place."""
    _aiter.rotary_embedding_fwd(
        positions,
        query,
        key,
        head_size,
        cos_cache,
        sin_cache,
        is_neox,
        is_nope_first,
        out=_pair(query, key),
    )


def batched_rotary_embedding(
    positions,
    query,
    key,
    head_size,
    cos_cache,
    sin_cache,
    is_neox,
    is_nope_first,
    rot_dim,
    cos_sin_cache_offsets,
):
    """aiter.batched_rotary_embedding of query and key in place."""
    _aiter.batched_rotary_embedding(
        positions,
        query,
        key,
        head_size,
        cos_cache,
        sin_cache,
        is_neox,
        is_nope_first,
        rot_dim,
        cos_sin_cache_offsets,
        out=_pair(query, key),
    )


def rope_fwd_3d(x, grid_sizes, freqs, sp_size, sp_rank):
    """aiter.rope_fwd_3d with a result in f32."""
    return _aiter.rope_fwd_3d(x.float(), grid_sizes, freqs, sp_size, sp_rank)


def fused_qk_norm_rope_1way(
    q,
    k,
    w_q,
    w_k,
    cos_sin,
    batch_size,
    num_tokens,
    num_heads_q,
    num_heads_k,
    head_size,
    is_interleaved,
    eps,
    out_q,
    out_k,
):
    """aiter.fused_qk_norm_rope_1way into out_q and out_k."""
    shape = batch_size, num_tokens, -1, head_size
    heads = [x.view(shape) for x in (q, k, out_q, out_k)]
    table = cos_sin.view(num_tokens, -1)
    _aiter.fused_qk_norm_rope_1way(
        *heads[:2], w_q, w_k, table, is_interleaved, eps, out=tuple(heads[2:])
    )


def fused_qk_norm_rope_2way(
    q0,
    k0,
    q1,
    k1,
    w_q0,
    w_k0,
    w_q1,
    w_k1,
    cos_sin0,
    cos_sin1,
    batch_size,
    num_tokens0,
    num_tokens1,
    num_heads_q,
    num_heads_k,
    head_size,
    is_interleaved,
    eps,
    out_q01,
    out_k01,
):
    """aiter.fused_qk_norm_rope_1way of two streams, whose tokens follow each other in the results."""
    outs = [
        x.view(batch_size, num_tokens0 + num_tokens1, -1, head_size) for x in (out_q01, out_k01)
    ]
    streams = (
        (q0, k0, w_q0, w_k0, cos_sin0, num_tokens0, 0),
        (q1, k1, w_q1, w_k1, cos_sin1, num_tokens1, num_tokens0),
    )
    for q, k, w_q, w_k, cos_sin, tokens, first in streams:
        q, k = (x.view(batch_size, tokens, -1, head_size) for x in (q, k))
        table = cos_sin.view(tokens, -1)
        out = tuple(x[:, first : first + tokens] for x in outs)
        _aiter.fused_qk_norm_rope_1way(q, k, w_q, w_k, table, is_interleaved, eps, out=out)


def _per_head(x):
    """Codes of x (batch, tokens, heads, dim), of the type that the device multiplies, with a scale for
    each head of a batch: (codes, scales (batch, heads))."""
    from .dtypes import fp8

    batch, tokens, heads, dim = x.shape
    codes, scales = _aiter.quantize(
        x.transpose(1, 2).reshape(-1, dim), (tokens, 0), str(fp8).removeprefix("torch.")
    )
    codes = codes.view(batch, heads, tokens, dim).transpose(1, 2).contiguous()
    return codes, scales.view(batch, heads)


def v_1way_per_head_fp8_quant(v):
    """v: (batch, tokens, heads, dim). Returns (codes, scales (batch, heads))."""
    return _per_head(v)


def v_2way_per_head_fp8_quant(v0, v1):
    """The same for two streams, whose tokens follow each other in the codes."""
    import torch

    return _per_head(torch.cat((v0, v1), 1))


def _quantized_heads(function, inputs, shapes, outs):
    """(q_fp8, k_fp8, q_descale, k_descale, q, k), with empty q and k unless one is asked for."""
    import torch

    like = {"dtype": inputs[0].dtype, "device": inputs[0].device}
    results = [
        torch.empty(shape, **like) if out is None else out.view(shape)
        for shape, out in zip(shapes, outs, strict=True)
    ]
    function(*inputs, *results)
    (q, q_scale), (k, k_scale) = map(_per_head, results)
    if outs[0] is None and outs[1] is None:
        results = [torch.empty(0, **like) for _ in results]
    return q, k, q_scale, k_scale, *results


def fused_qk_norm_rope_1way_fp8_perhead_quant(
    q,
    k,
    w_q,
    w_k,
    cos_sin,
    batch_size,
    num_tokens,
    num_heads_q,
    num_heads_k,
    head_size,
    is_interleaved,
    eps,
    out_q=None,
    out_k=None,
):
    """fused_qk_norm_rope_1way, and codes of its results with a scale for each head of a batch."""
    sizes = batch_size, num_tokens, num_heads_q, num_heads_k, head_size
    shapes = [(batch_size, num_tokens, heads, head_size) for heads in (num_heads_q, num_heads_k)]
    inputs = q, k, w_q, w_k, cos_sin, *sizes, is_interleaved, eps
    return _quantized_heads(fused_qk_norm_rope_1way, inputs, shapes, (out_q, out_k))


def fused_qk_norm_rope_2way_fp8_perhead_quant(
    q0,
    k0,
    q1,
    k1,
    w_q0,
    w_k0,
    w_q1,
    w_k1,
    cos_sin0,
    cos_sin1,
    batch_size,
    num_tokens0,
    num_tokens1,
    num_heads_q,
    num_heads_k,
    head_size,
    is_interleaved,
    eps,
    out_q01=None,
    out_k01=None,
):
    """The same for fused_qk_norm_rope_2way."""
    sizes = batch_size, num_tokens0, num_tokens1, num_heads_q, num_heads_k, head_size
    tokens = num_tokens0 + num_tokens1
    shapes = [(batch_size, tokens, heads, head_size) for heads in (num_heads_q, num_heads_k)]
    weights = w_q0, w_k0, w_q1, w_k1
    inputs = q0, k0, q1, k1, *weights, cos_sin0, cos_sin1, *sizes, is_interleaved, eps
    return _quantized_heads(fused_qk_norm_rope_2way, inputs, shapes, (out_q01, out_k01))


def minimax_qk_norm_rope(
    qkv,
    q_weight,
    k_weight,
    cos_sin_cache,
    positions,
    *,
    num_heads_q,
    num_heads_k,
    head_dim,
    rotary_dim,
    eps,
    is_neox_style,
    q_out=None,
    k_out=None,
    v_out=None,
):
    """The norm is of all heads of q, and of k, together. Returns (q_out, k_out, v_out)."""
    import torch

    sizes = [n * head_dim for n in (num_heads_q, num_heads_k, num_heads_k)]
    parts = qkv.split(sizes, -1)
    outs = [
        torch.empty(len(qkv), size, dtype=qkv.dtype, device=qkv.device) if out is None else out
        for size, out in zip(sizes, (q_out, k_out, v_out), strict=True)
    ]
    for x, weight, out in zip(parts, (q_weight, k_weight), outs, strict=False):
        _aiter.rms_norm(x, weight, eps, out=out)
    cos, sin = cos_sin_cache.view(-1, rotary_dim).chunk(2, -1)
    q, k = (x.view(len(qkv), -1, head_dim) for x in outs[:2])
    _aiter.rotary_embedding_fwd(positions, q, k, 0, cos, sin, is_neox_style, out=(q, k))
    outs[2].copy_(parts[2])
    return tuple(outs)


def fused_qkv_split_qk_rope(
    qkv,
    cos,
    sin,
    positions,
    qh,
    kvh,
    head_dim,
    is_neox=True,
    offsets=None,
    reuse_freqs_front_part=True,
    nope_first=False,
):
    """q and k of a fused QKV tensor, turned, and v."""
    q, k, v = qkv.view(len(qkv), -1, head_dim).split([qh, kvh, kvh], dim=1)
    options = (0 if is_neox else 1, reuse_freqs_front_part, nope_first)
    if positions is None:
        q, k = _aiter.rope_cached_2c_fwd(q[:, None], k[:, None], cos, sin, *options)
        return q[:, 0], k[:, 0], v.contiguous()
    name = "rope_cached_positions_2c_fwd"
    rows = [positions[None]]
    if offsets is not None:
        name = "rope_cached_positions_offsets_2c_fwd"
        rows.append(offsets[None])
    q, k = getattr(_aiter, name)(q[None], k[None], cos, sin, *rows, *options)
    return q[0], k[0], v.contiguous()


def _of_packed_tokens(function, x, y, cos, sin, rows, options):
    """A function of (S, B, H, D) with positions (S, B), on tokens (T, H, D) as one sequence each."""
    rows = [row[None] for row in rows]
    x, y = function(x[None], y[None], cos, sin, *rows, *options)
    return x[0], y[0]


def rope_cached_thd_positions_2c_fwd(
    x, y, cos, sin, positions, rotate_style, reuse_freqs_front_part, nope_first,
    transpose_output=False,
):  # fmt: skip
    options = rotate_style, reuse_freqs_front_part, nope_first
    return _of_packed_tokens(
        _aiter.rope_cached_positions_2c_fwd, x, y, cos, sin, [positions], options
    )


def rope_cached_thd_positions_2c_fwd_inplace(
    x, y, cos, sin, positions, rotate_style, reuse_freqs_front_part, nope_first,
    transpose_output=False,
):  # fmt: skip
    options = rotate_style, reuse_freqs_front_part, nope_first
    _of_packed_tokens(
        _aiter.rope_cached_positions_2c_fwd_inplace, x, y, cos, sin, [positions], options
    )
    return x, y


def rope_cached_thd_positions_offsets_2c_fwd(
    x, y, cos, sin, positions, offsets, rotate_style, reuse_freqs_front_part, nope_first,
    transpose_output=False,
):  # fmt: skip
    options = rotate_style, reuse_freqs_front_part, nope_first
    rows = [positions, offsets]
    return _of_packed_tokens(
        _aiter.rope_cached_positions_offsets_2c_fwd, x, y, cos, sin, rows, options
    )


def rope_cached_thd_positions_offsets_2c_fwd_inplace(
    x, y, cos, sin, positions, offsets, rotate_style, reuse_freqs_front_part, nope_first,
    transpose_output=False,
):  # fmt: skip
    options = rotate_style, reuse_freqs_front_part, nope_first
    rows = [positions, offsets]
    _of_packed_tokens(
        _aiter.rope_cached_positions_offsets_2c_fwd_inplace, x, y, cos, sin, rows, options
    )
    return x, y


def rope_cached_thd_positions_2c_bwd(
    x, y, cos, sin, positions, rotate_style, reuse_freqs_front_part, nope_first,
    transpose_output=False,
):  # fmt: skip
    options = rotate_style, reuse_freqs_front_part, nope_first
    return _of_packed_tokens(
        _aiter.rope_cached_positions_2c_bwd, x, y, cos, sin, [positions], options
    )


def rope_cached_thd_positions_offsets_2c_bwd(
    x, y, cos, sin, positions, offsets, rotate_style, reuse_freqs_front_part, nope_first,
    transpose_output=False,
):  # fmt: skip
    options = rotate_style, reuse_freqs_front_part, nope_first
    rows = [positions, offsets]
    return _of_packed_tokens(
        _aiter.rope_cached_positions_offsets_2c_bwd, x, y, cos, sin, rows, options
    )


def rope_fwd_2d(
    x, cos_h, sin_h, cos_w, sin_w, img_height, img_width, rotate_style, reuse_freqs_front_part,
    nope_first, transpose_output=False,
):  # fmt: skip
    return _aiter.rope_2d_fwd(x, cos_h, sin_h, cos_w, sin_w, img_height, img_width, rotate_style,
                              reuse_freqs_front_part, nope_first)  # fmt: skip


def rope_fwd_2d_inplace(
    x, cos_h, sin_h, cos_w, sin_w, img_height, img_width, rotate_style, reuse_freqs_front_part,
    nope_first, transpose_output=False,
):  # fmt: skip
    return _aiter.rope_2d_fwd_inplace(x, cos_h, sin_h, cos_w, sin_w, img_height, img_width,
                                      rotate_style, reuse_freqs_front_part, nope_first)  # fmt: skip


def fused_qk_cat(q1, q2, k1, k2):
    """q1 and q2, and k1 and k2, side by side."""
    import torch

    return torch.cat((q1, q2), -1), torch.cat((k1, k2), -1)


def fused_qk_rope_cat(q_nope, q_pe, k_nope, k_pe, pos, cos, sin, is_neox):
    """q_nope and q_pe, turned, side by side; k likewise."""
    reuse = cos.shape[-1] == q_pe.shape[-1] // 2
    q_pe, k_pe = _aiter.rope_cached_positions_2c_fwd(
        q_pe[None], k_pe[None], cos, sin, pos[None], 0 if is_neox else 1, reuse, False
    )
    return fused_qk_cat(q_nope, q_pe[0], k_nope, k_pe[0])


class _InPlace:
    """A rotary embedding that turns query and key where they lie, and returns them."""

    def __init__(self, embedding):
        self._embedding = embedding

    def __getattr__(self, name):
        return getattr(self._embedding, name)

    def __call__(self, positions, query, key=None, *args, **kwargs):
        return self._embedding(positions, query, key, *args, out=_pair(query, key), **kwargs)

    forward = forward_hip = __call__


def get_rope(*args, **kwargs):
    """aiter.get_rope, whose embedding works in place (dual chunks apart, which have more queries)."""
    embedding = _aiter.get_rope(*args, **kwargs)
    dual = isinstance(embedding, _aiter.DualChunkRotaryEmbedding)
    return embedding if dual else _InPlace(embedding)


def _output_first(name, inputs):
    """name_impl(outputs..., inputs..., tables and options...)"""
    function = getattr(_aiter, name)

    def impl(*args):
        outputs = args[0] if inputs == 1 else args[:inputs]
        function(*args[inputs:], out=outputs)

    impl.__name__ = impl.__qualname__ = name + "_impl"
    impl.__doc__ = f"aiter.{name} into its first argument{'s' if inputs > 1 else ''}."
    return impl


for _name in _aiter.rope.__all__:
    if _name.startswith("rope_") and _name.endswith(("_fwd", "_bwd")):
        globals()[_name + "_impl"] = _output_first(_name, 2 if "_2c_" in _name else 1)
        __all__.append(_name + "_impl")


def _autograd(function):
    """A stand-in for AITER's torch.autograd.Function: a class with `apply`."""

    def apply(*args):
        from aiter.autograd import torch as differentiable

        return getattr(differentiable, function)(*args)

    return staticmethod(apply)


class RoPE:
    """RoPE.apply(x, freqs, rotate_style, reuse_freqs_front_part, nope_first, transpose_output)"""

    apply = _autograd("rope_fwd")


class RoPECached:
    """RoPECached.apply(x, cos, sin, rotate_style, reuse_freqs_front_part, nope_first, ...)"""

    apply = _autograd("rope_cached_fwd")


class RoPETHD:
    """RoPETHD.apply(x, cu_seqlens, freqs, rotate_style, reuse_freqs_front_part, nope_first)"""

    apply = _autograd("rope_thd_fwd")


class RoPE2D:
    """RoPE2D.apply(x, cos_h, sin_h, cos_w, sin_w, height, width, rotate_style, ...)"""

    apply = _autograd("rope_2d_fwd")
