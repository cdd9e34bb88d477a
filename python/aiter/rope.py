"""Rotary position embedding."""

from __future__ import annotations

from . import _aiter

__all__ = ["rotary_embedding_fwd"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayLike, ArrayT, Stream


def rotary_embedding_fwd(
    positions: ArrayLike,
    query: ArrayT,
    key: ArrayT | None,
    head_size: int,
    cos_cache: ArrayLike,
    sin_cache: ArrayLike,
    is_neox: bool,
    is_nope_first: bool = False,
    *,
    out: ArrayT | tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """Turn the pairs (a, b) of each head by its token's position: (a cos - b sin, b cos + a sin).

    The first R dimensions of a head turn (the last R with is_nope_first), R being twice the width
    of the caches and at most head_size; the rest is copied.

    positions: (...) int32 or int64, each in [0, max_position).
    query: (..., heads * head_size) or (..., heads, head_size), bf16, f16 or f32; the last stride is
        1, tokens and heads may be strided, so that slices of a fused QKV tensor work.
    key: the same with its own number of heads, or None.
    head_size: may be 0 where heads are a dimension of their own.
    cos_cache, sin_cache: (max_position, R/2) or (max_position, 1, 1, R/2), of query's dtype or f32.
    is_neox: pairs are (i, i + R/2); otherwise (2 i, 2 i + 1), the GPT-J style.
    out: (query_out, key_out), or query_out alone when key is None; out=(query, key) is in place.
    Returns (query, key) turned, or the query alone when key is None. Raises ValueError on a wrong
    shape, dtype or stride and, on the CPU, on a position outside of the caches.
    Source: AITER rotary_embedding_fwd, which is always in place.
    """
    if key is None:
        query_out, key_out = out, None
    else:
        query_out, key_out = (None, None) if out is None else out
    return _aiter.rotary_embedding(
        positions,
        query,
        key,
        head_size,
        cos_cache,
        sin_cache,
        not is_neox,
        bool(is_nope_first),
        query_out,
        key_out,
        stream,
    )
