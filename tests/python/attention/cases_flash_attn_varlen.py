"""Problems, data and float64 reference of flash_attn_varlen, for its test and its bench."""

import numpy as np
import reference
from aiter.testing import Case, dtype_of

DTYPES = ("bf16", "fp16", "fp32")
MIXED = ((5, 5), (1, 40), (0, 7), (17, 17), (3, 0), (0, 0), (70, 200))  # (seqlen_q, seqlen_k)


def case(tag, seqs, heads=2, kv_heads=None, head_dim=64, dtype="bf16", **more):
    return Case(
        tag,
        seqs=seqs,
        heads=heads,
        kv_heads=kv_heads or heads,
        head_dim=head_dim,
        dtype=dtype,
        **more,
    )


CASES = [
    *(case("smoke", MIXED, dtype=d, causal=c) for d in DTYPES for c in (False, True)),
    *(case("smoke", MIXED, 6, 2, dtype=d, causal=True, page=16) for d in DTYPES),
    # Sizes around the tiles: rows of queries (16, 64), keys (96), and head sizes.
    *(
        case("edge", ((sq, sk),), 1, causal=True, dtype=d)
        for d in ("bf16", "fp32")
        for sq, sk in (
            (1, 1),
            (15, 15),
            (16, 33),
            (17, 95),
            (63, 96),
            (64, 97),
            (65, 191),
            (130, 193),
        )
    ),
    *(
        case("edge", ((20, 50),), 2, 1, head_dim=d, dtype=t)
        for t in DTYPES
        for d in (1, 2, 7, 16, 31, 33, 40, 59, 96, 128, 256)
    ),
    *(
        case("edge", ((20, 50),), 2, 1, head_dim=64, v_dim=d, dtype=t)
        for t in DTYPES
        for d in (1, 33, 128)
    ),
    case("edge", ((20, 50),), 2, 1, head_dim=192, v_dim=128, causal=True),
    *(
        case("edge", ((3, 100), (5, 6)), h, hkv, causal=True)
        for h, hkv in ((5, 1), (12, 4), (40, 8), (128, 1), (7, 7))
    ),
    *(case("edge", ((9, 4), (40, 12)), causal=True, dtype=d) for d in DTYPES),  # rows without keys
    *(
        case("edge", ((30, 30), (5, 150), (110, 130)), causal=c, window=w, dtype=d)
        for d in ("bf16", "fp32")
        for c, w in (
            (False, (7, 3)),
            (True, (20, -1)),
            (False, (-1, 2)),
            (False, (0, 0)),
            (True, (100, 5)),
        )
    ),
    *(
        case(
            "edge",
            ((30, 30), (5, 450), (40, 300)),
            causal=True,
            window=(20, -1),
            sink_tokens=n,
            **p,
        )
        for n in (1, 4, 130)
        for p in ({}, {"page": 8})
    ),
    *(case("edge", ((30, 60),), dtype=d, soft_cap=c, gain=6) for d in DTYPES for c in (5.0, 30.0)),
    *(case("edge", ((30, 60),), dtype=d, scale=s) for d in DTYPES for s in (0.02, 1.5, -0.3)),
    *(case("edge", ((30, 60), (4, 0), (6, 2)), dtype=d, sink=True, causal=True) for d in DTYPES),
    *(
        case("edge", ((5, 37), (0, 9), (40, 90)), 4, 2, page=p, causal=True)
        for p in (1, 3, 7, 64, 1024)
    ),
    case("edge", ((5, 37), (0, 9), (40, 90)), 4, 2, page=7, causal=True, dtype="fp32"),
    *(
        case("edge", ((5, 37), (40, 90)), 4, 2, page=p, dtype="fp32", kv_dtype=d)
        for p in (0, 5)
        for d in ("fp16", "bf16")
    ),
    *(case("edge", ((5, 37), (40, 90)), used=(20, 0), page=p) for p in (0, 16)),
    case("edge", ()),
    case("edge", ((5, 5),), causal=True, gap=3),
    case("edge", ((33, 70), (5, 5)), 4, 2, causal=True, layout="qkv"),
    case("edge", ((33, 70), (5, 5)), 4, 2, causal=True, layout="heads_first", page=8),
    case("model", ((200, 200),), 9, 3, dtype="fp32", causal=True, page=16),
    case("model", ((64, 700), (1, 300)), 32, 8, head_dim=128, causal=True, page=16),
    *(
        case("perf", ((2048, 2048),), 8, head_dim=d, dtype=t, causal=c)
        for t in ("bf16", "fp32", "fp16")
        for d in (64, 128)
        for c in (False, True)
    ),
    case("perf", ((512, 512),), 9, 3, dtype="fp32", causal=True),
    case("perf", ((512, 512),), 9, 3, dtype="bf16", causal=True),
    case("perf", ((16, 4096),), 32, 8, head_dim=128, causal=True),
]


