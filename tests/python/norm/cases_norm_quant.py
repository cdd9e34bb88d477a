"""Problems, data and reference of norm_quant, for its test and its bench.

The reference is composed: the norm in float64 (cases_rmsnorm, cases_layernorm), and the exact
quantizer (tests/python/quant/cases_quantize) of the fp32 row that the operator itself shows.
"""

import cases_layernorm
import cases_rmsnorm
import numpy as np
from aiter import Quant
from aiter.testing import Case, bound, dtype_of

INT8, FP8, FNUZ, E5M2, FP4 = (
    "int8",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float4_e2m1fnx2",
)
E8M0 = "float8_e8m0fnu"
KINDS = ("rms", "layer")
DTYPES = ("bf16", "fp16", "fp32")
MXFP4, MXFP8 = (Quant(c, 32, scale_dtype=E8M0) for c in (FP4, FP8))

CASES = [
    *(Case("smoke", shape=(5, 256), kind=k, dtype=d) for k in KINDS for d in DTYPES),
    *(
        Case("smoke", shape=(5, 256), kind=k, quant=q, residual=True)
        for k in KINDS
        for q in (Quant(FP8), Quant(FNUZ), Quant(FP8, 128), MXFP4, MXFP8)
    ),
    Case("smoke", shape=(3, 4, 128), gate=True, flatten=True, quant=Quant(FP8, 128)),
    Case("smoke", shape=(3, 4, 128), gate=True, flatten=True, quant=Quant(FP8)),
    *(
        Case("edge", shape=(5, 256), quant=Quant(FP8, g), dtype=d)
        for g in (16, 32, 64)
        for d in DTYPES
    ),
    *(
        Case("edge", shape=(4, n), quant=q, kind=k, residual=True)
        for n in (8, 24, 104, 264)
        for k, q in (("rms", Quant(FP8, 128)), ("layer", MXFP4), ("rms", Quant(INT8)))
    ),
    *(Case("edge", shape=(3, n), kind="layer", residual=True) for n in (1, 7, 9, 17, 65, 129)),
    *(Case("edge", shape=(3, n), quant=Quant(FP8, 32), residual=True) for n in (1, 31, 33, 100)),
    *(
        Case("edge", shape=(9, 256), quant=Quant(FP4, 32, scale_dtype=E8M0, round_mode=r))
        for r in range(4)
    ),
    *(
        Case("edge", shape=s, quant=Quant(FP4, 32, scale_dtype=E8M0, scale_layout="shuffled"))
        for s in ((40, 320), (2, 3, 256))
    ),
    Case("edge", shape=(9, 128), quant=Quant(FP4, 16, scale_dtype=FP8, global_scale=0.01)),
    Case("edge", shape=(9, 128), quant=Quant(INT8, scale_ub=0.5)),
    Case("edge", shape=(9, 128), quant=Quant(E5M2, scale_dtype="bfloat16")),
    *(
        Case("edge", shape=(9, n), quant=Quant(c, g), static=s)
        for n in (128, 100)
        for c, g, s in ((FP8, 0, "one"), (INT8, 0, "rows"), (FP8, 32, "groups"))
    ),
    *(
        Case("edge", shape=(5, n), kind=k, smooth=True, residual=r)
        for k in KINDS
        for n in (64, 100)
        for r in (False, True)
    ),
    Case("edge", shape=(5, 100), kind="layer", x_bias=True),
    Case("edge", shape=(5, 128), kind="layer", x_bias=True),
    Case("edge", shape=(5, 128), kind="layer", x_bias=True, residual=True),
    *(Case("edge", shape=(5, 128), dtype=d, gemma=True) for d in DTYPES),
    *(
        Case("edge", shape=(5, n), dtype=d, model_sensitive=True)
        for d in DTYPES
        for n in (100, 128)
    ),
    *(
        Case("edge", shape=s, gate=True, flatten=True, quant=q, dtype=d)
        for s in ((3, 5, 96), (2, 3, 24))
        for q, d in ((Quant(FP8, 32), "bf16"), (Quant(INT8, 128), "fp32"), (Quant(FP8), "fp16"))
    ),
    Case("edge", shape=(3, 4, 64), flatten=True, smooth=True, quant=Quant(INT8, 64)),
    Case("edge", shape=(5, 128), gate=True, kind="layer"),
    Case("edge", shape=(0, 64)),
    Case("edge", shape=(4, 0)),
    Case("edge", shape=(0, 4, 64), flatten=True),
    Case("edge", shape=(64,), dtype="fp32"),
    Case("edge", shape=(2, 3, 40), quant=Quant(FP8, 16)),
    Case("edge", shape=(5, 128), values="special"),
    Case("edge", shape=(5, 128), values="special", kind="layer", quant=Quant(FP8, 32)),
    Case("edge", shape=(5, 128), values="zeros"),
    Case("model", shape=(3, 4096), quant=Quant(FP8, 128), residual=True),
    Case("model", shape=(2, 20480), quant=Quant(FP8), residual=True),
    Case("model", shape=(2, 4096), kind="layer", quant=MXFP8, dtype="fp32"),
    *(
        Case("perf", shape=(8192, 4096), kind=k, quant=q, residual=r)
        for k, q, r in (
            ("rms", Quant(FP8), False),
            ("rms", Quant(FP8), True),
            ("rms", Quant(FP8, 128), True),
            ("rms", MXFP4, True),
            ("layer", Quant(INT8), False),
            ("layer", Quant(INT8), True),
        )
    ),
]


