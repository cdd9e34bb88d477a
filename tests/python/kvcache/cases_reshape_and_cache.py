"""Problems, data and reference of reshape_and_cache, for its test and its bench."""

import numpy as np
import paged
from aiter.testing import Case, dtype_of
from paged import quant

DTYPES = ("bf16", "fp16", "fp32")
SMALL = {"heads": 2, "head_dim": 64, "pages": 3, "block": 16}

CASES = [
    *(Case("smoke", tokens=5, heads=2, head_dim=64, pages=3, block=4, dtype=d) for d in DTYPES),
    *(
        Case("smoke", tokens=5, heads=2, head_dim=64, pages=3, block=4, dtype="fp32", cache=d)
        for d in ("fp16", "bf16")
    ),
    *(
        Case("smoke", tokens=21, **SMALL, dtype=d, layout=layout)
        for d in DTYPES
        for layout in ("vectorized", "asm")
    ),
    *(
        Case("smoke", tokens=21, **SMALL, dtype=d, cache=c, layout=layout, scales=s)
        for d, c in (("bf16", "float8_e4m3fn"), ("fp16", "int8"), ("fp32", "float8_e4m3fnuz"))
        for layout in ("flash", "vectorized", "asm")
        for s in ("one", "token")
    ),
    *(
        Case("edge", tokens=9, **SMALL, dtype="bf16", cache=c, layout="asm", scales=s)
        for c in paged.CODES
        for s in ("none", "heads", "pages")
    ),
    *(
        Case("edge", tokens=9, **SMALL, dtype="fp32", cache="uint8", layout="flash", scales="one",
             kv_cache_dtype=name)
        for name in ("fp8", "fp8_e5m2", "float8_e4m3fnuz")
    ),
    *(
        Case("edge", tokens=9, **SMALL, dtype="fp32", cache=c, layout="flash", scales="token",
             values=v)
        for c in ("int8", "float8_e4m3fn")
        for v in ("zeros", "special", "tiny", "huge")
    ),
    *(
        Case("edge", tokens=6, heads=3, head_dim=d, pages=2, block=5, dtype="fp32", cache="fp16")
        for d in (1, 7, 15, 17, 33)
    ),
    *(
        Case("edge", tokens=6, heads=3, head_dim=d, pages=2, block=5, dtype="bf16", cache="int8",
             scales="token")
        for d in (1, 15, 33, 1100)
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
        Case("edge", tokens=7, heads=2, head_dim=8, v_dim=5, pages=4, block=4, dtype="bf16",
             layout=layout)
        for layout in ("qkv", "heads_first")
    ),
    Case("edge", tokens=7, heads=2, head_dim=16, v_dim=5, pages=4, block=4, dtype="bf16",
         layout="vectorized"),
    *(
        Case("edge", tokens=107, heads=2, head_dim=k, v_dim=v, pages=128 // b, block=b, dtype=d,
             layout=layout, slots="runs", cache=c, scales=s)
        for layout in ("vectorized", "asm")
        for d, c, s, k, v, b in (
            ("bf16", "bf16", "none", 64, 64, 16),
            ("fp32", "fp32", "none", 16, 48, 16),
            ("fp32", "fp16", "none", 32, 256, 32),
            ("fp16", "fp16", "none", 256, 16, 64),
            ("bf16", "int8", "heads", 64, 128, 16),
            ("fp32", "float8_e4m3fn", "token", 96, 96, 32),
        )
    ),
    Case("edge", tokens=9, **SMALL, dtype="int8", cache="int8", layout="vectorized"),
    Case("edge", tokens=9, **SMALL, dtype="float8_e4m3fn", cache="float8_e4m3fn"),
    Case("edge", tokens=0, heads=2, head_dim=8, pages=4, block=4, dtype="bf16"),
    Case("edge", tokens=3, heads=2, head_dim=0, pages=4, block=4, dtype="bf16"),
    Case("model", tokens=1, heads=3, head_dim=64, pages=128, block=16, dtype="fp32"),
    Case("model", tokens=257, heads=8, head_dim=128, pages=40, block=16, dtype="bf16"),
    *(
        Case("perf", tokens=32768, heads=8, head_dim=128, pages=2048, block=16, dtype=d)
        for d in DTYPES
    ),
    *(
        Case("perf", tokens=32768, heads=8, head_dim=128, pages=2048, block=16, dtype="bf16",
             layout=layout, slots="prefill", cache=c, scales=s)
        for layout, c, s in (
            ("vectorized", "bf16", "none"),
            ("asm", "bf16", "none"),
            ("flash", "float8_e4m3fn", "one"),
            ("flash", "float8_e4m3fn", "token"),
            ("asm", "float8_e4m3fn", "token"),
        )
    ),
    Case("perf", tokens=1, heads=3, head_dim=64, pages=128, block=16, dtype="fp32"),
]  # fmt: skip


