"""Problems, data and float64 reference of unary, for its test and its bench."""

import math

import numpy as np
from aiter.testing import Case, bound, dtype_of
from strided import LAYOUTS, lay_out

DTYPES = ("bf16", "fp16", "fp32")
OPS = ("sigmoid", "tanh", "relu", "silu", "gelu", "gelu_fast")

CASES = [
    *(Case("smoke", op=o, shape=(5, 256), dtype=d) for o in OPS for d in DTYPES),
    *(Case("edge", op=o, shape=(4, 512), dtype="fp32", values="wide") for o in OPS),
    *(Case("edge", op=o, shape=(4, 512), dtype="fp32", values="small") for o in OPS),
    *(Case("edge", op=o, shape=(2, 16), dtype="fp32", values="special") for o in OPS[:3]),
    *(Case("edge", op="sigmoid", shape=(3, n), dtype="bf16") for n in (1, 7, 8, 9, 15, 17, 33)),
    *(Case("edge", op="tanh", shape=(3, 5, 24), dtype="fp32", layout=name) for name in LAYOUTS),
    Case("edge", op="tanh", shape=(40, 70), dtype="bf16", layout="transposed"),
    *(Case("edge", op="sigmoid", shape=(4, 64), dtype="fp32", out=d) for d in ("bf16", "fp16")),
    Case("edge", op="sigmoid", shape=(4, 64), dtype="bf16", out="fp32"),
    Case("edge", op="relu", shape=(), dtype="fp32"),
    Case("edge", op="relu", shape=(0, 5), dtype="fp32"),
    Case("edge", op="relu", shape=(5, 0), dtype="bf16"),
    *(Case("perf", op=o, shape=(4096, 8192), dtype="bf16") for o in OPS),
    *(Case("perf", op="sigmoid", shape=(4096, 8192), dtype=d) for d in ("fp16", "fp32")),
    Case("perf", op="sigmoid", shape=(4096, 4096), dtype="fp32", layout="transposed"),
    Case("perf", op="sigmoid", shape=(4096, 8192), dtype="bf16", layout="transposed"),
    *(
        Case("perf", op="sigmoid", shape=s, dtype="bf16")
        for s in ((1, 4096), (16, 4096), (64, 1024))
    ),
]


def make(case, seed=0):
    x = np.random.default_rng(seed).standard_normal(case.shape) * 3
    values = case.get("values")
    if values == "wide":
        x = x * 30
    elif values == "small":
        x = x * 10.0 ** np.linspace(-30, 0, case.shape[-1])
    elif values == "special":
        x[0, :6] = np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38
    return lay_out(np.asarray(x, dtype_of(case.dtype)), case.get("layout", "contiguous"))


def reference(x, op):
    """The function in float64, from the contract in include/aiter/elementwise.h; and the scale of
    its error: the condition of exp, and room for factors below the smallest normal number."""
    x = x.astype(np.float64)
    with np.errstate(all="ignore"):
        z = {"gelu": x**2 / 2, "gelu_fast": 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)}
        z = z.get(op, x)
        if op == "sigmoid":
            y = 1 / (1 + np.exp(-x))
        elif op == "tanh":
            y, z = np.tanh(x), np.zeros_like(x)
        elif op == "relu":
            y, z = np.maximum(x, 0), np.zeros_like(x)
        elif op == "gelu":
            y = x * np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x.flat]).reshape(x.shape)
        else:
            y = x / (1 + np.exp(-z))
        scale = np.abs(y) * (1 + np.minimum(np.abs(z), 100) / 4)
        scale += (np.abs(x) + 1) * 2.0**-126 / bound("float32")
    return y, np.where(np.isfinite(scale), scale, 0)
