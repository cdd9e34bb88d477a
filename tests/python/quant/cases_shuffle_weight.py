"""Problems of shuffle_weight and shuffle_scale, and AITER's views and permutations as reference."""

import ml_dtypes
import numpy as np
from aiter.testing import Case

CASES = [
    *(Case("smoke", shape=(64, 128), dtype=d) for d in ("int8", "uint8", "bf16", "fp16", "fp32")),
    Case("smoke", shape=(64, 128), dtype="int8", layout=(32, 16)),
    Case("smoke", shape=(3, 32, 64), dtype="float8_e4m3fn"),
    Case("smoke", shape=(32, 128), dtype="int8", use_int4=True),
    Case("smoke", shape=(2, 64, 128), dtype="uint8", is_guinterleave=True),
    Case("smoke", shape=(2, 64, 128), dtype="uint8", is_guinterleave=True, gate_up=True),
    Case("edge", shape=(16, 32), dtype="int8"),
    *(Case("edge", shape=(n, 32), dtype="int8") for n in (48, 16 * 17)),
    *(Case("edge", shape=(2, 32, k), dtype=d, pad_k_to=64)
      for k in (64, 40, 33, 1) for d in ("int8", "bf16")),
    Case("edge", shape=(0, 64), dtype="int8"),
    Case("edge", shape=(2, 0, 64), dtype="bf16"),
    Case("model", shape=(2, 256, 512), dtype="bf16"),
    Case("perf", shape=(8, 4096, 2048), dtype="uint8", is_guinterleave=True, gate_up=True),
    Case("perf", shape=(8192, 4096), dtype="bf16"),
]  # fmt: skip
SHORT = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16, "fp32": np.float32}


def make(case, seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(SHORT.get(case.dtype) or getattr(ml_dtypes, case.dtype, None) or case.dtype)
    size = int(np.prod(case.shape)) * dtype.itemsize
    return rng.integers(0, 256, size, np.uint8).view(dtype).reshape(case.shape)


def options(case):
    return {k: v for k, v in case.items() if k not in ("shape", "dtype")}


def reference(x, layout=(16, 16), use_int4=False, is_guinterleave=False, gate_up=False, pad_k_to=0):
    """AITER's shuffle_weight, with padding before it: the elements in their new order."""
    if pad_k_to:
        extra = -x.shape[-1] % pad_k_to
        x = np.concatenate([x, np.zeros((*x.shape[:-1], extra), x.dtype)], axis=-1)
    n, k = x.shape[-2:]
    if is_guinterleave:
        lanes, pack = layout
        k_lanes = 64 // lanes
        if gate_up:
            v = x.reshape(-1, 2, n // 2 // lanes, lanes, k // (k_lanes * pack), k_lanes, pack)
            return v.transpose(0, 2, 1, 4, 5, 3, 6).ravel()
        v = x.reshape(-1, n // lanes, lanes, k // (k_lanes * pack), k_lanes, pack)
        return v.transpose(0, 1, 3, 4, 2, 5).ravel()
    rows, half = layout
    pack = 32 if use_int4 else 16 // x.itemsize
    v = x.reshape(-1, n // rows, rows, k // (2 * half), 2 * half // pack, pack)
    return v.transpose(0, 1, 3, 4, 2, 5).ravel()


def reference_scale(s, experts=1, gate_up=False):
    """AITER's shuffle_scale with is_guinterleave."""
    n = s.shape[0] // experts
    if gate_up:
        v = s.reshape(experts, 2, n // 32, 16, s.shape[1] // 8, 2, 4)
        return v.transpose(0, 2, 4, 6, 3, 5, 1).reshape(s.shape)
    v = s.reshape(experts, n // 32, 2, 16, s.shape[1] // 8, 2, 4)
    return v.transpose(0, 1, 4, 6, 3, 5, 2).reshape(s.shape)
