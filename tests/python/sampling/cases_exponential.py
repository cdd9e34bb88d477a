"""Problems and references of exponential, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

DTYPES = ("bf16", "fp16", "fp32")

CASES = [
    *(Case("smoke", rows=3, n=1000, dtype=d) for d in DTYPES),
    *(Case("edge", rows=2, n=n, dtype="fp32") for n in (1, 3, 4, 5, 31, 32, 33, 63, 64, 65, 257)),
    Case("edge", rows=2, n=100, dtype="fp32", lambd=3.5, eps=0.25),
    Case("edge", rows=0, n=8, dtype="fp32"),
    Case("edge", rows=8, n=0, dtype="fp32"),
    *(Case("perf", rows=r, n=151936, dtype="fp32") for r in (1, 64)),
]


def philox_words(seed, offset, n, blocks):
    """Words of Philox 4x32-10, (blocks, 4), for the counters (offset, n, 0), (offset, n, 1), ..."""
    low = np.uint64(0xFFFFFFFF)
    c = [
        np.full(blocks, offset & 0xFFFFFFFF, np.uint64),
        np.full(blocks, offset >> 32 & 0xFFFFFFFF, np.uint64),
        np.full(blocks, n, np.uint64),
        np.arange(blocks, dtype=np.uint64),
    ]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [b >> np.uint64(32) ^ c[1] ^ np.uint64(k0), b & low,
             a >> np.uint64(32) ^ c[3] ^ np.uint64(k1), a & low]  # fmt: skip
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, 1).astype(np.uint32)


def uniforms(seed, offset, n, count):
    """The u of -log(u), as 1 - u and u, each exact where it is below a half."""
    words = philox_words(seed, offset, n, -(-count // 4)).reshape(-1)[:count].astype(np.float64)
    u_less = (words + 0.5) * 2.0**-32
    return u_less, (2.0**32 - 1 - words + 0.5) * 2.0**-32


def reference(seed, offset, n, count, lambd=1.0, eps=1e-10):
    """-log(u) / lambd + eps in float64."""
    less, u = uniforms(seed, offset, n, count)
    return np.where(less < 0.5, -np.log1p(-less), -np.log(u)) / lambd + eps


def make(case):
    return np.full((case.rows, case.n), np.nan, dtype_of(case.dtype))


def options(case):
    return {name: case[name] for name in ("lambd", "eps") if name in case}