def make(case, seed=0, poison=False):
    """Arguments of a case: a dict for flash_attn_varlen_func.

    poison: the slots of k and v that belong to no key are NaN and infinite rather than random.
    """
    rng = np.random.default_rng(seed)
    dtype, kv_dtype = dtype_of(case.dtype), dtype_of(case.get("kv_dtype", case.dtype))
    heads, kv_heads, head_dim = case.heads, case.kv_heads, case.head_dim
    v_dim = case.get("v_dim", head_dim)
    lengths_q, lengths_k = (np.array([s[i] for s in case.seqs], np.int32) for i in (0, 1))
    cu_q, cu_k = (
        np.concatenate([[0], n]).cumsum().astype(np.int32) for n in (lengths_q, lengths_k)
    )
    gap = case.get("gap", 0)  # rows before and after the sequences
    cu_q += gap
    if not case.get("page"):
        cu_k += gap
    used = np.array(case.used, np.int32) if case.get("used") else None

    def normal(*shape, dtype):
        return (rng.standard_normal(shape) * case.get("gain", 1.0)).astype(dtype)

    def junk(*shape):
        if not poison:
            return normal(*shape, dtype=kv_dtype)
        return rng.choice([np.nan, np.inf, -np.inf], shape).astype(kv_dtype)

    if case.get("layout") == "qkv":  # q, k and v of a fused projection
        fused = normal(max(cu_q[-1], cu_k[-1]), heads + 2 * kv_heads, head_dim, dtype=dtype)
        q, k, v = np.split(fused, [heads, heads + kv_heads], axis=1)
        q, k, v = q[: cu_q[-1]], k[: cu_k[-1]], v[: cu_k[-1]]
    else:
        q = normal(cu_q[-1] + gap, heads, head_dim, dtype=dtype)
        k = normal(cu_k[-1], kv_heads, head_dim, dtype=kv_dtype)
        v = normal(cu_k[-1], kv_heads, v_dim, dtype=kv_dtype)
        v[:gap], k[:gap] = junk(gap, kv_heads, v_dim), junk(gap, kv_heads, head_dim)
    counts = lengths_k if used is None else used
    for b in range(len(case.seqs)):  # what is not used
        rest = slice(cu_k[b] + counts[b], cu_k[b + 1])
        k[rest], v[rest] = junk(*k[rest].shape), junk(*v[rest].shape)

    call = {"cu_seqlens_q": cu_q, "cu_seqlens_k": cu_k, "seqused_k": used}
    if case.get("page"):
        tables = paged(rng, k, v, cu_k, counts, case.page, junk, case.get("layout"))
        k, v, call["block_table"] = tables
        if used is not None:
            call["cu_seqlens_k"] = None
    call |= {"q": q, "k": k, "v": v, "causal": case.get("causal", False)}
    if "window" in case:
        call["window_size"] = (*case.window, case.get("sink_tokens", 0))
    for name, argument in (("soft_cap", "logits_soft_cap"), ("scale", "softmax_scale")):
        if name in case:
            call[argument] = case[name]
    if case.get("sink"):
        call["sink_ptr"] = rng.standard_normal(heads).astype(np.float32)
    return call


def paged(rng, k, v, cu_k, counts, page, junk, layout=None):
    """k and v spread over pages in random order: (key_cache, value_cache, block_table)."""
    batch = len(counts)
    per_sequence = [-(-int(n) // page) for n in counts]
    width = max(per_sequence, default=0) + 1
    pages = sum(per_sequence) + 3
    key_cache = junk(pages, page, *k.shape[1:])
    value_cache = junk(pages, page, *v.shape[1:])
    order = iter(rng.permutation(pages))
    table = np.full((batch, width), -1, np.int32)  # entries past the end are not looked at
    for b in range(batch):
        for p in range(per_sequence[b]):
            table[b, p] = next(order)
            n = min(page, counts[b] - p * page)
            at = cu_k[b] + p * page
            key_cache[table[b, p], :n] = k[at : at + n]
            value_cache[table[b, p], :n] = v[at : at + n]
    if layout == "heads_first":
        key_cache, value_cache = (
            np.ascontiguousarray(c.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
            for c in (key_cache, value_cache)
        )
    return key_cache, value_cache, table


def want(call):
    """The reference of a call: out, lse, and size and terms for error bounds."""
    q, k, v = (call[n].astype(np.float64) for n in "qkv")
    left, right, sink_tokens = (*call.get("window_size", (-1, -1)), 0)[:3]
    cu_q, cu_k, used = call["cu_seqlens_q"], call["cu_seqlens_k"], call["seqused_k"]
    out = np.zeros((*q.shape[:2], v.shape[-1]))
    size = np.zeros_like(out)
    lse = np.full((q.shape[1], q.shape[0]), -np.inf)
    terms = 1.0
    for b in range(len(cu_q) - 1):
        count = used[b] if used is not None else cu_k[b + 1] - cu_k[b]
        if call.get("block_table") is not None:
            pages = call["block_table"][b, : -(-int(count) // k.shape[1])]
            kb, vb = (x[pages].reshape(-1, *x.shape[2:])[:count] for x in (k, v))
        else:
            kb, vb = (x[cu_k[b] : cu_k[b] + count] for x in (k, v))
        rows = slice(cu_q[b], cu_q[b + 1])
        out[rows], lse[:, rows], size[rows], largest = reference.attention(
            q[rows],
            kb,
            vb,
            call.get("softmax_scale"),
            call.get("logits_soft_cap", 0),
            call["causal"],
            (left, right),
            sink_tokens,
            call.get("sink_ptr"),
        )
        terms = max(terms, reference.terms(q.shape[-1], count, largest))
    return out, lse, size, terms


def flops(case):
    """Operations of the two products, over visible keys."""
    total = 0
    for seqlen_q, seqlen_k in case.seqs:
        pairs = seqlen_q * seqlen_k
        if case.get("causal"):
            pairs -= seqlen_q * (seqlen_q - 1) // 2
        total += 4 * pairs * case.heads * case.head_dim
    return total
