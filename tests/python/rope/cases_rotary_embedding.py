"""Problems, data and float64 reference of rotary_embedding, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

DTYPES = ("bf16", "fp16", "fp32")


def _case(
    tag, tokens=5, heads=(4, 2), head_size=64, rotary=None, style="neox", dtype="bf16", **more
):
    return Case(tag, tokens=tokens, heads=heads, head_size=head_size, rotary=rotary or head_size,
                style=style, dtype=dtype, **more)  # fmt: skip


STYLES = ("neox", "gptj")
CASES = [
    *(_case("smoke", style=s, dtype=d, cache=c) for s in STYLES for d in DTYPES for c in (d, "fp32")),
    # R/2 one below, at, one above the vector width.
    *(_case("edge", style=s, head_size=2 * p) for s in STYLES for p in (1, 3, 7, 8, 9, 15, 16, 17, 33)),
    *(_case("edge", style=s, rotary=r) for s in STYLES for r in (2, 32, 48)),
    *(_case("edge", style=s, rotary=24, nope_first=True) for s in STYLES),
    *(_case("edge", style=s, head_size=1100, dtype="fp32") for s in STYLES),
    *(_case("edge", style=s, positions="int32", key=False) for s in STYLES),
    *(_case("edge", style=s, flat=True) for s in STYLES),
    *(_case("edge", style=s, flat=True, batch=3, rotary=20) for s in STYLES),
    _case("edge", batch=2, wide_cache=True),
    _case("edge", tokens=0),
    _case("edge", heads=(0, 2)),
    _case("model", tokens=1, heads=(9, 3), dtype="fp32"),
    _case("model", tokens=17, heads=(32, 8), head_size=128),
    *(_case("perf", tokens=t, heads=(32, 8), head_size=128, style=s, dtype=d)
      for s in STYLES for t in (8192, 1) for d in (DTYPES if s == "neox" else ("bf16",))),
]  # fmt: skip

MAX_POSITION = 4096


def make(case, seed=0):
    """(positions, query, key or None, cos_cache, sin_cache) of a case as NumPy arrays."""
    rng = np.random.default_rng(seed)
    dtype = dtype_of(case.dtype)
    lead = (case.batch, case.tokens) if case.get("batch") else (case.tokens,)
    positions = rng.integers(0, MAX_POSITION, lead).astype(case.get("positions", "int64"))
    positions.flat[: min(1, positions.size)] = MAX_POSITION - 1
    sides = []
    for heads in case.heads:
        x = rng.standard_normal((*lead, heads, case.head_size)).astype(dtype)
        sides.append(x.reshape(*lead, -1) if case.get("flat") else x)
    if not case.get("key", True):
        sides[1] = None
    angle = np.arange(MAX_POSITION)[:, None] * 10000.0 ** -(
        np.arange(case.rotary // 2) * 2 / case.rotary
    )
    caches = [f(angle).astype(dtype_of(case.get("cache", case.dtype))) for f in (np.cos, np.sin)]
    if case.get("wide_cache"):
        caches = [c[:, None, None, :] for c in caches]
    return positions, *sides, *caches


def reference(positions, x, head_size, cos, sin, style, nope_first):
    """rotary_embedding of one tensor in float64, from the contract in include/aiter/rope.h.

    Returns (y, scale): scale is |a| + |b| of each turned element's pair, |y| elsewhere.
    """
    count = x.shape[-2] if x.ndim == positions.ndim + 2 else x.shape[-1] // head_size
    heads = x.astype(np.float64).reshape(*positions.shape, count, head_size)
    pairs = cos.shape[-1]
    cos, sin = (
        c.astype(np.float64).reshape(-1, pairs)[positions][..., None, :] for c in (cos, sin)
    )
    y, scale = heads.copy(), np.abs(heads)
    first = head_size - 2 * pairs if nope_first else 0
    if style == "neox":
        i, j = slice(first, first + pairs), slice(first + pairs, first + 2 * pairs)
    else:
        i, j = slice(first, first + 2 * pairs, 2), slice(first + 1, first + 2 * pairs, 2)
    a, b = heads[..., i], heads[..., j]
    y[..., i] = a * cos - b * sin
    y[..., j] = b * cos + a * sin
    scale[..., i] = scale[..., j] = np.abs(a) + np.abs(b)
    return y.reshape(x.shape), scale.reshape(x.shape)
