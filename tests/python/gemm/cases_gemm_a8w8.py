"""Problems, data and reference of gemm_a8w8, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

DTYPES = ("bf16", "fp16", "fp32")

CASES = [
    *(Case("smoke", m=5, n=50, k=40, dtype=d) for d in DTYPES),
    # Around the tiles (8 x 48 with AVX-512, 4 x 24 with AVX2), in rows and columns.
    *(Case("edge", m=m, n=49, k=33, dtype="fp32") for m in (1, 2, 3, 4, 7, 8, 9, 16, 17)),
    *(Case("edge", m=3, n=n, k=33, dtype="fp32") for n in (1, 8, 15, 16, 17, 24, 25, 32, 47, 48, 97)),
    *(Case("edge", m=9, n=50, k=k, dtype="fp32") for k in (1, 2, 3, 4, 5, 63, 64, 65, 2047, 2049, 4200)),
    Case("edge", m=267, n=17, k=65, dtype="bf16"),
    *(Case("edge", m=m, n=n, k=k, dtype="bf16") for m, n, k in ((0, 8, 8), (3, 0, 8), (3, 8, 0))),
    *(Case("edge", m=6, n=50, k=40, dtype=d, bias=b) for d in DTYPES for b in (d, "fp32")),
    Case("edge", m=9, n=50, k=40, dtype="fp32", layout="strided"),
    # The largest sums, which pairs of 16 bits and saturating instructions would get wrong.
    *(Case("edge", m=5, n=20, k=k, dtype="fp32", values=v)
      for v in ("lowest", "highest", "opposite") for k in (64, 1000, 131071)),
    Case("model", m=17, n=960, k=576, dtype="bf16"),
    Case("model", m=1, n=576, k=1536, dtype="bf16"),
    *(
        Case("perf", m=m, n=n, k=k, dtype="bf16")
        for n, k in ((4096, 4096), (1536, 576), (576, 1536))
        for m in (1, 16, 128, 1024)
    ),
]  # fmt: skip


def make(case, seed=0):
    """(x, w, x_scale, w_scale, bias) of a case; bias is None unless it asks for one."""
    rng = np.random.default_rng(seed)
    extra = 6 if case.get("layout") == "strided" else 0
    x = rng.integers(-128, 128, (case.m, case.k + extra), dtype=np.int8)[:, : case.k]
    w = rng.integers(-128, 128, (case.n, case.k + extra), dtype=np.int8)[:, : case.k]
    fill = {"lowest": (-128, -128), "highest": (127, 127), "opposite": (-128, 127)}
    if case.get("values"):
        x[...], w[...] = fill[case["values"]]
    x_scale = rng.random((case.m, 1), np.float32) + 0.1
    w_scale = rng.random((1, case.n), np.float32) + 0.1
    bias = case.get("bias")
    if bias is not None:
        bias = (100 * rng.standard_normal(case.n)).astype(dtype_of(bias))
    return x, w, x_scale, w_scale, bias


def reference(x, w, x_scale, w_scale, bias=None):
    """From the contract in include/aiter/gemm.h; the sums are exact in float64."""
    y = x.astype(np.float64) @ w.astype(np.float64).T
    y = y * x_scale.astype(np.float64).reshape(-1, 1) * w_scale.astype(np.float64).reshape(1, -1)
    return y if bias is None else y + bias.astype(np.float64)
