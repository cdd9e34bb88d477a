"""Problems, data and float64 reference of the rope_* functions, for their test and bench."""

import itertools

import numpy as np
from aiter.testing import Case, dtype_of

STYLES = ("neox", "gptj")
KINDS = ("sequence", "cached", "positions", "offsets", "thd", "2d", "3d", "mrope", "mrope_woven")
ROWS = 40  # of the tables
SHAPE = {  # leading dimensions
    "thd": (11,),
    "2d": (2, 12),
    "3d": (2, 30),
    "mrope": (7,),
    "mrope_woven": (7,),
}


def _case(tag, kind, **more):
    base = dict(
        kind=kind, style="neox", dtype="bf16", table="fp32", heads=(3, 2), size=32, rotary=32
    )
    return Case(tag, **base | more)


CASES = [
    *(_case("smoke", k, style=s, dtype=d) for k in KINDS for s in STYLES for d in ("bf16", "fp32")),
    *(_case("smoke", k, style=s, inverse=True, dtype="fp16", table="fp16") for k in KINDS for s in STYLES),
    # Partial rotation, before and after the rest; a column for each element.
    *(_case("edge", k, style=s, size=48, rotary=r, nope_first=n, full=f, inverse=i, dtype="fp32")
      for k in KINDS if k != "3d" for s, r, n, f, i in itertools.product(
          STYLES, (16, 22 if not k.startswith("mrope") else 24), (False, True), (False, True), (False, True))
      if (r == 16 or n) and (not i or f)),
    *(_case("edge", k, style=s, table=t, full=True) for k in ("cached", "2d") for s in STYLES for t in ("bf16", "fp16", "fp32")),
    # Pairs of a part one below, at, one above the vector width, and more than one run of them.
    *(_case("edge", k, style=s, heads=(1, 0), size=2 * p * (2 if k == "2d" else 1),
            rotary=2 * p * (2 if k == "2d" else 1), dtype="fp32")
      for k in ("sequence", "positions", "2d") for s in STYLES for p in (1, 7, 8, 9, 15, 17, 33, 300)),
    *(_case("edge", k, heads=(5, 1), transpose=True) for k in ("sequence", "cached", "positions", "offsets")),
    *(_case("edge", k, heads=(0, 1)) for k in KINDS if k not in ("thd", "2d", "3d")),
    *(_case("edge", k, lead=(0, 2)) for k in ("sequence", "positions")),
    _case("edge", "positions", index="int32"),
    _case("edge", "offsets", index="int32"),
    _case("edge", "thd", index="int32"),
    _case("edge", "3d", index="int32", style="gptj"),
    *(_case("model", "sequence", heads=h, size=d, rotary=r, style=s)
      for h, d, r, s in (((4, 1), 128, 128, "neox"), ((2, 1), 192, 64, "gptj"), ((3, 3), 256, 128, "neox"))),
]  # fmt: skip


def sections(pairs):
    """Of time, height and width, as Qwen-VL has them: 16, 24, 24 of 64."""
    rest = 3 * pairs // 8
    return pairs - 2 * rest, rest, rest


