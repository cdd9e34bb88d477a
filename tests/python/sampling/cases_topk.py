"""Problems, data and reference of topk, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

DTYPES = ("bf16", "fp16", "fp32", "int32")


def _case(tag, rows=4, n=300, k=10, dtype="fp32", values="normal", **options):
    return Case(tag, rows=rows, n=n, k=k, dtype=dtype, values=values, **options)


BOTH = ({}, {"sorted": False})
CASES = [
    *(_case("smoke", dtype=d, largest=g, **s) for d in DTYPES for g in (True, False) for s in BOTH),
    # Around a vector, a group of vectors, and the elements of a block of threads.
    *(_case("edge", n=n, k=min(n, k), rows=2) for n in (1, 7, 8, 15, 16, 17, 255, 257, 1025)
      for k in (1, 8, 300)),
    *(_case("edge", n=5000, k=k, rows=2, **s) for k in (1, 3, 100, 1300, 4999, 5000) for s in BOTH),
    *(_case("edge", dtype=d, values=v, k=k, largest=g, **s)
      for d in DTYPES for v in ("ties", "equal", "special") for k in (1, 37, 300)
      for g in (True, False) for s in BOTH),
    # The last bits alone decide; and all the elements in the first group, or in descending order.
    *(_case("edge", n=4100, k=k, rows=2, values=v, **s) for v in ("low_bits", "descending", "ascending")
      for k in (20, 700) for s in BOTH),
    # Sorted in several parts on GPUs.
    _case("edge", n=5000, k=4500, rows=1, values="ties"),
    _case("edge", rows=0), _case("edge", n=0, k=0), _case("edge", k=0),
    _case("model", n=151936, k=50, rows=2, dtype="bf16", place="cpu"),
    _case("model", n=32768, k=2048, rows=3, place="cpu", sorted=False),
    *(_case("perf", n=n, k=k, rows=r, dtype=d, sorted=s)
      for n, k, s, d in ((128000, 2048, False, "fp32"), (32768, 2048, False, "fp32"),
                         (151936, 50, True, "bf16"), (151936, 50, True, "fp32"),
                         (256, 8, True, "fp32"))
      for r in (1, 64)),
]  # fmt: skip


def make(case, seed=0):
    """x of a case as a NumPy array."""
    rng = np.random.default_rng(seed)
    shape = case.rows, case.n
    if case.values == "ties":
        x = rng.integers(-3, 3, shape).astype(np.float64)
    elif case.values == "equal":
        x = np.full(shape, 2.0)
    elif case.values == "low_bits":
        bits = 0x3F900000 | rng.integers(0, 1024, shape).astype(np.uint32)
        x = bits.view(np.float32).astype(np.float64)
    elif case.values in ("descending", "ascending"):
        x = np.sort(rng.standard_normal(shape), axis=-1)
        x = x if case.values == "ascending" else x[:, ::-1]
    else:
        x = rng.standard_normal(shape)
    if case.dtype == "int32":
        x = np.clip(np.rint(x * 1e3), -(2**31), 2**31 - 1).astype(np.int32)
        if case.values == "special":
            x[:, :4] = [-(2**31), 2**31 - 1, -(2**31), 2**31 - 1]
        return x
    if case.values == "special":
        x[0, ::3] = np.nan
        x[1, ::7] = np.inf
        x[1, 1::7] = -np.inf
        x[2] = np.nan
        x[2, 5] = 1
        x[3] = 0
        x[3, ::2] = -0.0
        x[3, 100:110] = -np.nan
    return x.astype(dtype_of(case.dtype))


def reference(x, k, largest=True, sorted=True, starts=None, ends=None):
    """Values and indices (int64) of two-dimensional x, by a stable sort of the whole row."""
    rows, n = x.shape
    indices = np.full((rows, k), -1, np.int64)
    for r in range(rows):
        begin = max(0, starts[r]) if starts is not None else 0
        end = min(n, ends[r]) if ends is not None else n
        row = x[r, begin : max(begin, end)]
        if row.dtype == np.int32:
            keys = row.astype(np.float64)
        else:
            keys = row.astype(np.float64)
            keys = np.where(np.isnan(keys), np.inf, keys)
        # NaN after infinity: a second key.
        nan = np.isnan(row.astype(np.float64))
        sign = -1 if largest else 1
        order = np.lexsort((np.arange(len(row)), sign * keys, sign * nan.astype(int)))[:k]
        indices[r, : len(order)] = begin + (order if sorted else np.sort(order))
    worst = -np.inf if largest else np.inf
    if x.dtype == np.int32:
        worst = -(2**31) if largest else 2**31 - 1
    values = np.full((rows, k), worst, x.dtype)
    for r in range(rows):
        found = indices[r] >= 0
        values[r, found] = x[r, indices[r, found]]
    return values, indices
