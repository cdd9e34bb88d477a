"""Problems, data and reference of groupnorm_quant, for its test and its bench.

The reference is composed: the norm in float64 (cases_groupnorm), and the exact quantizer
(tests/python/quant/cases_quantize) of the fp32 norm that the operator itself shows.
"""

import cases_groupnorm
import numpy as np
from aiter import Quant
from aiter.testing import Case
from cases_norm_quant import E5M2, FNUZ, FP4, FP8, INT8, MXFP4, MXFP8

DTYPES = cases_groupnorm.DTYPES
FP6 = "float6_e2m3fnx4"
SHUFFLED = MXFP4._replace(scale_layout="shuffled")
NVFP4 = Quant(FP4, 16, scale_dtype=FP8, global_scale=0.01)

# Shapes are (batch, channels, ...); `last` says whether x is with channels last.
CASES = [
    *(Case("smoke", shape=(2, 32, 3, 32), groups=2, dtype=d, last=c, residual=True)
      for d in DTYPES for c in (0, 1)),
    *(Case("smoke", shape=(1, 64, 2, 64), groups=4, dtype="bf16", last=c, quant=q)
      for q in (Quant(FP8), Quant(FNUZ), Quant(FP8, 32), MXFP4, MXFP8) for c in (0, 1)),
    *(Case("edge", shape=s, groups=g, dtype="bf16", last=c, residual=c == 1)
      for s, g in (((2, 6, 5, 7), 3), ((1, 4, 1), 4), ((3, 6), 2), ((3, 16), 2), ((2, 40, 9, 24), 4),
                   ((1, 32, 40, 3), 32), ((2, 12, 33), 1), ((1, 1, 17), 1), ((3, 48, 50, 8), 8))
      for c in (0, 1)),
    *(Case("edge", shape=(2, 40, 5, 40), groups=4, dtype=d, last=c, quant=q)
      for d in DTYPES for c in (0, 1)
      for q in (Quant(FP8, 16), Quant(FNUZ, 32), Quant(INT8, 64), Quant(FP8, 128))),
    *(Case("edge", shape=(1, 44, 3, 36), groups=2, dtype="fp16", last=c, quant=q, silu=True)
      for c in (0, 1) for q in (MXFP4, Quant(FP8, 32), Quant(FP6, 32, scale_dtype=MXFP4.scale_dtype))),
    *(Case("edge", shape=(2, 64, 64), groups=4, dtype="bf16", last=c, quant=q)
      for c in (0, 1)
      for q in (SHUFFLED, NVFP4, Quant(E5M2, scale_dtype="bfloat16"), Quant(INT8, scale_ub=0.5))),
    *(Case("edge", shape=(1, 64, 64), groups=4, dtype="fp32", last=1,
           quant=MXFP4._replace(round_mode=r)) for r in range(4)),
    *(Case("edge", shape=(2, 16, 3, n), groups=2, dtype="bf16", last=c, quant=q, static=s)
      for c in (0, 1) for n in (16, 10)
      for q, s in ((Quant(FP8), "one"), (Quant(INT8), "rows"), (Quant(FP8, 16), "groups"))),
    *(Case("edge", shape=(2, n, 5, n), groups=4, dtype="bf16", last=c, smooth=True, silu=True)
      for n in (32, 20) for c in (0, 1)),
    *(Case("edge", shape=(2, 16, 6, 16), groups=2, dtype=d, last=c, **more)
      for d in DTYPES for c in (0, 1)
      for more in ({"weight": "none"}, {"bias": "none"}, {"weight": "fp32", "bias": "fp32"},
                   {"values": "offset"})),
    *(Case("edge", shape=(2, n, 5, n), groups=2, dtype=d, last=c, values="offset", quant=q)
      for n in (24, 40) for d in ("fp16", "fp32") for c in (0, 1) for q in (Quant(INT8), Quant(FP8, 32))),
    *(Case("edge", shape=s, groups=2, dtype="fp32", last=c)
      for s in ((0, 4, 3), (2, 0, 3), (2, 4, 0)) for c in (0, 1)),
    *(Case("edge", shape=(1, 8, 64), groups=2, dtype="bf16", last=c, values="special", quant=q)
      for c in (0, 1) for q in (Quant(INT8), Quant(FP8, 32))),
    *(Case("edge", shape=(1, 8, 64), groups=2, dtype="bf16", last=c, values="zeros") for c in (0, 1)),
    *(Case("model", shape=(1, 320, 6, 16), groups=32, dtype="bf16", last=c, quant=q, silu=True)
      for c in (0, 1) for q in (Quant(FP8), MXFP8)),
    Case("model", shape=(1, 2, 2, 4104), groups=1, dtype="bf16", last=0, quant=Quant(FP8)),
    *(Case("perf", shape=(2, 320, 64, 64), groups=32, dtype="bf16", last=c, quant=q, residual=True)
      for c in (0, 1) for q in (Quant(INT8), Quant(FP8, 32), MXFP4)),
    *(Case("perf", shape=(1, 128, 512, 512), groups=32, dtype="bf16", last=c, quant=Quant(FP8))
      for c in (0, 1)),
]  # fmt: skip


def make(case, seed=0):
    """x, num_groups, and the other arguments of aiter.groupnorm_quant."""
    x, w, b = cases_groupnorm.make(case, seed)
    if case.get("values") == "zeros":
        x[...] = 0
    rng = np.random.default_rng(seed + 1)
    options = cases_groupnorm.options(case) | {"weight": w, "bias": b}
    if case.get("residual"):
        options["residual_in"] = rng.standard_normal(x.shape).astype(x.dtype)
    if case.get("smooth"):
        options["smooth"] = rng.random(case.shape[1]).astype(np.float32) + np.float32(0.5)
    quant = case.get("quant", Quant(INT8))
    if "static" in case:
        groups = -(-x.shape[-1] // quant.group_size) if quant.group_size else 1
        scale_shape = (1,) if case.static == "one" else (*x.shape[:-1], groups)
        quant = quant._replace(scale=(rng.random(scale_shape).astype(np.float32) + 0.1) / 16)
    return x, options | {"quant": quant}


def norm(x, weight, bias, num_groups, eps, channels_last, silu, residual_in=None, **_):
    """(v, scale of its error, residual_out), in float64, from the contract in include/aiter/norm.h."""
    residual_out = None
    if residual_in is not None:
        residual_out = (x.astype(np.float32) + residual_in.astype(np.float32)).astype(x.dtype)
        x = residual_out
    v, scale = cases_groupnorm.reference(
        x.astype(np.float32), weight, bias, num_groups, eps, channels_last, silu
    )
    return v, scale, residual_out


def moments(x, num_groups, eps, channels_last):
    """Mean and 1 / sqrt(variance + eps) of each group in float64, and the scale of their error."""
    x = x.astype(np.float64)
    if channels_last:
        x = np.moveaxis(x, -1, 1)
    groups = x.reshape(len(x), num_groups, -1)
    with np.errstate(invalid="ignore"):
        inverse = 1 / np.sqrt(groups.var(-1) + eps)
        scale = np.stack([np.abs(groups).mean(-1), inverse], -1)
        return np.stack([groups.mean(-1), inverse], -1), scale


def factors(x, smooth, channels_last):
    """smooth, to be multiplied with numbers like x."""
    return smooth if channels_last else smooth.reshape(-1, *[1] * (x.ndim - 2))
