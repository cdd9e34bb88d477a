"""Problems, data and reference of greedy_sample, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

DTYPES = ("bf16", "fp16", "fp32")

CASES = [
    *(Case("smoke", batch=5, vocab=1000, dtype=d) for d in DTYPES),
    # One below, at, one above a vector, four vectors, and a block of 64 vectors.
    *(Case("edge", batch=3, vocab=v, dtype="fp32")
      for n in (8, 16) for m in (1, 4, 64, 128) for v in (n * m - 1, n * m, n * m + 1)),
    *(Case("edge", batch=64, vocab=v, dtype="bf16", values="ties") for v in (1, 2, 17, 5000)),
    *(Case("edge", batch=8, vocab=3000, dtype=d, values="special") for d in DTYPES),
    Case("edge", batch=0, vocab=10, dtype="fp32"),
    *(Case("model", batch=b, vocab=v, dtype="fp32") for b, v in ((1, 49152), (3, 151936))),
    *(Case("perf", batch=b, vocab=v, dtype=d)
      for v in (49152, 151936) for b in (1, 64) for d in ("bf16", "fp32")),
]  # fmt: skip


def make(case, seed=0):
    """logits of a case as a NumPy array."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((case.batch, case.vocab))
    values = case.get("values")
    if values == "ties":
        x = rng.integers(-2, 2, (case.batch, case.vocab)).astype(np.float64)
    elif values == "special":
        x[0] = -np.inf
        x[1] = np.nan
        x[2, :] = np.nan
        x[2, 2500] = -np.inf
        x[3, ::2] = np.nan
        x[4, [7, 1999]] = np.inf
        x[5, 0] = np.nan
        x[6] = 0.0
        x[6, 5] = -0.0
        x[7, -1] = 1e38
    with np.errstate(over="ignore"):
        return x.astype(dtype_of(case.dtype))


def reference(logits):
    found = []
    for row in logits.astype(np.float64):
        numbers = np.flatnonzero(~np.isnan(row))
        found.append(numbers[np.argmax(row[numbers])] if numbers.size else -1)
    return np.array(found, np.int32)