def make(case, seed=0):
    """A dict of a case's arrays: x, y (or None), cos, sin (or freqs), and what says the rows."""
    rng = np.random.default_rng(seed)
    dtype, table = dtype_of(case.dtype), dtype_of(case.table)
    lead = case.get("lead") or SHAPE.get(case.kind, (6, 2))
    image = case.kind == "2d"
    d = {"lead": lead}
    for name, heads in zip("xy", case.heads, strict=True):
        d[name] = rng.standard_normal((*lead, heads, case.size)).astype(dtype)
    pairs = case.rotary // 4 if image else case.rotary // 2
    d["width"] = width = 2 * pairs if case.get("full") else pairs
    if case.kind in ("sequence", "thd"):
        angles = (rng.uniform(-300, 300, (ROWS, 1, 1, width))).astype(table)
        d["freqs"] = angles
    else:
        for name in ("", "_w") if image else ("",):
            angles = rng.uniform(-np.pi, np.pi, (ROWS, width))
            for function in (np.cos, np.sin):
                values = function(angles).astype(table)
                shape = (1, ROWS, 1, width) if image else (ROWS, 1, 1, width)
                d[function.__name__ + name] = values.reshape(shape)
    index = case.get("index", "int64")
    if case.kind in ("positions", "offsets"):
        d["positions"] = rng.integers(0, ROWS, lead).astype(index)
    if case.kind == "offsets":
        d["positions"] //= 2
        d["offsets"] = rng.integers(0, ROWS // 2, lead).astype(index)
    if case.kind.startswith("mrope"):
        d["positions"] = rng.integers(0, ROWS, (3, *lead)).astype(index)
        d["sections"] = sections(pairs)
    if case.kind == "thd":
        d["cu_seqlens"] = np.array([0, 4, 4, 9], index)  # two tokens belong to none
    if case.kind == "2d":
        d["height"], d["width_of_image"] = 3, 4
    if case.kind == "3d":
        d["grid"] = np.array([[2, 3, 4], [3, 2, 5]], index)  # 24 tokens, 30 tokens
    return d


def rows_of(case, d, pairs):
    """(tokens..., pairs of a part, parts) rows of the tables, -1 where the token does not turn."""
    lead, kind = d["lead"], case.kind
    if kind in ("sequence", "cached"):
        rows = np.broadcast_to(np.arange(lead[0])[:, None], lead)
    elif kind in ("positions", "offsets"):
        rows = d["positions"].astype(np.int64) + d.get("offsets", 0)
    elif kind == "thd":
        rows = np.full(lead, -1)
        for begin, end in itertools.pairwise(d["cu_seqlens"]):
            rows[begin:end] = np.arange(end - begin)
    elif kind == "2d":
        h, w = np.divmod(np.arange(lead[1]), d["width_of_image"])
        both = np.stack([h, w], -1)[None, :, None, :]
        return np.broadcast_to(both, (*lead, pairs, 2))
    elif kind == "3d":
        third = pairs // 3
        axis = np.repeat([0, 1, 2], [pairs - 2 * third, third, third])
        rows = np.full((*lead, pairs), -1)
        for b, (f, h, w) in enumerate(d["grid"]):
            n = np.arange(f * h * w)[: lead[1]]
            of = np.stack(np.unravel_index(n, (f, h, w)))
            rows[b, : len(n)] = of[axis].T
        return rows[..., None]
    else:
        t, h, w = d["sections"]
        axis = np.repeat([0, 1, 2], [t, h, w])
        if kind == "mrope_woven":
            axis = np.zeros(pairs, int)
            axis[1 : 3 * h : 3] = 1
            axis[2 : 3 * w : 3] = 2
        return np.moveaxis(d["positions"][axis], 0, -1)[..., None]
    return np.broadcast_to(rows[..., None, None], (*lead, pairs, 1))


def reference(case, d, x):
    """(y, scale) of one tensor in float64, from the contract in include/aiter/rope.h."""
    image = case.kind == "2d"
    if "freqs" in d:
        angles = d["freqs"].astype(np.float64).reshape(ROWS, -1)
        tables = [(np.cos(angles), np.sin(angles))]
    else:
        tables = [
            tuple(d[f + name].astype(np.float64).reshape(ROWS, -1) for f in ("cos", "sin"))
            for name in (("", "_w") if image else ("",))
        ]
    parts = 2 if image else 1
    full, interleaved = case.get("full"), case.style == "gptj"
    pairs = tables[0][0].shape[1] // (2 if full else 1)
    columns = np.arange(pairs)
    if not full:
        columns = (columns, columns)
    else:
        columns = (2 * columns, 2 * columns + 1) if interleaved else (columns, columns + pairs)
    rows = rows_of(case, d, pairs)
    heads = x.astype(np.float64).reshape(*x.shape[:-1], parts, x.shape[-1] // parts)
    y, scale = heads.copy(), np.abs(heads)
    size = heads.shape[-1]
    first = size - 2 * pairs if case.get("nope_first") else 0
    if interleaved:
        i, j = slice(first, first + 2 * pairs, 2), slice(first + 1, first + 2 * pairs, 2)
    else:
        i, j = slice(first, first + pairs), slice(first + pairs, first + 2 * pairs)
    for part in range(parts):
        cos, sin = tables[part]
        r = rows[..., part]
        turns = (r >= 0)[..., None, :]
        (c0, s0), (c1, s1) = [[t[r, col][..., None, :] for t in (cos, sin)] for col in columns]
        if case.get("inverse"):
            s0, s1 = -s1, -s0
        a, b = heads[..., part, i], heads[..., part, j]
        y[..., part, i] = np.where(turns, a * c0 - b * s0, a)
        y[..., part, j] = np.where(turns, b * c1 + a * s1, b)
        scale[..., part, i] = scale[..., part, j] = np.abs(a) + np.abs(b)
    return y.reshape(x.shape), scale.reshape(x.shape)
