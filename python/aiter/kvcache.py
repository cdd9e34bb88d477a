"""The paged cache of keys and values."""

from __future__ import annotations

from . import _aiter

__all__ = ["reshape_and_cache_flash"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayLike, Stream


def reshape_and_cache_flash(
    key: ArrayLike,
    value: ArrayLike,
    key_cache: ArrayLike,
    value_cache: ArrayLike,
    slot_mapping: ArrayLike,
    kv_cache_dtype: str = "auto",
    k_scale: ArrayLike | None = None,
    v_scale: ArrayLike | None = None,
    *,
    stream: Stream = None,
) -> None:
    """Write the keys and values of new tokens into their slots of the paged cache, in place.

    key_cache[s // block, s % block] = key[t] with s = slot_mapping[t]; value likewise.

    key, value: (tokens, heads, head_dim) f32, f16 or bf16; slices of a fused QKV array will do:
        only the last stride must be 1. value's head_dim may differ.
    key_cache, value_cache: (pages, block, heads, head_dim) of key's dtype, or f16 or bf16 under an
        f32 key (rounded to nearest even); only the last stride must be 1.
    slot_mapping: (n,) int64 or int32, n <= tokens. A negative slot skips its token; one past the
        cache raises ValueError before anything is written.
    kv_cache_dtype: "auto", the dtype of the cache arrays. k_scale, v_scale: None. (Quantized caches
        are not served yet.)

    Returns None: the caches are written in place, and slots that are not named keep their bits.
    That needs arrays that can be written: of NumPy, torch, CuPy or aiter.zeros. A JAX array is
    immutable and is refused; keep the cache in one of the others, or call the C function through
    XLA with donated buffers.
    Source: AITER reshape_and_cache_flash.
    """
    if kv_cache_dtype != "auto":
        raise NotImplementedError(
            f"reshape_and_cache_flash: kv_cache_dtype is {kv_cache_dtype!r}, expected 'auto'"
        )
    _aiter.reshape_and_cache_flash(
        key, value, key_cache, value_cache, slot_mapping, k_scale, v_scale, stream
    )
