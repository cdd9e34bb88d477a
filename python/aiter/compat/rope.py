"""AITER's rotary embedding where its signatures are not aiter's: in place, or outputs first."""

import aiter as _aiter

__all__ = [
    "RoPE",
    "RoPE2D",
    "RoPECached",
    "RoPETHD",
    "batched_rotary_embedding",
    "get_rope",
    "rope_fwd_3d",
    "rotary_embedding_fwd",
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
