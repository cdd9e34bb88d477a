"""Problems, data and float64 reference of layernorm, for its test and its bench."""

import numpy as np
from aiter.testing import Case, bound, dtype_of

DTYPES = ("bf16", "fp16", "fp32")

CASES = [
    *(Case("smoke", shape=(5, 256), dtype=d) for d in DTYPES),
    # One below, at, one above the vector width and its unrolled multiple.
    *(Case("edge", shape=(3, h), dtype="bf16") for h in (1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 129)),
    Case("edge", shape=(0, 64), dtype="bf16"),
    Case("edge", shape=(4, 0), dtype="bf16"),
    Case("edge", shape=(64,), dtype="fp32"),
    Case("edge", shape=(2, 3, 5, 40), dtype="fp16"),
    *(Case("edge", shape=(9, 100), dtype=d, weight="none", bias="none") for d in DTYPES),
    *(Case("edge", shape=(9, 100), dtype=d, weight="none") for d in DTYPES),
    *(Case("edge", shape=(9, 100), dtype=d, bias="none") for d in DTYPES),
    *(Case("edge", shape=(9, 100), dtype=d, weight="fp32", bias="fp32") for d in DTYPES),
    *(Case("edge", shape=(9, 100), dtype=d, x_bias=True) for d in DTYPES),
    *(Case("edge", shape=(5, 256), dtype=d, x_bias=True) for d in DTYPES),
    Case("edge", shape=(9, 100), dtype="bf16", eps=0.5),
    *(Case("edge", shape=(6, 320), dtype=d, values="offset") for d in DTYPES),
    *(Case("edge", shape=(6, 320), dtype=d, values="outlier") for d in DTYPES),
    Case("edge", shape=(6, 100), dtype="fp32", values="tiny"),
    Case("edge", shape=(6, 100), dtype="bf16", values="constant"),
    Case("edge", shape=(6, 100), dtype="bf16", values="special"),
    Case("edge", shape=(1, 20001), dtype="bf16"),
    *(Case("model", shape=s, dtype="bf16") for s in ((1, 768), (17, 4096), (3, 64, 128))),
    *(Case("perf", shape=s, dtype=d) for s in ((16384, 4096), (1, 4096)) for d in DTYPES),
]


def make(case, seed=0):
    """Inputs (x, residual, w, b, x_bias) of a case as NumPy arrays; what is not there is None."""
    rng = np.random.default_rng(seed)
    dtype = dtype_of(case.dtype)
    x = rng.standard_normal(case.shape)
    residual = rng.standard_normal(case.shape)
    match case.get("values"):
        case "offset":  # a mean far above the deviations
            x += 100
        case "outlier":  # first, where a careless choice of the shift would take it
            x[..., 0] = 1000
        case "tiny":
            x *= 1e-10
        case "constant":
            x[...] = 3
            residual[...] = 0
        case "special":
            x[0, 3], x[1, 5], x[2, 7], x[3, 0] = np.inf, -np.inf, np.nan, np.inf
            residual[...] = 0
    hidden = case.shape[-1]

    def vector(name):
        return None if name == "none" else rng.standard_normal(hidden).astype(dtype_of(name))

    w, b = vector(case.get("weight", case.dtype)), vector(case.get("bias", case.dtype))
    x_bias = vector(case.dtype) if case.get("x_bias") else None
    return x.astype(dtype), residual.astype(dtype), w, b, x_bias


def reference(x, w=None, b=None, eps=1e-5, x_bias=None):
    """layer_norm in float64, from the contract in include/aiter/norm.h, and the scale of its error."""
    v = x.astype(np.float64)
    if x_bias is not None:
        v = v + x_bias.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        hidden = max(x.shape[-1], 1)
        mean = np.sum(v, axis=-1, keepdims=True) / hidden
        deviation = np.sqrt(np.sum((v - mean) ** 2, axis=-1, keepdims=True) / hidden + eps)
        y = (v - mean) / deviation
        # v is off by the fp32 rounding of x + x_bias, and v - mean by that of the mean.
        rounding = 4 * 2.0**-24 / bound(x.dtype, hidden)
        magnitude = np.sum(np.abs(v), axis=-1, keepdims=True) / hidden
        scale = np.abs(y) + rounding * (magnitude + np.abs(v)) / deviation
        if w is not None:
            y, scale = y * w.astype(np.float64), scale * np.abs(w.astype(np.float64))
    if b is not None:
        b = b.astype(np.float64)
        y, scale = y + b, scale + np.abs(b)
    return y, scale


def reference_add(x, residual_in, w=None, b=None, eps=1e-5, x_bias=None):
    total = x.astype(np.float64) + residual_in.astype(np.float64)
    if x_bias is not None:
        total = (x.astype(np.float32) + x_bias.astype(np.float32)).astype(np.float64) + residual_in
    residual_out = total.astype(np.float32).astype(x.dtype)
    return *reference(residual_out, w, b, eps), residual_out
