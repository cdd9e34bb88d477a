"""Problems, data and float64 reference of paged_attention_decode, for its test and its bench."""

import cases_flash_attn_varlen as varlen
import numpy as np
from aiter.testing import Case

DTYPES = varlen.DTYPES
LENGTHS = (40, 0, 1, 257, 96)


def case(tag, lengths, heads=6, kv_heads=2, head_dim=64, dtype="bf16", page=16, **more):
    return Case(
        tag,
        lengths=lengths,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        dtype=dtype,
        page=page,
        **more,
    )


CASES = [
    *(case("smoke", LENGTHS, dtype=d) for d in DTYPES),
    *(case("smoke", LENGTHS, dtype="fp32", kv_dtype=d) for d in ("bf16", "fp16")),
    *(
        case("edge", (n, n + 1), 3, 1, dtype=d)
        for d in ("bf16", "fp32")
        for n in (15, 31, 63, 64, 95, 127, 128)
    ),
    *(
        case("edge", LENGTHS, 4, 2, head_dim=d, dtype=t)
        for t in DTYPES
        for d in (1, 2, 7, 16, 33, 40, 59, 96, 128, 192, 256)
    ),
    *(
        case("edge", LENGTHS, head_dim=64, v_dim=d, dtype=t)
        for t in DTYPES
        for d in (1, 33, 100, 128)
    ),
    case("edge", LENGTHS, 128, 1, head_dim=192, v_dim=128),
    *(
        case("edge", LENGTHS, g * 2, 2, dtype=t)
        for t in ("bf16", "fp32")
        for g in (1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 40, 64, 65)
    ),
    *(
        case("edge", LENGTHS, page=p, dtype=t)
        for t in ("bf16", "fp32")
        for p in (1, 3, 7, 64, 1024)
    ),
    *(
        case("edge", LENGTHS, window=(w, -1), sink_tokens=n, dtype=t)
        for t in ("bf16", "fp32")
        for w in (0, 20, 100)
        for n in (0, 5)
    ),
    *(case("edge", LENGTHS, soft_cap=c, gain=6, dtype=d) for d in DTYPES for c in (5.0, 30.0)),
    *(case("edge", LENGTHS, scale=s, dtype=d) for d in DTYPES for s in (0.02, -0.3)),
    *(case("edge", LENGTHS, sink=True, dtype=d) for d in DTYPES),
    case("edge", ()),
    case("edge", (0, 0)),
    *(case("edge", LENGTHS, layout="heads_first", dtype=d) for d in DTYPES),
    *(case("model", (700,), 9, 3, dtype=d) for d in DTYPES),
    case("model", (1000, 3, 2049), 32, 8, head_dim=128),
    *(case("model", (130,) * 20, 8, 1, head_dim=128, dtype=d) for d in DTYPES),
    # The small model, one layer: a cache that fits the caches of the machine.
    *(case("perf", (n,), 9, 3, dtype=d) for d in DTYPES for n in (128, 512, 2048)),
    case("perf", (1024,), 9, 3, dtype="fp32", kv_dtype="fp16"),
    # Beyond the caches.
    *(case("perf", (65536,), 9, 3, dtype=d) for d in DTYPES),
    *(case("perf", (65536,), 32, 8, head_dim=128, dtype=d) for d in DTYPES),
    *(case("perf", (4096,) * 32, 32, 8, head_dim=128, dtype=d) for d in ("bf16", "fp16")),
    case("perf", (262144,), 32, 1, head_dim=128),
    case("perf", (65536,), 32, 8, head_dim=128, page=1),
    case("perf", (65536,), 8, 8, head_dim=128),
]


def make(case, seed=0, poison=False):
    """Arguments of a case: a dict for paged_attention_decode."""
    call = varlen.make(Case(case.tag, **case, seqs=[(1, n) for n in case.lengths]), seed, poison)
    renamed = {
        "query": call["q"],
        "key_cache": call["k"],
        "value_cache": call["v"],
        "seq_lens": np.array(case.lengths, np.int32),
        "block_tables": call["block_table"],
    }
    if "softmax_scale" in call:
        renamed["attn_scale"] = call["softmax_scale"]
    for name in ("window_size", "logits_soft_cap", "sink_ptr"):
        if name in call:
            renamed[name] = call[name]
    return renamed


def want(call):
    """The reference of a call: out, lse (batch, heads), and size and terms for error bounds."""
    batch = len(call["seq_lens"])
    out, lse, size, terms = varlen.want(
        {
            "q": call["query"],
            "k": call["key_cache"],
            "v": call["value_cache"],
            "cu_seqlens_q": np.arange(batch + 1),
            "cu_seqlens_k": None,
            "seqused_k": call["seq_lens"],
            "block_table": call["block_tables"],
            "softmax_scale": call.get("attn_scale"),
            "causal": False,
        }
        | {n: call[n] for n in ("window_size", "logits_soft_cap", "sink_ptr") if n in call}
    )
    return out, lse.T, size, terms


def moved(case):
    """Bytes of keys and values that a call reads."""
    itemsize = varlen.dtype_of(case.get("kv_dtype", case.dtype)).itemsize
    return sum(case.lengths) * case.kv_heads * 2 * case.head_dim * itemsize
