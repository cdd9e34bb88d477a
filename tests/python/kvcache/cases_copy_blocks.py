"""Problems and data of copy_blocks and swap_blocks, for the test and the bench."""

import numpy as np
from aiter.testing import Case, dtype_of

CASES = [
    *(
        Case("smoke", pages=12, shape=(4, 2, 8), pairs=5, dtype=d)
        for d in ("bf16", "fp32", "float8_e4m3fn", "int8")
    ),
    *(
        Case("edge", pages=12, shape=s, pairs=5, dtype="bf16")
        for s in ((1,), (7, 3), (3, 5, 1, 11))
    ),
    Case("edge", pages=12, shape=(70000,), pairs=5, dtype="int8"),
    Case("edge", pages=12, shape=(4, 8), pairs=0, dtype="bf16"),
    Case("edge", pages=12, shape=(4, 0), pairs=5, dtype="bf16"),
    Case("edge", pages=12, shape=(4, 8), pairs=5, dtype="bf16", ints="int32"),
    Case("perf", pages=2048, shape=(16, 8, 128), pairs=1024, dtype="bf16"),
]


def make(case, seed=0):
    """(key_cache, value_cache, block_mapping): no page is in it twice."""
    rng = np.random.default_rng(seed)
    dtype = dtype_of(case.dtype)
    caches = [
        rng.integers(0, 99, (case.pages, *case.shape)).astype(np.uint8).astype(dtype)
        for _ in range(2)
    ]
    mapping = rng.permutation(case.pages)[: 2 * case.pairs].reshape(-1, 2)
    return *caches, mapping.astype(case.get("ints", "int64"))


def reference(cache, mapping):
    want = cache.copy()
    for source, target in mapping:
        want[target] = cache[source]
    return want
