"""Problems, data and float64 reference of act_and_mul, for its test and its bench."""

import math

import numpy as np
from aiter.testing import Case, bound, dtype_of

DTYPES = ("bf16", "fp16", "fp32")
ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "swiglu", "situv2")

CASES = [
    *(Case("smoke", act=a, shape=(5, 256), dtype=d) for a in ACTIVATIONS for d in DTYPES),
    # d one below, at, one above the vector width.
    *(Case("edge", act="silu", shape=(3, 2 * d), dtype="bf16") for d in (1, 7, 8, 9, 15, 16, 17)),
    *(Case("edge", act=a, shape=(4, 66), dtype="fp32", limit=1.5) for a in ACTIVATIONS),
    *(Case("edge", act=a, shape=(4, 512), dtype="fp32", values="wide") for a in ACTIVATIONS),
    *(Case("edge", act=a, shape=(4, 34), dtype="fp32", values="special") for a in ACTIVATIONS[:4]),
    *(Case("edge", act="silu", shape=(4, 66), dtype="fp32", out=d) for d in ("bf16", "fp16")),
    *(Case("edge", act="silu", shape=(4, 256), dtype=d, interleaved=True) for d in DTYPES),
    *(
        Case("edge", act="swiglu", shape=(3, 2 * d), dtype="bf16", interleaved=True)
        for d in (1, 7, 8, 9, 15, 16, 17, 65)
    ),
    *(Case("edge", act=a, shape=(9, 96), dtype="bf16", experts=4) for a in ACTIVATIONS),
    Case("edge", act="swiglu", shape=(9, 50), dtype="fp32", experts=3, interleaved=True, limit=2.0),
    Case("edge", act="silu", shape=(2, 3, 64), dtype="fp16", experts=2, ids="int32"),
    Case("edge", act="silu", shape=(5, 48), dtype="fp32", experts=1, ids="none"),
    *(
        Case("edge", act="silu", shape=(6, s), dtype="bf16", weights=w, columns=c)
        for s in (34, 128)
        for w in ("fp32", "bf16")
        for c in ("one", "all")
    ),
    Case("edge", act="gelu", shape=(2, 3, 5, 40), dtype="fp16"),
    Case("edge", act="silu", shape=(64,), dtype="fp32"),
    Case("edge", act="silu", shape=(0, 64), dtype="bf16"),
    Case("edge", act="silu", shape=(4, 0), dtype="bf16"),
    *(Case("model", act="silu", shape=s, dtype="bf16") for s in ((1, 3072), (17, 28672))),
    Case("model", act="swiglu", shape=(4, 5760), dtype="bf16", experts=8, interleaved=True),
    *(
        Case("perf", act=a, shape=s, dtype=d)
        for a in ACTIVATIONS
        for s in ((8192, 8192), (1, 3072))
        for d in (DTYPES if a == "silu" else ("bf16",))
    ),
    Case("perf", act="swiglu", shape=(8192, 8192), dtype="bf16", interleaved=True),
    Case("perf", act="swiglu", shape=(8192, 8192), dtype="bf16", experts=8),
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


def options(case, seed=1):
    """The keyword arguments of act_and_mul."""
    rng = np.random.default_rng(seed)
    made = {"limit": limit_of(case), "interleaved": case.get("interleaved", False)}
    if "experts" in case:
        experts = case.experts
        made["bias"] = rng.standard_normal((experts, case.shape[-1])).astype(np.float32)
        if case.get("ids") != "none":
            ids = rng.integers(0, experts, case.shape[:-1], case.get("ids", "int64"))
            if ids.size > 4:
                ids.flat[1], ids.flat[3] = -1, experts  # no expert's
            made["expert_ids"] = ids
    if "weights" in case:
        columns = 1 if case.columns == "one" else case.shape[-1] // 2
        weights = rng.standard_normal((*case.shape[:-1], columns))
        made["weights"] = weights.astype(dtype_of(case.weights))
    return made


def limit_of(case):
    return case.get("limit", 7.0 if case.act == "swiglu" else 0.0)


def split(x, interleaved):
    x = x.astype(np.float64)
    return (x[..., ::2], x[..., 1::2]) if interleaved else np.split(x, 2, axis=-1)


def distribution(g):
    """The normal distribution function."""
    return np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in g.flat]).reshape(g.shape)


def argument(g, act):
    """What exp gets: results have the condition of exp there."""
    return {
        "silu": g,
        "gelu": g**2 / 2,
        "gelu_tanh": 2 * math.sqrt(2 / math.pi) * (g + 0.044715 * g**3),
        "swiglu": 1.702 * g,
        "situv2": g,
    }[act]


def reference(
    x,
    act,
    limit,
    bias=None,
    expert_ids=None,
    weights=None,
    interleaved=False,
    beta=4.0,
    linear=25.0,
):
    """act_and_mul in float64, from the contract in include/aiter/activation.h.

    Returns (y, scale): scale is |y| times the condition of exp at its rounded argument, and room
    for factors of gate * up below the smallest normal number, which may become 0.
    """
    known = True
    if bias is not None:
        ids = np.zeros(x.shape[:-1], np.int64) if expert_ids is None else expert_ids
        known = ((ids >= 0) & (ids < len(bias)))[..., None]
        # The sum is rounded to fp32.
        x = x.astype(np.float32) + bias[np.clip(ids, 0, len(bias) - 1)]
    gate, up = split(x, interleaved)
    if limit:
        gate, up = np.minimum(gate, limit), np.clip(up, -limit, limit)
    with np.errstate(all="ignore"):
        z = argument(gate, act)
        factor = distribution(gate) if act == "gelu" else 1 / (1 + np.exp(-z))
        left, right = gate, up
        if act == "swiglu":
            right = up + 1
        elif act == "situv2":
            left, right = beta * np.tanh(gate / beta), linear * np.tanh(up / linear)
        y = left * factor * right
        scale = np.abs(y) * (1 + np.minimum(np.abs(z), 100) / 4)
        scale += np.abs(left * up) * 2.0**-126 / bound("float32")
        if weights is not None:
            weights = weights.astype(np.float64)
            y, scale = y * weights, scale * np.abs(weights)
        y, scale = np.where(known, y, 0), np.where(known, scale, 0)
    return y, np.where(np.isfinite(scale), scale, 0)
