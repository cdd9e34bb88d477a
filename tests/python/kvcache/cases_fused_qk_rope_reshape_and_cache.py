"""Problems, data and reference of fused_qk_rope_reshape_and_cache, for its test and its bench."""

import cases_reshape_and_cache as plain
import numpy as np
from aiter.testing import Case, dtype_of

SMALL = {"q_heads": 4, "heads": 2, "head_dim": 32, "pages": 3, "block": 16}

CASES = [
    *(
        Case("smoke", tokens=9, **SMALL, dtype=d, layout=layout, neox=neox)
        for d in ("bf16", "fp16", "fp32")
        for layout in ("flash", "vectorized", "asm")
        for neox in (True, False)
    ),
    *(
        Case("smoke", tokens=9, **SMALL, dtype="bf16", cache=c, layout="asm", scales=s)
        for c in ("float8_e4m3fn", "float8_e4m3fnuz", "int8")
        for s in ("none", "one", "heads")
    ),
    *(
        Case("edge", tokens=9, **SMALL, dtype="bf16", width=w, nope_first=n, neox=neox)
        for w in (1, 5, 8, 13)
        for n in (True, False)
        for neox in (True, False)
    ),
    *(Case("edge", tokens=9, **SMALL, dtype="bf16", tables=t) for t in ("fp32", "fp16")),
    *(Case("edge", tokens=9, **SMALL, dtype="bf16", slots=s) for s in ("int32", "skip", "short")),
    Case("edge", tokens=9, **SMALL, dtype="bf16", key_out=True),
    Case("edge", tokens=9, **SMALL, dtype="bf16", v_dim=7),
    Case("edge", tokens=0, **SMALL, dtype="bf16"),
    Case("edge", tokens=3, q_heads=1, heads=1, head_dim=1024, pages=2, block=4, dtype="fp32"),
    Case("perf", tokens=8192, q_heads=32, heads=8, head_dim=128, pages=512, block=16, dtype="bf16"),
    Case("perf", tokens=8192, q_heads=32, heads=8, head_dim=128, pages=512, block=16, dtype="bf16",
         cache="float8_e4m3fn", scales="one"),
]  # fmt: skip


def make(case, seed=0):
    """The arguments of aiter.fused_qk_rope_reshape_and_cache, by name."""
    arguments = plain.make(case, seed)
    rng = np.random.default_rng(seed + 1)
    dtype = dtype_of(case.dtype)
    width = case.get("width", case.head_dim // 2)
    angles = rng.random((50, width)) * 6
    tables = dtype_of(case.get("tables", case.dtype))
    return arguments | {
        "q": rng.standard_normal((case.tokens, case.q_heads, case.head_dim)).astype(dtype),
        "pos": rng.integers(0, 50, case.tokens).astype(
            np.int32 if case.get("slots") == "int32" else np.int64
        ),
        "cos": np.cos(angles).astype(tables),
        "sin": np.sin(angles).astype(tables),
        "is_neox": case.get("neox", True),
        "nope_first": case.get("nope_first", False),
    }


def turned(x, pos, cos, sin, is_neox, nope_first):
    """Heads turned, in float64, and the magnitude of what each element is a sum of."""
    width = cos.shape[1]
    first = x.shape[-1] - 2 * width if nope_first else 0
    i = np.arange(width) + first if is_neox else np.arange(0, 2 * width, 2) + first
    j = i + width if is_neox else i + 1
    c, s = cos.astype(np.float64)[pos][:, None], sin.astype(np.float64)[pos][:, None]
    out = x.astype(np.float64)
    scale = np.abs(out)
    a, b = out[..., i].copy(), out[..., j].copy()
    out[..., i], out[..., j] = a * c - b * s, b * c + a * s
    scale[..., i] = scale[..., j] = np.abs(a) + np.abs(b)
    return out, scale


def reference(q, key, pos, cos, sin, is_neox, nope_first, **others):
    """(turned, magnitude) of q and of key; the caches are plain.reference of the turned key."""
    rope = pos, cos, sin, is_neox, nope_first
    return turned(q, *rope), turned(key, *rope)
