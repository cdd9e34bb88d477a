"""Problems, data and reference of gather_cache, for its test and its bench."""

import numpy as np
import paged
from aiter.testing import Case, dtype_of

SMALL = {"heads": 2, "head_dim": 32, "pages": 9, "block": 16}

CASES = [
    *(
        Case("smoke", lengths=(20, 0, 3, 16), **SMALL, dtype=d, layout=layout)
        for d in ("bf16", "fp32", "float8_e4m3fn")
        for layout in ("flash", "vectorized", "asm")
    ),
    *(
        Case("smoke", lengths=(20, 0, 3, 16), **SMALL, dtype=d, cache=c, layout="asm", scales=s)
        for d, c in (("bf16", "float8_e4m3fn"), ("fp16", "int8"), ("fp32", "float8_e4m3fnuz"))
        for s in ("none", "one", "heads", "token", "pages", "page")
    ),
    *(
        Case("edge", lengths=(20, 3), **SMALL, dtype="fp32", cache=c, scales="one")
        for c in paged.CODES
    ),
    Case("edge", lengths=(20, 17), heads=2, head_dim=16, pages=12, block=8, dtype="fp32",
         cache="int8", layout="vectorized", scales="page", page_slots=32),
    *(
        Case("edge", lengths=(5, 9), heads=3, head_dim=d, v_dim=5, pages=6, block=b, dtype="bf16")
        for d, b in ((1, 3), (17, 4), (33, 5))
    ),
    Case("edge", lengths=(20, 3), **SMALL, dtype="bf16", ints="int64"),
    Case("edge", lengths=(20, 3), **SMALL, dtype="bf16", values=False),
    Case("edge", lengths=(), **SMALL, dtype="bf16"),
    Case("edge", lengths=(0, 0), **SMALL, dtype="bf16"),
    Case("edge", lengths=(3, 2), heads=2, head_dim=0, pages=9, block=16, dtype="bf16"),
    *(
        Case("perf", lengths=(4096,) * 8, heads=8, head_dim=128, pages=2048, block=16, dtype=d,
             cache=c, scales=s)
        for d, c, s in (("bf16", "bf16", "none"), ("bf16", "float8_e4m3fn", "one"))
    ),
]  # fmt: skip


def make(case, seed=0):
    """The arguments of aiter.gather_cache, by name."""
    rng = np.random.default_rng(seed)
    heads, block, v_dim = case.heads, case.block, case.get("v_dim", case.head_dim)
    layout, dtype = case.get("layout", "flash"), dtype_of(case.dtype)
    cache_dtype = dtype_of(case.get("cache", case.dtype))
    shapes = paged.shapes(
        layout, case.pages, block, heads, case.head_dim, v_dim, cache_dtype.itemsize
    )
    ints = case.get("ints", "int32")
    tokens = sum(case.lengths)
    longest = max((-(-n // block) for n in case.lengths), default=0)
    order = iter(rng.permutation(case.pages))
    table = np.full(
        (len(case.lengths), longest + 1), -5, ints
    )  # what is not needed may be anything
    for i, length in enumerate(case.lengths):
        for k in range(-(-length // block)):
            table[i, k] = next(order)
    arguments = {
        "key_cache": paged.filled(rng, shapes[0], cache_dtype),
        "value_cache": paged.filled(rng, shapes[1], cache_dtype)
        if case.get("values", True)
        else None,
        "block_table": table,
        "cu_seq_lens": np.concatenate([[0], np.cumsum(case.lengths)]).astype(ints),
        "tokens": tokens,
    }
    if cache_dtype == dtype:
        return arguments
    arguments["dtype"] = str(dtype)
    scales = case.get("scales", "none")
    if scales == "none":
        return arguments
    page_slots = case.get("page_slots", 0)
    shape = {
        "one": (1,),
        "heads": (heads,),
        "token": (heads, case.pages * block + 3),
        "pages": (case.pages, heads, block),
        "page": (heads, case.pages * block // (page_slots or block)),
    }[scales]
    for name in ("k_scale", "v_scale"):
        arguments[name] = (rng.random(shape) + 0.01).astype(np.float32)
    arguments["quant"] = {"pages": "token"}.get(scales, scales if scales in ("token", "page") else
                                                "static")  # fmt: skip
    arguments["page_slots"] = page_slots
    return arguments


def reference(layout, v_dim, key_cache, value_cache, block_table, cu_seq_lens, tokens, k_scale=None,
              v_scale=None, dtype=None, quant="static", page_slots=0):  # fmt: skip
    """[key, value] from the contract in include/aiter/kvcache.h."""
    results = []
    for which, cache, scale in (("key", key_cache, k_scale), ("value", value_cache, v_scale)):
        if cache is None:
            continue
        block = paged.block_of(cache, layout, which)
        first = paged.read(cache, layout, which, 0)
        out = np.zeros((tokens, *first.shape), dtype_of(dtype or cache.dtype.name))
        for b in range(len(block_table)):
            for i in range(cu_seq_lens[b + 1] - cu_seq_lens[b]):
                slot = int(block_table[b, i // block]) * block + i % block
                line = paged.read(cache, layout, which, slot)
                if out.dtype != cache.dtype:
                    s = np.ones(1, np.float32) if scale is None else scale
                    if quant == "token":
                        s = s[:, slot] if s.ndim == 2 else s[slot // block, :, slot % block]
                    elif quant == "page":
                        s = s[:, slot // (page_slots or block)]
                    line = line.astype(np.float32) * s[:, None]
                out[cu_seq_lens[b] + i] = line.astype(out.dtype)
        results.append(out)
    return results
