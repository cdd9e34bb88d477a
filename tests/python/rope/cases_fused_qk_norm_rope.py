"""Problems, data and float64 reference of fused_qk_norm_rope, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

ROWS, EPS = 24, 1e-5


def _case(tag, **more):
    base = dict(tokens=5, heads=(4, 2), dim=32, rotary=32, style="neox", dtype="bf16", table="fp32",
                weight="same", v=True)  # fmt: skip
    return Case(tag, **base | more)


STYLES = ("neox", "gptj")
CASES = [
    *(_case("smoke", style=s, dtype=d, table=t) for s in STYLES for d in ("bf16", "fp16", "fp32") for t in ("fp32", d)),
    *(_case("smoke", style=s, weight=w, gemma=w == "fp32") for s in STYLES for w in ("fp32", None)),
    # Partial rotation, before and after the rest, which may be an odd number of packs.
    *(_case("edge", style=s, dim=d, rotary=r, nope_first=n, dtype="fp32")
      for s in STYLES for d, r in ((48, 16), (40, 32), (36, 8), (33, 14), (7, 2)) for n in (False, True)),
    *(_case("edge", dim=d, rotary=d, dtype="fp32") for d in (2, 14, 16, 18, 256, 514, 1024)),
    *(_case("edge", dim=d, rotary=0, dtype=t) for d, t in ((1, "fp32"), (24, "bf16"), (40, "bf16"))),
    *(_case("edge", norm=False, style=s, v_dim=24) for s in STYLES),
    *(_case("edge", dim=64, rotary=48, style=s, v_dim=8) for s in STYLES),
    *(_case("edge", sections=(4, 6, 6), woven=w, dtype="fp32") for w in (False, True)),
    _case("edge", v=False, positions="int32"),
    _case("edge", positions=None, tokens=30),
    _case("edge", batch=3),
    _case("edge", tokens=0),
    _case("edge", heads=(0, 2)),
    _case("edge", heads=(3, 0)),
    _case("model", tokens=3, heads=(8, 2), dim=128, rotary=128),
    *(_case("perf", tokens=t, heads=(32, 8), dim=128, rotary=128, dtype=d, positions="int64")
      for t in (4096, 1) for d in ("bf16", "fp32")),
]  # fmt: skip


def make(case, seed=0):
    """A dict of q, k, v (or None), their weights, cos, sin, positions."""
    rng = np.random.default_rng(seed)
    dtype = dtype_of(case.dtype)
    lead = (case.batch, case.tokens) if case.get("batch") else (case.tokens,)
    d = {"v": None, "q_weight": None, "k_weight": None, "cos": None, "sin": None, "positions": None}
    for name, heads in zip("qk", case.heads, strict=True):
        scale = 10.0 ** rng.uniform(-2, 2, (*lead, heads, 1))
        d[name] = (scale * rng.standard_normal((*lead, heads, case.dim))).astype(dtype)
        if case.weight and case.get("norm", True):
            kind = dtype if case.weight == "same" else dtype_of(case.weight)
            d[name + "_weight"] = rng.standard_normal(case.dim).astype(kind)
    if case.v:
        d["v"] = rng.standard_normal((*lead, case.heads[1], case.get("v_dim", case.dim))).astype(
            dtype
        )
    if case.rotary:
        angles = rng.uniform(-np.pi, np.pi, (ROWS, case.rotary // 2))
        d["cos"], d["sin"] = (f(angles).astype(dtype_of(case.table)) for f in (np.cos, np.sin))
        kind = case.get("positions", "int64")
        if kind:
            shape = (3, *lead) if case.get("sections") else lead
            d["positions"] = rng.integers(0, ROWS, shape).astype(kind)
    return d


def reference(case, d, name):
    """(y, scale) of q or k in float64, without the roundings between, from the contract."""
    x = d[name].astype(np.float64)
    y = x.copy()
    if case.get("norm", True):
        y /= np.sqrt(np.mean(x * x, -1, keepdims=True) + EPS)
        if d[name + "_weight"] is not None:
            y *= d[name + "_weight"].astype(np.float64) + case.get("gemma", False)
    if not case.rotary:
        return y, np.abs(y)
    pairs = case.rotary // 2
    lead = x.shape[:-2]
    if d["positions"] is None:
        rows = np.broadcast_to(np.arange(np.prod(lead)).reshape(*lead, 1) % ROWS, (*lead, pairs))
    elif case.get("sections"):
        axis = np.repeat([0, 1, 2], case.sections)
        if case.woven:
            axis = np.zeros(pairs, int)
            axis[1 : 3 * case.sections[1] : 3] = 1
            axis[2 : 3 * case.sections[2] : 3] = 2
        rows = np.moveaxis(d["positions"][axis], 0, -1)
    else:
        rows = np.broadcast_to(d["positions"][..., None], (*lead, pairs))
    c, s = (d[t].astype(np.float64)[rows, np.arange(pairs)][..., None, :] for t in ("cos", "sin"))
    first = case.dim - case.rotary if case.get("nope_first") else 0
    if case.style == "neox":
        i, j = slice(first, first + pairs), slice(first + pairs, first + 2 * pairs)
    else:
        i, j = slice(first, first + 2 * pairs, 2), slice(first + 1, first + 2 * pairs, 2)
    a, b = y[..., i].copy(), y[..., j].copy()
    scale = np.abs(y)
    y[..., i], y[..., j] = a * c - b * s, b * c + a * s
    scale[..., i] = scale[..., j] = np.abs(a) + np.abs(b)
    return y, scale