def make(case, seed=0):
    """x, and the arguments of aiter.norm_quant but for what says where results go."""
    rng = np.random.default_rng(seed)
    dtype, shape = dtype_of(case.get("dtype", "bf16")), case.shape
    hidden = shape[-1]
    kind = case.get("kind", "rms")

    def numbers(shape, dtype=dtype):
        return rng.standard_normal(shape).astype(dtype)

    x = numbers(shape)
    match case.get("values"):
        case "special":
            x[0, 3], x[1, 5], x[2, 7] = np.inf, -np.inf, np.nan
        case "zeros":
            x[::2] = 0
    options = {"kind": kind, "w": numbers(hidden), "eps": 1e-5}
    if kind == "layer":
        options["b"] = numbers(hidden)
    if case.get("x_bias"):
        options["x_bias"] = numbers(hidden)
    if case.get("residual"):
        options["residual_in"] = numbers(shape)
    if case.get("gate"):
        options["gate"] = numbers(shape)
    flatten = case.get("flatten", False)
    columns = shape[-2] * hidden if flatten else hidden
    rows = (*shape[:-2], columns) if flatten else shape
    if case.get("smooth"):
        options["smooth"] = rng.random(columns).astype(np.float32) + np.float32(0.5)
    options["flatten"] = flatten
    options["gemma_norm"] = case.get("gemma", False)
    options["use_model_sensitive_rmsnorm"] = int(case.get("model_sensitive", False))
    quant = case.get("quant", Quant(INT8))
    if "static" in case:
        groups = -(-columns // quant.group_size) if quant.group_size else 1
        scale_shape = (1,) if case.static == "one" else (*rows[:-1], groups)
        quant = quant._replace(scale=rng.random(scale_shape).astype(np.float32) / 16)
    return x, options | {"quant": quant}


def norm(x, w=None, b=None, kind="rms", eps=1e-6, x_bias=None, residual_in=None, gate=None,
         gemma_norm=False, use_model_sensitive_rmsnorm=0, **_):  # fmt: skip
    """(v, scale of its error, residual_out) in float64, from the contract in include/aiter/norm.h."""
    residual_out = None
    if residual_in is not None:
        total = x.astype(np.float32) + (0 if x_bias is None else x_bias.astype(np.float32))
        residual_out = (total + residual_in.astype(np.float32)).astype(x.dtype)
        x, x_bias = residual_out, None
    if kind == "rms":
        v = cases_rmsnorm.reference(x, w, eps, gemma_norm, use_model_sensitive_rmsnorm)
        # Rounded between: neighbours of x's dtype may come out, which are that far apart.
        half = 2 if use_model_sensitive_rmsnorm else 0
        scale = np.abs(v) * (1 + half * bound(x.dtype) / bound(np.float32, x.shape[-1]))
    else:
        v, scale = cases_layernorm.reference(x.astype(np.float32), w, b, eps, x_bias)
    if gate is not None:
        z = gate.astype(np.float64)
        gate = z / (1 + np.exp(-z))
        v, scale = v * gate, 2 * scale * np.abs(gate)
    return v, scale, residual_out
