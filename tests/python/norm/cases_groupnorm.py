"""Problems, data and float64 reference of groupnorm, for its test and its bench."""

import math

import numpy as np
from aiter.testing import Case, bound, dtype_of

DTYPES = ("bf16", "fp16", "fp32")

CASES = [
    *(Case("smoke", shape=(2, 8, 6, 8), groups=2, dtype=d, last=c) for d in DTYPES for c in (0, 1)),
    *(
        Case("edge", shape=s, groups=g, dtype="bf16", last=c)
        for s, g in (((2, 6, 5, 7), 3), ((1, 4, 1), 4), ((3, 6), 2), ((1, 32, 40, 3), 32),
                     ((2, 12, 33), 1), ((1, 1, 17), 1))
        for c in (0, 1)
    ),
    *(Case("edge", shape=s, groups=2, dtype="fp32", last=c)
      for s in ((0, 4, 3), (2, 0, 3), (2, 4, 0)) for c in (0, 1)),
    *(Case("edge", shape=(2, 8, 6, 8), groups=2, dtype=d, last=c, **more)
      for d in DTYPES for c in (0, 1)
      for more in ({"weight": "none"}, {"bias": "none"}, {"weight": "fp32", "bias": "fp32"},
                   {"silu": True}, {"values": "offset"})),
    *(Case("edge", shape=(1, 8, 64), groups=2, dtype="bf16", last=c, values="special") for c in (0, 1)),
    Case("edge", shape=(2, 8, 6, 8), groups=4, dtype="bf16", last=0, eps=0.5),
    *(Case("edge", shape=(1, 16, 3000), groups=4, dtype="fp16", last=c) for c in (0, 1)),
    *(Case("model", shape=(1, 64, 16, 16), groups=32, dtype="bf16", last=c, silu=True) for c in (0, 1)),
    *(Case("perf", shape=(16, 320, 64, 64), groups=32, dtype=d, last=c) for d in DTYPES for c in (0, 1)),
    *(Case("perf", shape=(1, 128, 512, 512), groups=32, dtype="bf16", last=c) for c in (0, 1)),
]  # fmt: skip

# Arguments in place of x (2, 8, 4) f32 in 2 groups, and what is said of them.
BAD_INPUT = [
    ({"num_groups": 3}, "x has 8 channels, expected a multiple of opts.num_groups = 3"),
    ({"num_groups": 0}, "opts.num_groups is 0, expected at least 1"),
    ({"weight": np.ones(7, np.float32)}, r"w has shape \(7,\), expected \(8,\)"),
    ({"bias": np.ones(8, np.float16)}, "b has dtype float16, expected x's float32"),
    ({"eps": -1.0}, "opts.eps is -1, expected at least 0"),
    ({"x": np.ones(8, np.float32)}, "x has rank 1, expected at least 2"),
    ({"x": np.ones((2, 8, 8), np.float32)[..., ::2]}, "x has stride 2 in dimension 2"),
    ({"x": np.ones((2, 8, 4))}, "x has dtype float64, expected float32, float16 or bfloat16"),
]


def make(case, seed=0):
    """Inputs (x, w, b) as NumPy arrays, x in its order in memory; what is not there is None."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(case.shape)
    match case.get("values"):
        case "offset":
            x += 100
        case "special":
            x[0, 1, 5] = np.nan
            x[0, 7, 3] = np.inf
    if case["last"]:
        x = np.moveaxis(x, 1, -1)
    channels = case.shape[1]

    def vector(name):
        return None if name == "none" else rng.standard_normal(channels).astype(dtype_of(name))

    x = np.ascontiguousarray(x).astype(dtype_of(case.dtype))
    return x, vector(case.get("weight", case.dtype)), vector(case.get("bias", case.dtype))


def options(case):
    return {
        "num_groups": case.groups,
        "eps": case.get("eps", 1e-5),
        "channels_last": bool(case["last"]),
        "silu": case.get("silu", False),
    }


def reference(x, w, b, num_groups, eps, channels_last, silu):
    """groupnorm in float64, from the contract in include/aiter/norm.h, and the scale of its error."""
    dtype = x.dtype
    x = x.astype(np.float64)
    if channels_last:
        x = np.moveaxis(x, -1, 1)
    shape = x.shape
    v = x.reshape(shape[0], num_groups, math.prod(shape[1:]) // num_groups)
    count = max(v.shape[-1], 1)
    with np.errstate(invalid="ignore"):
        mean = v.sum(-1, keepdims=True) / count
        deviation = np.sqrt(((v - mean) ** 2).sum(-1, keepdims=True) / count + eps)
        y = (v - mean) / deviation
        # v - mean is off by the fp32 rounding of the mean.
        rounding = 4 * 2.0**-24 / bound(dtype, count)
        magnitude = np.abs(v).sum(-1, keepdims=True) / count
        scale = np.abs(y) + rounding * (magnitude + np.abs(v)) / deviation
    y, scale = y.reshape(shape), scale.reshape(shape)
    channels = (-1, *[1] * (len(shape) - 2))
    if w is not None:
        w = w.astype(np.float64).reshape(channels)
        y, scale = y * w, scale * np.abs(w)
    if b is not None:
        b = b.astype(np.float64).reshape(channels)
        y, scale = y + b, scale + np.abs(b)
    if silu:
        with np.errstate(invalid="ignore", over="ignore"):
            y = y / (1 + np.exp(-y))
        scale = 1.1 * scale  # the slope of silu
    if channels_last:
        y, scale = np.moveaxis(y, 1, -1), np.moveaxis(scale, 1, -1)
    return y, scale
