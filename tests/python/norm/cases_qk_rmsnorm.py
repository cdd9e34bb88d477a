"""Problems, data and reference of qk_rmsnorm, for its test and its bench.

The reference is that of its two parts: cases_norm_quant for q, cases_rmsnorm for k.
"""

import numpy as np
from aiter import Quant
from aiter.testing import Case, dtype_of
from cases_norm_quant import FNUZ, FP8, INT8, MXFP4

DTYPES = ("bf16", "fp16", "fp32")

CASES = [
    *(Case("smoke", rows=5, q=256, k=64, dtype=d) for d in DTYPES),
    *(
        Case("smoke", rows=5, q=256, k=64, quant=q, residual=True)
        for q in (Quant(FP8), Quant(FNUZ, 128), MXFP4, Quant(INT8))
    ),
    *(
        Case("edge", rows=3, q=n, k=m)
        for n, m in ((1, 7), (9, 1), (100, 20), (64, 4096), (4096, 64))
    ),
    *(Case("edge", rows=3, q=n, k=m, quant=Quant(FP8, 32)) for n, m in ((100, 64), (64, 5))),
    *(Case("edge", rows=5, q=128, k=0, quant=q) for q in (None, Quant(FP8))),
    Case("edge", rows=5, q=128, k=64, gemma=True),
    Case("edge", rows=5, q=128, k=64, gemma=True, residual=True, quant=Quant(FP8, 128)),
    Case("edge", rows=5, q=128, k=64, split=True, residual=True),
    Case("edge", rows=0, q=128, k=64, quant=Quant(FP8)),
    Case("model", rows=3, q=1536, k=512, split=True, quant=Quant(FP8, 128)),
    *(
        Case("perf", rows=16384, q=1536, k=512, split=True, quant=q)
        for q in (None, Quant(FP8, 128), Quant(FP8))
    ),
]


def make(case, seed=0):
    """q, and the arguments of aiter.fused_qk_rmsnorm but for what says where results go."""
    rng = np.random.default_rng(seed)
    dtype = dtype_of(case.get("dtype", "bf16"))

    def numbers(*shape):
        return rng.standard_normal(shape).astype(dtype)

    if case.get("split"):  # slices of one projection
        both = numbers(case.rows, case.q + case.k + 64)
        q, k = both[:, : case.q], both[:, case.q : case.q + case.k]
    else:
        q, k = numbers(case.rows, case.q), numbers(case.rows, case.k)
    options = {"q_weight": numbers(case.q), "q_epsilon": 1e-5, "k_epsilon": 1e-4}
    if case.k:
        options |= {"k": k, "k_weight": numbers(case.k)}
    if case.get("residual"):
        options["q_residual"] = numbers(case.rows, case.q)
    return q, options | {"gemma_norm": case.get("gemma", False), "quant": case.get("quant")}
