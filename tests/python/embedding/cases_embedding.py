"""Problems, data and reference of embedding, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

FLOATS = ("bf16", "fp16", "fp32")


def _case(
    tag, ids=(7,), vocab=40, hidden=96, table="bf16", out=None, groups=0, scale="fp16", **more
):
    quantized = {"groups": groups or 3, "scale": scale} if table == "int8" else {}
    return Case(
        tag,
        ids=ids,
        vocab=vocab,
        hidden=hidden,
        table=table,
        out=out or "bf16",
        **quantized,
        **more,
    )


CASES = [
    *(_case("smoke", table=t, out=o) for t in (*FLOATS, "int8") for o in FLOATS),
    *(_case("edge", table="int8", scale=s, out="fp32") for s in FLOATS),
    *(_case("edge", table="int8", groups=g, out="fp32") for g in (1, 2, 32, 96)),
    *(_case("edge", table="int8", groups=1, hidden=h, out="fp16") for h in (1, 7, 8, 9, 15, 16, 17, 33)),
    *(_case("edge", hidden=h, out="fp32") for h in (1, 7, 8, 9, 15, 16, 17, 33)),
    *(_case("edge", ids=i) for i in ((), (0,), (2, 3), (2, 1, 3))),
    _case("edge", hidden=0),
    _case("edge", hidden=0, table="int8", groups=1),
    *(_case("edge", table=t, id_dtype="int32", padding=True) for t in ("bf16", "int8")),
    *(_case("edge", table=t, values="special", out=o) for t in FLOATS for o in FLOATS),
    _case("model", ids=(256,), vocab=49152, hidden=576, table="int8", groups=18, out="fp32"),
    *(_case("perf", ids=(n,), vocab=49152, hidden=2048, table=t, groups=64, out="bf16")
      for t in ("bf16", "int8") for n in (16384, 1)),
]  # fmt: skip


def make(case, seed=0):
    """(ids, table, scale or None) of a case as NumPy arrays."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, case.vocab, case.ids).astype(case.get("id_dtype", "int64"))
    ids.flat[:2] = [0, case.vocab - 1][: ids.size]
    if case.get("padding"):
        ids[2], ids[4] = -1, -123
    if case.table == "int8":
        table = rng.integers(-128, 128, (case.vocab, case.hidden)).astype(np.int8)
        scale = (rng.random((case.vocab, case.groups)) / 50).astype(dtype_of(case.scale))
        return ids, table, scale
    table = rng.standard_normal((case.vocab, case.hidden)).astype(dtype_of(case.table))
    if case.get("values") == "special":
        table[0, :4], table[-1, :4] = (np.inf, -np.inf, np.nan, 1e-7), (-0.0, 65504, 1e-40, 0)
    return ids, table, None


def reference(ids, table, scale, dtype):
    """Rows of the table in dtype; exact, as int8 times a scale is computed in fp32."""
    rows = table.astype(np.float32)
    if scale is not None:
        hidden, groups = table.shape[1], scale.shape[1]
        rows = rows * np.repeat(scale.astype(np.float32), hidden // groups, axis=1)
    out = rows[np.maximum(ids, 0)]
    out[ids < 0] = 0
    with np.errstate(over="ignore"):
        return out.astype(dtype)
