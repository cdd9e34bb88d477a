"""Problems, data and reference of fused_qk_norm_rope_group_quant, for its test and its bench."""

import cases_fused_qk_rope_reshape_and_cache as fused
import numpy as np
from aiter.testing import Case, dtype_of

Q_EPS, KV_EPS = 1e-5, 1e-4
SMALL = {"tokens": 7, "heads": 3, "dim": 64, "width": 8}

CASES = [
    *(
        Case("smoke", **SMALL, dtype=d, neox=neox, splits=s)
        for d, s in (("bf16", 0), ("fp16", 2), ("fp32", 3))
        for neox in (True, False)
    ),
    *(Case("smoke", **SMALL, dtype=d, parts="fp32", splits=3) for d in ("bf16", "fp16")),
    *(Case("edge", **SMALL, dtype="bf16", weights=w) for w in ("none", "fp32")),
    *(
        Case("edge", tokens=5, heads=2, dim=d, width=w, dtype="bf16", neox=neox, splits=2)
        for d, w in ((2, 1), (7, 2), (24, 3), (130, 33), (512, 32), (1024, 64))
        for neox in (True, False)
    ),
    Case("edge", tokens=0, heads=2, dim=64, width=8, dtype="bf16"),
    Case("edge", tokens=3, heads=0, dim=64, width=8, dtype="bf16"),
    Case("edge", tokens=300, heads=1, dim=16, width=8, dtype="fp16", splits=1),
    Case("perf", tokens=4096, heads=16, dim=512, width=32, dtype="bf16"),
    Case("perf", tokens=4096, heads=16, dim=512, width=32, dtype="bf16", parts="fp32", splits=2),
]
ROWS = 40  # of the tables


def make(case, seed=0):
    """The arguments of aiter.fused_reduce_qk_norm_rope_swa_write but for the ring, by name."""
    rng = np.random.default_rng(seed)
    dtype, splits = dtype_of(case.dtype), case.get("splits", 0)
    parts = dtype_of(case.get("parts", case.dtype))
    angles = rng.random((ROWS, case.width)) * 6
    shape = (case.tokens, case.heads * case.dim)
    weights = [None, None]
    if case.get("weights") != "none":
        kind = np.float32 if case.get("weights") == "fp32" else dtype
        weights = [rng.standard_normal(case.dim).astype(kind) for _ in range(2)]
    return {
        "q": rng.standard_normal((splits, *shape) if splits else shape).astype(parts),
        "kv": rng.standard_normal((case.tokens, case.dim)).astype(dtype),
        "q_norm_weight": weights[0],
        "kv_norm_weight": weights[1],
        "q_rms_eps": Q_EPS,
        "kv_rms_eps": KV_EPS,
        "rope_head_dim": 2 * case.width,
        "cos_cache": np.cos(angles).astype(dtype),
        "sin_cache": np.sin(angles).astype(dtype),
        "positions": rng.integers(0, ROWS, case.tokens),
        "is_neox": case.get("neox", False),
    }


def reference(q, kv, q_norm_weight, kv_norm_weight, q_rms_eps, kv_rms_eps, rope_head_dim, cos_cache,
              sin_cache, positions, is_neox):  # fmt: skip
    """(heads of q and of kv, magnitudes of what they are sums of), in float64."""
    results = []
    for x, weight, eps in ((q, q_norm_weight, q_rms_eps), (kv, kv_norm_weight, kv_rms_eps)):
        heads = x.shape[-1] // (kv.shape[1] or 1)
        parts = x.astype(np.float64).reshape(
            x.shape[0] if x.ndim == 3 else 1, len(kv), heads, kv.shape[1]
        )
        total, size = parts.sum(0), np.abs(parts).sum(0)
        normal = fused.normalized(total, weight, eps, False)
        gain = np.abs(normal) / np.maximum(np.abs(total), 1e-300)
        rope = positions, cos_cache, sin_cache, is_neox, True
        turned, _ = fused.turned(normal, *rope)
        _, size = fused.turned(size * gain, *rope)
        results.append((turned, size))
    (q64, q_size), (kv64, kv_size) = results
    return (q64, q_size), (kv64[:, 0], kv_size[:, 0])


def hadamard(x):
    """float32 heads times the Walsh-Hadamard matrix, stages from distance 1 up, times 1 / sqrt(n)."""
    n, h = x.shape[-1], 1
    out = x.astype(np.float32)
    while h < n:
        pair = out.reshape(*out.shape[:-1], n // (2 * h), 2, h)
        a, b = pair[..., 0, :], pair[..., 1, :]
        out = np.stack([a + b, a - b], -2).reshape(x.shape)
        h *= 2
    return out * np.float32(1 / np.sqrt(n))
