"""Problems, data and float64 reference of act_and_mul_backward, for its test and its bench."""

import math

import cases_act_and_mul as forward
import numpy as np
from aiter.testing import Case, bound, dtype_of

DTYPES, ACTIVATIONS = forward.DTYPES, forward.ACTIVATIONS

CASES = [
    *(Case("smoke", act=a, shape=(5, 256), dtype=d) for a in ACTIVATIONS for d in DTYPES),
    *(Case("edge", act="silu", shape=(3, 2 * d), dtype="bf16") for d in (1, 7, 8, 9, 15, 31, 33)),
    *(Case("edge", act=a, shape=(4, 66), dtype="fp32", limit=1.5) for a in ACTIVATIONS),
    *(Case("edge", act=a, shape=(4, 512), dtype="fp32", values="wide") for a in ACTIVATIONS),
    *(Case("edge", act="silu", shape=(4, 66), dtype="fp32", dy=d) for d in ("bf16", "fp16")),
    *(Case("edge", act=a, shape=(4, 256), dtype="bf16", interleaved=True) for a in ACTIVATIONS),
    *(
        Case("edge", act="swiglu", shape=(3, 2 * d), dtype="fp32", interleaved=True)
        for d in (1, 3, 7, 8, 9, 15, 17)
    ),
    Case("edge", act="gelu", shape=(2, 3, 5, 40), dtype="fp16"),
    Case("edge", act="silu", shape=(64,), dtype="fp32"),
    Case("edge", act="silu", shape=(0, 64), dtype="bf16"),
    Case("edge", act="silu", shape=(4, 0), dtype="bf16"),
    Case("model", act="silu", shape=(17, 28672), dtype="bf16"),
    *(
        Case("perf", act=a, shape=(8192, 8192), dtype=d)
        for a in ACTIVATIONS
        for d in (DTYPES if a == "silu" else ("bf16",))
    ),
]


def make(case, seed=0):
    """(dy, x) of a case."""
    x = forward.make(case, seed)
    shape = (*case.shape[:-1], case.shape[-1] // 2)
    dy = np.random.default_rng(seed + 1).standard_normal(shape)
    return dy.astype(dtype_of(case.get("dy", case.dtype))), x


def options(case):
    return {"limit": forward.limit_of(case), "interleaved": case.get("interleaved", False)}


def reference(dy, x, act, limit, interleaved, beta=4.0, linear=25.0):
    """act_and_mul_backward in float64, from the contract in include/aiter/activation.h.

    Returns (dx, scale), scale made of the magnitudes of the terms of the derivative.
    """
    g, u = forward.split(x, interleaved)
    inside = np.ones_like(g), np.ones_like(g)
    if limit:
        inside = g <= limit, np.abs(u) <= limit
        g, u = np.minimum(g, limit), np.clip(u, -limit, limit)
    dy = dy.astype(np.float64)
    z = forward.argument(g, act)
    z_slope = 1.0
    if act == "gelu":
        bell = np.exp(-(g**2) / 2) / math.sqrt(2 * math.pi)
        s = forward.distribution(g)
        terms = s, g * bell
        value = g * s
    else:
        with np.errstate(over="ignore"):
            s, rest = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(z))
        left, left_slope = g, 1.0
        if act == "situv2":
            t = np.tanh(g / beta)
            left, left_slope = beta * t, 1 - t * t
        elif act == "swiglu":
            z_slope = 1.702
        elif act == "gelu_tanh":
            z_slope = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * g**2)
        value = left * s
        terms = left_slope * s, value * rest * z_slope
    up, up_slope = u, np.ones_like(u)
    if act == "swiglu":
        up = u + 1
    elif act == "situv2":
        t = np.tanh(u / linear)
        up, up_slope = linear * t, 1 - t * t
    # 1 - s and 1 - t^2 are differences of numbers near 1.
    absolute = np.abs(value) + np.abs(s) if act != "gelu" else 0
    condition = 1 + np.minimum(np.abs(z), 100) / 4
    dg, du = dy * up * (terms[0] + terms[1]), dy * value * up_slope
    dg_scale = np.abs(dy * up) * ((np.abs(terms[0]) + np.abs(terms[1])) * condition)
    dg_scale += np.abs(dy * up) * absolute * bound("float32") / bound(x.dtype)
    du_scale = np.abs(dy * value) * condition
    tiny = 2.0**-126 / bound("float32")
    dg_scale += np.abs(dy * up) * (np.abs(g * z_slope) + 1) * tiny
    du_scale += np.abs(dy * g) * tiny
    dx, scale = np.empty(x.shape), np.empty(x.shape)
    for out, a, b in ((dx, dg * inside[0], du * inside[1]), (scale, dg_scale, du_scale)):
        if interleaved:
            out[..., ::2], out[..., 1::2] = a, b
        else:
            out[...] = np.concatenate([a, b], axis=-1)
    return dx, scale
