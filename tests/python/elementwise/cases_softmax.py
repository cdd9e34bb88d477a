"""Problems, data and float64 reference of softmax, for its test and its bench."""

import numpy as np
from aiter.testing import Case, bound, dtype_of

DTYPES = ("bf16", "fp16", "fp32")

CASES = [
    *(Case("smoke", shape=(5, 256), dtype=d) for d in DTYPES),
    *(Case("edge", shape=(3, n), dtype="bf16") for n in (1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 129)),
    *(Case("edge", shape=(2, n), dtype="fp32") for n in (4095, 4096, 4097, 9000)),
    *(Case("edge", shape=(6, 100), dtype=d, values="wide") for d in DTYPES),
    Case("edge", shape=(6, 100), dtype="fp32", values="special"),
    Case("edge", shape=(6, 64), dtype="bf16", values="special"),
    Case("edge", shape=(2, 3, 5, 40), dtype="fp16"),
    Case("edge", shape=(64,), dtype="fp32"),
    Case("edge", shape=(0, 64), dtype="bf16"),
    Case("edge", shape=(4, 0), dtype="bf16"),
    Case("model", shape=(3, 32000), dtype="bf16"),
    *(Case("perf", shape=s, dtype=d) for s in ((8192, 4096), (512, 65536)) for d in DTYPES),
    *(Case("perf", shape=s, dtype="bf16") for s in ((1, 4096), (16, 4096), (32, 1024))),
]


def make(case, seed=0):
    x = np.random.default_rng(seed).standard_normal(case.shape) * 3
    values = case.get("values")
    if values == "wide":
        x *= 30
    elif values == "special":
        x[0, 3], x[1, 5], x[2, 7] = np.inf, -np.inf, np.nan
        x[3, :] = -np.inf
        x[4, :-1] = -np.inf
    return x.astype(dtype_of(case.dtype))


def reference(x):
    """softmax in float64, from the contract in include/aiter/elementwise.h. Returns (y, scale)."""
    x = x.astype(np.float64)
    with np.errstate(all="ignore"):
        shift = x - np.max(x, axis=-1, keepdims=True, initial=-np.inf)
        e = np.exp(shift)
        y = e / e.sum(axis=-1, keepdims=True)
        scale = y * (1 + np.minimum(np.abs(shift), 100) / 4)
    # Exponentials below the smallest normal number may become 0.
    return y, np.where(np.isfinite(scale), scale, 0) + 2.0**-126 / bound("float32")
