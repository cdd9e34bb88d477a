"""Problems of partial_transpose."""

import numpy as np
from aiter.testing import Case, dtype_of

CASES = [
    *(Case("smoke", shape=(70, 130), valid=65, dtype=d) for d in ("fp32", "bf16", "uint8")),
    *(Case("edge", shape=(5, 8), valid=n, dtype="fp32") for n in (-3, 0, 1, 4, 5, 9)),
    *(Case("edge", shape=(n, 3), valid=n, dtype="fp16") for n in (1, 63, 64, 65, 129)),
    *(Case("edge", shape=(7, n), valid=6, dtype="uint8") for n in (1, 63, 64, 65, 129)),
    *(Case("edge", shape=s, valid=4, dtype="fp32") for s in ((0, 8), (8, 0))),
    Case("model", shape=(1024, 56), valid=700, dtype="fp32"),
    Case("perf", shape=(16384, 56), valid=16000, dtype="fp32"),
    Case("perf", shape=(16384, 4096), valid=16000, dtype="bf16"),
]


def make(case, seed=0):
    """(x, num_rows)"""
    bits = np.random.default_rng(seed).integers(1, 100, case.shape)
    return bits.astype(dtype_of(case.dtype)), np.array([case.valid], np.int32)


def valid_rows(case):
    return min(max(case.valid, 0), case.shape[0])
