"""Problems, data and reference of reshape_and_cache_flash, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

DTYPES = ("bf16", "fp16", "fp32")

CASES = [
    *(Case("smoke", tokens=5, heads=2, head_dim=64, pages=3, block=4, dtype=d) for d in DTYPES),
    *(
        Case("smoke", tokens=5, heads=2, head_dim=64, pages=3, block=4, dtype="fp32", cache=d)
        for d in ("fp16", "bf16")
    ),
    *(
        Case("edge", tokens=6, heads=3, head_dim=d, pages=2, block=5, dtype="fp32", cache="fp16")
        for d in (1, 7, 15, 17, 33)
    ),
    *(
        Case("edge", tokens=9, heads=2, head_dim=8, pages=32 // b, block=b, dtype="bf16")
        for b in (1, 3, 16, 32)
    ),
    *(
        Case("edge", tokens=7, heads=2, head_dim=8, pages=4, block=4, dtype="fp16", slots=s)
        for s in ("int32", "skip", "short")
    ),
    *(
        Case(
            "edge",
            tokens=7,
            heads=2,
            head_dim=8,
            v_dim=5,
            pages=4,
            block=4,
            dtype="bf16",
            layout=layout,
        )
        for layout in ("qkv", "heads_first")
    ),
    Case("edge", tokens=0, heads=2, head_dim=8, pages=4, block=4, dtype="bf16"),
    Case("edge", tokens=3, heads=2, head_dim=0, pages=4, block=4, dtype="bf16"),
    Case("model", tokens=1, heads=3, head_dim=64, pages=128, block=16, dtype="fp32"),
    Case("model", tokens=257, heads=8, head_dim=128, pages=40, block=16, dtype="bf16"),
    *(
        Case("perf", tokens=32768, heads=8, head_dim=128, pages=2048, block=16, dtype=d)
        for d in DTYPES
    ),
    Case("perf", tokens=1, heads=3, head_dim=64, pages=128, block=16, dtype="fp32"),
]


def make(case, seed=0):
    """Arguments (key, value, key_cache, value_cache, slot_mapping) of a case as NumPy arrays."""
    rng = np.random.default_rng(seed)
    dtype = dtype_of(case.dtype)
    cache_dtype = dtype_of(case.get("cache", case.dtype))
    layout = case.get("layout")
    v_dim = case.get("v_dim", case.head_dim)

    def cache(dim):
        if layout == "heads_first":
            shape = (case.pages, case.heads, case.block, dim)
            return rng.standard_normal(shape).astype(cache_dtype).transpose(0, 2, 1, 3)
        shape = (case.pages, case.block, case.heads, dim)
        return rng.standard_normal(shape).astype(cache_dtype)

    if layout == "qkv":
        fused = rng.standard_normal((case.tokens, case.heads * 4, 16)).astype(dtype)
        key = fused[:, case.heads : 2 * case.heads, : case.head_dim]
        value = fused[:, 2 * case.heads : 3 * case.heads, :v_dim]
    else:
        key = rng.standard_normal((case.tokens, case.heads, case.head_dim)).astype(dtype)
        value = rng.standard_normal((case.tokens, case.heads, v_dim)).astype(dtype)
    slots = rng.permutation(case.pages * case.block)[: case.tokens]
    kind = case.get("slots")
    if kind == "skip":
        slots[::2] = -1 - slots[::2]
    if kind == "short":
        slots = slots[:4]
    return (
        key,
        value,
        cache(case.head_dim),
        cache(v_dim),
        slots.astype(np.int32 if kind == "int32" else np.int64),
    )


def reference(key, value, key_cache, value_cache, slot_mapping):
    """The caches afterwards, as copies, from the contract in include/aiter/kvcache.h."""
    key_cache, value_cache = key_cache.copy(), value_cache.copy()
    block = key_cache.shape[1]
    for token, slot in enumerate(slot_mapping):
        if slot >= 0:
            key_cache[slot // block, slot % block] = key[token].astype(key_cache.dtype)
            value_cache[slot // block, slot % block] = value[token].astype(value_cache.dtype)
    return key_cache, value_cache
