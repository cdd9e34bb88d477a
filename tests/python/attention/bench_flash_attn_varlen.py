"""Speed of flash_attn_varlen beside torch's scaled_dot_product_attention.

python tests/python/attention/bench_flash_attn_varlen.py [filter]
"""

import sys

import aiter
import cases_flash_attn_varlen as cases
import numpy as np
from aiter.testing import bench


def torch_peer(torch, case, call):
    """scaled_dot_product_attention on the same data in its own (batch, heads, seqlen, head_dim)."""
    (seqlen_q, seqlen_k), group = case.seqs[0], case.heads // case.kv_heads
    q, k, v = (
        bench.to_torch(torch, np.ascontiguousarray(call[n].swapaxes(0, 1)))[None] for n in "qkv"
    )
    causal = case.get("causal", False)
    if causal and seqlen_q != seqlen_k:
        return None
    return lambda: torch.nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=causal, enable_gqa=group > 1
    )


def main():
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    torch = bench.torch_or_none()
    print(bench.machine())
    for case in (c for c in cases.CASES if c.tag == "perf" and only in str(c)):
        call = cases.make(case)
        call["out"] = np.empty((*call["q"].shape[:2], case.head_dim), call["q"].dtype)
        functions = {"ours": lambda call=call: aiter.flash_attn_varlen_func(**call)}
        if torch and (peer := torch_peer(torch, case, call)):
            functions["torch"] = peer
        ours, *others = bench.sample(*functions.values())
        bench.report(
            "flash_attn_varlen",
            case,
            ours,
            flops=cases.flops(case),
            peers=dict(zip(list(functions)[1:], others, strict=True)),
        )


if __name__ == "__main__":
    main()
