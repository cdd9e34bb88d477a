"""Problems, data and float64 reference of indexer_qk_rope_quant_and_cache, for its test and bench."""

import cases_fused_qk_rope_reshape_and_cache as fused
import numpy as np
from aiter.testing import Case, dtype_of
from paged import quant

SMALL = {"heads": 3, "dim": 64, "width": 16, "pages": 3, "block": 16}

CASES = [
    *(
        Case("smoke", tokens=9, **SMALL, dtype=d, ue8m0=u, preshuffle=p)
        for d in ("bf16", "fp16", "fp32")
        for u in (False, True)
        for p in (False, True)
    ),
    *(
        Case("edge", tokens=5, **SMALL, dtype="bf16", code=c, neox=n)
        for c in ("float8_e4m3fn", "float8_e4m3fnuz")
        for n in (True, False)
    ),
    *(
        Case("edge", tokens=5, heads=2, dim=d, width=w, pages=2, block=4, dtype="fp32")
        for d, w in ((4, 2), (20, 3), (68, 34), (512, 256))
    ),
    Case("edge", tokens=0, **SMALL, dtype="bf16"),
    Case("edge", tokens=5, **(SMALL | {"heads": 0}), dtype="bf16"),
    Case("perf", tokens=4096, heads=64, dim=128, width=32, pages=64, block=64, dtype="bf16",
         ue8m0=True),
]  # fmt: skip


def make(case, seed=0):
    """The arguments of aiter.indexer_qk_rope_quant_and_cache, by name."""
    rng = np.random.default_rng(seed)
    dtype = dtype_of(case.dtype)

    def array(*shape):
        return (rng.standard_normal(shape) + 0.3).astype(dtype)

    angles = rng.random((40, case.width)) * 6
    slots = rng.permutation(case.pages * case.block)[: case.tokens]
    slots[1::4] = -1
    return {
        "q": array(case.tokens, case.heads, case.dim),
        "weights": array(case.tokens, case.heads),
        "k": array(case.tokens, case.dim),
        "kv_cache": rng.integers(0, 99, (case.pages, case.block, case.dim + 4)).astype(np.uint8),
        "slot_mapping": slots,
        "norm_weight": rng.standard_normal(case.dim).astype(np.float32),
        "norm_bias": rng.standard_normal(case.dim).astype(np.float32),
        "positions": rng.integers(0, 40, case.tokens),
        "cos_cache": np.cos(angles).astype(dtype),
        "sin_cache": np.sin(angles).astype(dtype),
        "epsilon": 1e-5,
        "scale_fmt": "ue8m0" if case.get("ue8m0") else "",
        "weights_scale": 0.25,
        "preshuffle": case.get("preshuffle", False),
        "is_neox": case.get("neox", True),
        "cache_dtype": case.get("code", "float8_e4m3fn"),
    }


def reference(q, k, norm_weight, norm_bias, positions, cos_cache, sin_cache, epsilon, is_neox,
              **others):  # fmt: skip
    """q and k before they become codes, in float64, rounded where the contract rounds."""
    rope = positions, cos_cache, sin_cache, is_neox, False
    x = k.astype(np.float64)
    x = x - x.mean(axis=1, keepdims=True)
    x = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + epsilon) * norm_weight + norm_bias
    x = x.astype(k.dtype)[:, None]
    return fused.turned(q, *rope)[0], fused.turned(x, *rope)[0][:, 0]


def scales(numbers, floor, code, ue8m0):
    amax = np.maximum(np.abs(numbers).max(axis=-1, initial=0), floor)
    if not ue8m0:
        return amax / quant.MAX[code]
    return np.exp2(np.ceil(np.log2(amax / quant.MAX[code])))