def make(case, seed=0):
    """The arguments of a case, by name, as NumPy arrays; with scales that are computed, `quant` 1."""
    rng = np.random.default_rng(seed)
    dtype = dtype_of(case.dtype)
    cache_dtype = dtype_of(case.get("cache", case.dtype))
    layout, scales = case.get("layout", "flash"), case.get("scales", "none")
    heads, v_dim = case.heads, case.get("v_dim", case.head_dim)

    if layout == "qkv":
        fused = rng.standard_normal((case.tokens, heads * 4, 16)).astype(dtype)
        key = fused[:, heads : 2 * heads, : case.head_dim]
        value = fused[:, 2 * heads : 3 * heads, :v_dim]
        layout = "flash"
    else:
        key = paged.filled(rng, (case.tokens, heads, case.head_dim), dtype)
        value = paged.filled(rng, (case.tokens, heads, v_dim), dtype)
    match case.get("values"):
        case "zeros":
            key[...] = 0
        case "special":
            key[0, 0, 3], key[0, 1, 5], key[1, 0, 7], key[2] = np.inf, -np.inf, np.nan, np.nan
        case "tiny":
            key *= np.float32(1e-37)
        case "huge":
            key *= np.float32(1e37)

    caches = [
        paged.filled(rng, shape, cache_dtype)
        for shape in paged.shapes(
            layout, case.pages, case.block, heads, case.head_dim, v_dim, cache_dtype.itemsize
        )
    ]
    if layout == "heads_first":
        caches = [c.transpose(0, 2, 1, 3).copy().transpose(0, 2, 1, 3) for c in caches]
    slots = rng.permutation(case.pages * case.block)[: case.tokens]
    kind = case.get("slots")
    if kind == "skip":
        slots[::2] = -1 - slots[::2]
    if kind == "prefill":
        slots.sort()
    if kind == "short":
        slots = slots[:4]
    if kind == "runs":  # from the middle of a tile on, with gaps, and one of two slots in turn
        slots = np.concatenate([np.arange(5, 45), np.arange(64, 128), np.arange(1, 5), [47, 46]])
        slots = slots[: case.tokens]
        slots[20:23] = -1
    arguments = {
        "key": key,
        "value": value,
        "key_cache": caches[0],
        "value_cache": caches[1],
        "slot_mapping": slots.astype(np.int32 if kind == "int32" else np.int64),
    }
    if scales == "none":
        return arguments
    shape = {
        "one": (1,),
        "heads": (heads,),
        "token": (heads, case.pages * case.block + 3),
        "pages": (case.pages, heads, case.block),
    }[scales]
    for name in ("k_scale", "v_scale"):
        arguments[name] = (rng.random(shape) + 0.01).astype(np.float32)
    if scales in ("token", "pages"):
        arguments["quant"] = 1
    if "kv_cache_dtype" in case:
        arguments["kv_cache_dtype"] = case.kv_cache_dtype
    return arguments


def code_name(cache, kv_cache_dtype="auto"):
    """The dtype of a cache's codes, or None for one of floats."""
    names = {"auto": str(cache.dtype), "fp8": "float8_e4m3fn", "fp8_e5m2": "float8_e5m2"}
    name = names.get(kv_cache_dtype, kv_cache_dtype)
    return name if name in paged.CODES else None


def reference(key, value, key_cache, value_cache, slot_mapping, k_scale=None, v_scale=None,
              quant=0, kv_cache_dtype="auto", layout="flash"):  # fmt: skip
    """(key_cache, value_cache, k_scale, v_scale) afterwards, as copies, from the contract in
    include/aiter/kvcache.h."""
    sides = []
    for which, rows, cache, scale in (
        ("key", key, key_cache, k_scale),
        ("value", value, value_cache, v_scale),
    ):
        cache, scale = cache.copy(), None if scale is None else scale.copy()
        code = code_name(cache, kv_cache_dtype) if rows.dtype.itemsize > 1 else None
        for token, slot in enumerate(slot_mapping):
            if slot < 0:
                continue
            row = rows[token]
            if code and quant:
                row, computed = quantized(row, code)
                put_scale(scale, slot, computed)
            elif code:
                given = np.ones(1, np.float32) if scale is None else scale
                with np.errstate(over="ignore", invalid="ignore"):
                    factor = np.broadcast_to(np.float32(1) / given, row.shape[:1])[:, None]
                    row = encoded(row.astype(np.float32) * factor, code)
            else:
                row = row.astype(cache.dtype)
            paged.write(cache, layout, which, slot, row.view(cache.dtype))
        sides.append((cache, scale))
    return sides[0][0], sides[1][0], sides[0][1], sides[1][1]


def encoded(numbers, code):
    return quant.encode(numbers, code)


def quantized(row, code):
    return quant.reference(row, (1, 0), code)


def put_scale(scales, slot, computed):
    """Scales (heads, 1) of a slot into (heads, slots) or (pages, heads, block)."""
    if scales.ndim == 2:
        scales[:, slot] = computed[:, 0]
    else:
        page, at = divmod(slot, scales.shape[2])
        scales[page, :, at] = computed[:, 0]
