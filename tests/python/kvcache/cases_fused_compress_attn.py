"""Problems, data and reference of fused_compress_attn, for its test and its bench."""

import cases_fused_qk_rope_reshape_and_cache as fused
import numpy as np
from aiter.testing import Case, dtype_of

EPS = 1e-4
# Of each sequence: positions before this call, and rows of it.
SMALL = {"lengths": ((0, 9), (7, 6), (30, 1), (3, 3)), "dim": 64, "width": 8, "block": 16}

CASES = [
    *(
        Case("smoke", **SMALL, dtype=d, ratio=4, overlap=o)
        for d in ("bf16", "fp32", "fp16")
        for o in (False, True)
    ),
    Case("smoke", **SMALL, dtype="bf16", ratio=4, overlap=True, states="bf16", lines=11),
    *(
        Case("edge", **SMALL, dtype="bf16", ratio=r, overlap=o)
        for r in (1, 3, 8)
        for o in (False, True)
    ),
    *(
        Case("edge", lengths=((2, 5),), dim=d, width=w, block=2, dtype="bf16", ratio=2,
             overlap=True, neox=w % 2 == 0)
        for d, w in ((2, 1), (7, 2), (130, 33), (1024, 64), (24, 0))
    ),
    Case("edge", lengths=((300, 40),), dim=32, width=4, block=8, dtype="bf16", ratio=128, overlap=False),
    Case("edge", **SMALL, dtype="bf16", ratio=4, overlap=True, weights="none"),
    Case("edge", lengths=(), dim=64, width=8, block=4, dtype="bf16", ratio=4, overlap=False),
    Case("perf", lengths=((0, 4096),), dim=512, width=32, block=64, dtype="bf16", ratio=4, overlap=True),
    Case("perf", lengths=((0, 4096),), dim=512, width=32, block=64, dtype="bf16", ratio=128,
         overlap=False),
]  # fmt: skip


def make(case, seed=0):
    """The arguments of aiter.fused_compress_attn but for the cache, by name; block tables for it."""
    rng = np.random.default_rng(seed)
    dtype, states = dtype_of(case.dtype), dtype_of(case.get("states", "fp32"))
    count = case.ratio * (2 if case.overlap else 1)
    dims = case.dim * (2 if case.overlap else 1)
    rows = sum(n for _, n in case.lengths)
    sequences = len(case.lengths)
    lines = case.get("lines", count)
    plan, row, most = [], 0, 1
    for b, (before, new) in enumerate(case.lengths):
        for p in range(before, before + new):
            if (p + 1) % case.ratio == 0:
                window = min(max(count - (p - before + 1), 0), count)
                plan.append((row + p - before, b, p, window))
        row += new
        most = max(most, before + new)
    plan.append((-1, -1, -1, 0))
    columns = -(-most // case.ratio // case.block) + 1
    pages = sequences * columns + 2
    angles = rng.random((most + 1, case.width)) * 6
    tables = rng.permutation(pages)[: sequences * columns].reshape(sequences, columns)

    def numbers(*shape, kind=dtype):
        return rng.standard_normal(shape).astype(kind)

    return {
        "kv_in": numbers(rows, dims),
        "score_in": numbers(rows, dims) * dtype.type(2),
        "kv_state": numbers(sequences + 1, lines, dims, kind=states),
        "score_state": numbers(sequences + 1, lines, dims, kind=states) * states.type(2),
        "plan": np.array(plan, np.int32),
        "state_slot_mapping": rng.permutation(sequences + 1)[:sequences].astype(np.int32),
        "ape": numbers(case.ratio, dims, kind=np.float32),
        "rms_weight": None if "weights" in case else numbers(case.dim, kind=np.float32),
        "rms_eps": EPS,
        "cos_cache": np.cos(angles).astype(dtype) if case.width else None,
        "sin_cache": np.sin(angles).astype(dtype) if case.width else None,
        "block_tables": tables.astype(np.int32),
        "overlap": case.overlap,
        "ratio": case.ratio,
        "is_neox": case.get("neox", False),
    }, pages


def reference(kv_in, score_in, kv_state, score_state, plan, state_slot_mapping, ape, rms_weight,
              rms_eps, cos_cache, sin_cache, block_tables, overlap, ratio, is_neox):  # fmt: skip
    """(heads, their magnitude) in float64, for the rows of the plan that have one."""
    count = ratio * (2 if overlap else 1)
    dim = kv_in.shape[1] // (2 if overlap else 1)
    means, sizes, turn = [], [], []
    for row, sequence, position, window in plan.astype(np.int64):
        if position < 0:
            continue
        kv, score = [], []
        for k in range(count):
            at = position - count + 1 + k
            half = slice(dim, None) if k >= ratio else slice(0, dim)
            if at < 0:
                continue
            if k < window:
                where = state_slot_mapping[sequence], at % kv_state.shape[1]
                kv.append(kv_state[where][half].astype(np.float64))
                score.append(score_state[where][half].astype(np.float64))
            else:
                line = row - (count - 1 - k)
                kv.append(kv_in[line][half].astype(np.float64))
                score.append(score_in[line][half].astype(np.float64) + ape[k % ratio][half])
        kv, score = np.array(kv), np.array(score)
        weights = np.exp(score - score.max(0))
        weights /= weights.sum(0)
        means.append((weights * kv).sum(0))
        sizes.append((weights * np.abs(kv)).sum(0))
        turn.append(position - position % ratio)
    means = np.array(means).reshape(-1, 1, dim)
    normal = fused.normalized(means, rms_weight, rms_eps, False)
    gain = np.abs(normal) / np.maximum(np.abs(means), 1e-300)
    rope = np.array(turn, np.int64), cos_cache, sin_cache, is_neox, True
    heads, _ = fused.turned(normal, *rope)
    _, size = fused.turned(np.array(sizes).reshape(means.shape) * gain, *rope)
    return heads[:, 0], size[:, 0]


def slots(plan, tables, ratio, block):
    """Where the heads go: (page, slot) each."""
    plan = plan[plan[:, 2] >= 0]
    c = plan[:, 2] // ratio
    return tables[plan[:, 1], c // block], c % block
