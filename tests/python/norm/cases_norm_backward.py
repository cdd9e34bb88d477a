"""Problems, data and float64 reference of norm_backward, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

DTYPES = ("bf16", "fp16", "fp32")

CASES = [
    *(Case("smoke", kind=k, shape=(37, 256), dtype=d) for k in ("rms", "layer") for d in DTYPES),
    *(
        Case("edge", kind="layer", shape=(3, h), dtype="bf16")
        for h in (1, 7, 8, 9, 63, 64, 65, 129)
    ),
    *(Case("edge", kind="rms", shape=(n, 40), dtype="fp16") for n in (1, 2, 8, 9, 64, 520)),
    *(
        Case("edge", kind=k, shape=s, dtype="bf16")
        for k in ("rms", "layer")
        for s in ((0, 64), (4, 0), (64,), (2, 3, 5, 40))
    ),
    *(Case("edge", kind=k, shape=(9, 100), dtype="bf16", w="none") for k in ("rms", "layer")),
    *(
        Case("edge", kind=k, shape=(9, 96), dtype=d, w="fp32")
        for k in ("rms", "layer")
        for d in DTYPES
    ),
    Case("edge", kind="rms", shape=(9, 100), dtype="fp32", gemma=True),
    Case("edge", kind="layer", shape=(9, 100), dtype="fp32", bias=False),
    *(
        Case("edge", kind=k, shape=(9, 104), dtype=d, residual=True)
        for k in ("rms", "layer")
        for d in DTYPES
    ),
    *(
        Case(tag, kind="layer", shape=s, dtype=d, w=w, bias=b, residual=r, x_bias=True)
        for tag, s, d, w, b, r in (
            ("smoke", (37, 256), "bf16", "fp32", True, True),
            ("edge", (37, 100), "fp16", "fp16", False, False),
            ("edge", (520, 40), "fp32", "none", False, True),
            ("edge", (3, 9001), "bf16", "none", True, False),
            ("edge", (0, 64), "bf16", "bf16", True, False),
        )
    ),
    Case("edge", kind="layer", shape=(9, 100), dtype="fp32", eps=0.5),
    Case("edge", kind="layer", shape=(6, 320), dtype="fp32", offset=10.0),
    Case("edge", kind="layer", shape=(3, 20001), dtype="bf16"),
    Case("edge", kind="rms", shape=(3, 20000), dtype="fp32"),
    *(Case("model", kind=k, shape=(67, 4096), dtype="bf16") for k in ("rms", "layer")),
    *(
        Case("perf", kind=k, shape=s, dtype=d)
        for k in ("rms", "layer")
        for s in ((16384, 4096), (16, 4096), (1, 4096))
        for d in ("bf16", "fp32")
    ),
]


def make(case, seed=0):
    """(dy, x, w, dresidual) of a case as NumPy arrays; what is not there is None."""
    rng = np.random.default_rng(seed)
    dtype = dtype_of(case.dtype)
    dy, x, residual = (rng.standard_normal(case.shape) for _ in range(3))
    x += case.get("offset", 0.0)
    w = case.get("w", case.dtype)
    w = None if w == "none" else rng.standard_normal(case.shape[-1]).astype(dtype_of(w))
    dresidual = residual.astype(dtype) if case.get("residual") else None
    return dy.astype(dtype), x.astype(dtype), w, dresidual


def reference(dy, x, w, dresidual, kind, eps, gemma=False):
    """{name: (gradient, scale of its error)} in float64, from the contract in include/aiter/norm.h."""
    dy, x = dy.astype(np.float64), x.astype(np.float64)
    gain = 1.0 if w is None else w.astype(np.float64) + gemma
    hidden = max(x.shape[-1], 1)

    def mean(v):
        return np.sum(v, axis=-1, keepdims=True) / hidden

    v = x - mean(x) if kind == "layer" else x
    s = np.sqrt(mean(v * v) + eps)
    n, g = v / s, dy * gain
    dx = g - n * mean(g * n) - (mean(g) if kind == "layer" else 0)
    # Where parts cancel, the error is of the size of the parts.
    parts = np.abs(g) + np.abs(n) * mean(np.abs(g * n)) + mean(np.abs(g))
    if kind == "layer":
        parts = parts * (1 + mean(np.abs(x)) / s)
    dx, scale = dx / s, parts / s
    if dresidual is not None:
        dx, scale = dx + dresidual.astype(np.float64), scale + np.abs(dresidual.astype(np.float64))
    rows = tuple(range(x.ndim - 1))
    return {
        "dx": (dx, scale),
        "dw": (np.sum(dy * n, axis=rows), np.sum(np.abs(dy * n) + np.abs(dy), axis=rows)),
        "db": (np.sum(dy, axis=rows), np.sum(np.abs(dy), axis=rows)),
        "dx_bias": (np.sum(dx, axis=rows), np.sum(scale, axis=rows)),
    }
