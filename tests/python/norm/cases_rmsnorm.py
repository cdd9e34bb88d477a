"""Problems, data and float64 reference of rmsnorm, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

DTYPES = ("bf16", "fp16", "fp32")

CASES = [
    *(Case("smoke", shape=(5, 256), dtype=d) for d in DTYPES),
    # One below, at, one above the vector width and its unrolled multiple.
    *(Case("edge", shape=(3, h), dtype="bf16") for h in (1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 129)),
    Case("edge", shape=(0, 64), dtype="bf16"),
    Case("edge", shape=(4, 0), dtype="bf16"),
    Case("edge", shape=(64,), dtype="fp32"),
    Case("edge", shape=(2, 3, 5, 40), dtype="fp16"),
    *(Case("edge", shape=(9, 100), dtype=d, weight="none") for d in DTYPES),
    *(Case("edge", shape=(9, 100), dtype=d, weight="fp32") for d in DTYPES),
    *(Case("edge", shape=(9, 100), dtype=d, gemma=True) for d in DTYPES),
    *(Case("edge", shape=(9, 100), dtype=d, model_sensitive=True) for d in DTYPES),
    Case("edge", shape=(9, 100), dtype="bf16", eps=0.5),
    Case("edge", shape=(6, 100), dtype="fp32", values="tiny"),
    *(Case("edge", shape=(6, 100), dtype=d, values="denormal") for d in ("bf16", "fp32")),
    Case("edge", shape=(6, 100), dtype="bf16", values="special"),
    *(Case("model", shape=s, dtype="bf16") for s in ((1, 576), (17, 4096), (3, 64, 128))),
    *(Case("perf", shape=s, dtype=d) for s in ((16384, 4096), (1, 4096)) for d in DTYPES),
]


def make(case, seed=0):
    """Inputs (x, residual, w) of a case as NumPy arrays; w is None for weight="none"."""
    rng = np.random.default_rng(seed)
    dtype = dtype_of(case.dtype)
    x = rng.standard_normal(case.shape).astype(dtype)
    residual = rng.standard_normal(case.shape).astype(dtype)
    values = case.get("values")
    if values == "tiny":
        x = (x * 1e-30).astype(dtype)
    elif values == "denormal":
        x, residual = (a.astype(np.float64) * 1e-39 for a in (x, residual))
        x, residual = x.astype(dtype), residual.astype(dtype)
    elif values == "special":
        x[0, 3], x[1, 5], x[2, 7] = np.inf, -np.inf, np.nan
        residual[...] = 0
    hidden = case.shape[-1]
    weight = case.get("weight", case.dtype)
    w = None if weight == "none" else rng.standard_normal(hidden).astype(dtype_of(weight))
    return x, residual, w


def options(case):
    return {
        "eps": case.get("eps", 1e-6),
        "gemma_norm": case.get("gemma", False),
        "use_model_sensitive_rmsnorm": int(case.get("model_sensitive", False)),
    }


def reference(x, w, eps, gemma_norm, use_model_sensitive_rmsnorm):
    """rms_norm in float64, from the contract in include/aiter/norm.h."""
    dtype = x.dtype
    x = x.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(x * x, axis=-1, keepdims=True) / max(x.shape[-1], 1)
        y = x / np.sqrt(mean + eps)
    if use_model_sensitive_rmsnorm:
        y = y.astype(dtype).astype(np.float64)
    if w is not None:
        w = w.astype(np.float64)
        y = y * (1 + w if gemma_norm else w)
    return y


def reference_add(x, residual_in, w, **options):
    residual_out = (x.astype(np.float64) + residual_in.astype(np.float64)).astype(x.dtype)
    return reference(residual_out, w, **options), residual_out
