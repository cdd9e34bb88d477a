"""Problems, data and references of rotate_activation."""

import functools

import cases_quantize
import numpy as np
from aiter.testing import Case, dtype_of

CASES = [
    *(Case("smoke", shape=(3, n)) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 2048)),
    *(Case("smoke", shape=(5, 64), dtype=d) for d in ("fp16", "fp32")),
    Case("smoke", shape=(5, 128), quant="float8_e4m3fn"),
    Case("smoke", shape=(5, 128), quant="float4_e2m1fnx2", group=32, scale="float8_e8m0fnu"),
    Case("edge", shape=(2, 3, 64), quant="int8"),
    Case("edge", shape=(2, 3, 256), quant="float8_e4m3fnuz", group=128),
    Case("edge", shape=(40, 256), quant="float4_e2m1fnx2", group=32, scale="float8_e8m0fnu",
         layout="shuffled"),
    Case("edge", shape=(0, 64)),
    Case("edge", shape=(1, 8192), dtype="fp32"),
    Case("model", shape=(17, 128)),
    *(Case("perf", shape=((1 << 25) // n, n)) for n in (128, 512, 4096)),
    Case("perf", shape=(1 << 18, 128), quant="float4_e2m1fnx2", group=32, scale="float8_e8m0fnu"),
]  # fmt: skip


def make(case, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(case.shape).astype(dtype_of(case.get("dtype", "bf16")))


def options(case):
    """aiter.Quant's fields of a case, or None."""
    if "quant" not in case:
        return None
    return {
        "quant_dtype": case.quant,
        "group_size": case.get("group", 0),
        "scale_dtype": case.get("scale", "float32"),
        "scale_layout": case.get("layout", "strided"),
    }


@functools.cache
def matrix(n):
    """(-1)^popcount(i & j) / sqrt(n), in float64."""
    i = np.arange(n)
    signs = np.array([bin(k).count("1") & 1 for k in range(n)])
    return (1.0 - 2.0 * signs[i[:, None] & i]) / np.sqrt(n)


def reference(x):
    return x.astype(np.float64) @ matrix(x.shape[-1])


def staged(x):
    """In fp32, stage by stage, as include/aiter/quant.h says: the same bits."""
    v = x.astype(np.float32)
    n = v.shape[-1]
    h = 1
    while h < n:
        pairs = v.reshape(*v.shape[:-1], n // (2 * h), 2, h)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        v = np.stack([a + b, a - b], axis=-2).reshape(v.shape)
        h *= 2
    return v * np.float32(1 / np.sqrt(np.float64(n)))


def quantized(v, quant_dtype, group_size, scale_dtype, scale_layout):
    """(codes, scale, padding) of fp32 numbers; scales of the padding are undefined."""
    codes, scale = cases_quantize.reference(
        v, (1, group_size), quant_dtype, scale_dtype=scale_dtype
    )
    if scale_layout == "shuffled":
        return codes, *cases_quantize.shuffle(scale.reshape(-1, scale.shape[-1]))
    return codes, scale, np.zeros(scale.shape, bool)
