"""Problems, data and float64 reference of act_and_mul, for its test and its bench."""

import math

import numpy as np
from aiter.testing import Case, bound, dtype_of

DTYPES = ("bf16", "fp16", "fp32")
ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "swiglu")

CASES = [
    *(Case("smoke", act=a, shape=(5, 256), dtype=d) for a in ACTIVATIONS for d in DTYPES),
    # d one below, at, one above the vector width.
    *(Case("edge", act="silu", shape=(3, 2 * d), dtype="bf16") for d in (1, 7, 8, 9, 15, 16, 17)),
    *(Case("edge", act=a, shape=(4, 66), dtype="fp32", limit=1.5) for a in ACTIVATIONS),
    *(Case("edge", act=a, shape=(4, 512), dtype="fp32", values="wide") for a in ACTIVATIONS),
    *(Case("edge", act=a, shape=(4, 34), dtype="fp32", values="special") for a in ACTIVATIONS),
    *(Case("edge", act="silu", shape=(4, 66), dtype="fp32", out=d) for d in ("bf16", "fp16")),
    Case("edge", act="gelu", shape=(2, 3, 5, 40), dtype="fp16"),
    Case("edge", act="silu", shape=(64,), dtype="fp32"),
    Case("edge", act="silu", shape=(0, 64), dtype="bf16"),
    Case("edge", act="silu", shape=(4, 0), dtype="bf16"),
    *(Case("model", act="silu", shape=s, dtype="bf16") for s in ((1, 3072), (17, 28672))),
    Case("model", act="swiglu", shape=(4, 5760), dtype="bf16"),
    *(
        Case("perf", act=a, shape=s, dtype=d)
        for a in ACTIVATIONS
        for s in ((8192, 8192), (1, 3072))
        for d in (DTYPES if a == "silu" else ("bf16",))
    ),
]


def make(case, seed=0):
    """x of a case as a NumPy array."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(case.shape) * 3
    values = case.get("values")
    if values == "wide":
        x *= 10
    elif values == "special":
        half = case.shape[-1] // 2
        x[0, :6] = np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38
        x[1, half : half + 4] = np.inf, -np.inf, np.nan, -1.0
    return x.astype(dtype_of(case.dtype))


def limit_of(case):
    return case.get("limit", 7.0 if case.act == "swiglu" else 0.0)


def reference(x, act, limit):
    """act_and_mul in float64, from the contract in include/aiter/activation.h.

    Returns (y, scale): scale is |y| times the condition of exp at its rounded argument, and room
    for factors of gate * up below the smallest normal number, which may become 0.
    """
    gate, up = np.split(x.astype(np.float64), 2, axis=-1)
    if limit:
        gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
    with np.errstate(all="ignore"):
        argument = {
            "silu": gate,
            "gelu": gate**2 / 2,
            "gelu_tanh": 2 * math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3),
            "swiglu": 1.702 * gate,
        }[act]
        if act == "gelu":
            factor = np.array([math.erfc(-g / math.sqrt(2)) / 2 for g in gate.flat])
            factor = factor.reshape(gate.shape)
        else:
            factor = 1 / (1 + np.exp(-(gate if act == "silu" else argument)))
        y = gate * factor * (up + 1 if act == "swiglu" else up)
        scale = np.abs(y) * (1 + np.minimum(np.abs(argument), 100) / 4)
        scale += np.abs(gate * up) * 2.0**-126 / bound("float32")
    return y, np.where(np.isfinite(scale), scale, 0)
