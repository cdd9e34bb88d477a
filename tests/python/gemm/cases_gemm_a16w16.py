"""Problems, data and float64 reference of gemm_a16w16, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

DTYPES = ("bf16", "fp16", "fp32")

CASES = [
    *(Case("smoke", m=5, n=50, k=40, dtype=d) for d in DTYPES),
    # Around the tiles (8 x 48 with AVX-512, 4 x 24 with AVX2), in rows and columns.
    *(Case("edge", m=m, n=49, k=33, dtype=d) for d in DTYPES for m in (1, 2, 3, 4, 7, 8, 9, 16, 17)),
    *(Case("edge", m=3, n=n, k=33, dtype="bf16") for n in (1, 8, 15, 16, 17, 24, 25, 32, 47, 48, 97)),
    *(Case("edge", m=9, n=50, k=k, dtype=d) for d in DTYPES for k in (1, 2, 15, 16, 31, 32, 511, 513)),
    *(Case("edge", m=m, n=21, k=k, dtype=d) for d in DTYPES for m in (1, 4) for k in (1, 16, 31, 300)),
    # Past the chunk of k, past the rows of a pass, and few columns for the threads.
    *(Case("edge", m=9, n=50, k=1100, dtype=d) for d in DTYPES),
    *(Case("edge", m=267, n=17, k=65, dtype=d) for d in DTYPES),
    *(Case("edge", m=m, n=n, k=k, dtype="bf16") for m, n, k in ((0, 8, 8), (3, 0, 8), (3, 8, 0))),
    *(Case("edge", m=6, n=50, k=40, dtype=d, bias=b) for d in DTYPES for b in (d, "fp32")),
    *(Case("edge", m=6, n=50, k=40, dtype=d, out=o) for d in DTYPES for o in DTYPES),
    *(Case("edge", m=9, n=50, k=40, dtype=d, layout="strided") for d in DTYPES),
    *(Case("edge", m=6, n=50, k=40, dtype=d, values=v) for d in DTYPES for v in ("tiny", "special")),
    Case("model", m=17, n=960, k=576, dtype="bf16"),
    Case("model", m=1, n=576, k=1536, dtype="fp16"),
    Case("model", m=300, n=100, k=576, dtype="fp32"),
    *(
        Case("perf", m=m, n=n, k=k, dtype=d)
        for d in ("bf16", "fp32", "fp16")
        for n, k in ((4096, 4096), (1536, 576), (576, 1536))
        for m in (1, 16, 128, 1024)
    ),
]  # fmt: skip


def make(case, seed=0):
    """(x, w, bias) of a case; bias is None unless it asks for one."""
    rng = np.random.default_rng(seed)
    dtype = dtype_of(case.dtype)
    extra = 6 if case.get("layout") == "strided" else 0
    x = rng.standard_normal((case.m, case.k + extra)).astype(dtype)[:, : case.k]
    w = rng.standard_normal((case.n, case.k + extra)).astype(dtype)[:, : case.k]
    values = case.get("values")
    if values == "tiny":
        x = (
            x.astype(np.float64) * {"bf16": 1e-30, "fp16": 1e-4, "fp32": 1e-30}[case.dtype]
        ).astype(dtype)
    elif values == "special":
        x[1, 3], x[2, 39], x[4, 0] = np.inf, -np.inf, np.nan
        w[7, 2] = np.inf
    bias = case.get("bias")
    if bias is not None:
        bias = rng.standard_normal(case.n).astype(dtype_of(bias))
    return x, w, bias


def reference(x, w, bias=None):
    """From the contract in include/aiter/gemm.h."""
    y = x.astype(np.float64) @ w.astype(np.float64).T
    return y if bias is None else y + bias.astype(np.float64)


def magnitude(x, w, bias=None):
    """Of what is summed up: the scale of the allowed error."""
    with np.errstate(invalid="ignore"):
        scale = np.abs(x.astype(np.float64)) @ np.abs(w.astype(np.float64)).T
    if bias is not None:
        scale = scale + np.abs(bias.astype(np.float64))
    return np.nan_to_num(scale, posinf=0)
