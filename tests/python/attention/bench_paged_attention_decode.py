"""Speed of paged_attention_decode beside torch and the machine's read rate.

python tests/python/attention/bench_paged_attention_decode.py [filter]
"""

import sys

import aiter
import cases_paged_attention_decode as cases
import numpy as np
from aiter.testing import bench


def torch_peer(torch, case, call):
    """scaled_dot_product_attention over the same keys, contiguous: torch has no paged cache."""
    if len(set(case.lengths)) != 1:
        return None
    table = call["block_tables"][:, : -(-case.lengths[0] // case.page)]

    def gather(cache):
        flat = cache[table].reshape(len(table), -1, *cache.shape[2:])[:, : case.lengths[0]]
        return bench.to_torch(torch, np.ascontiguousarray(flat.swapaxes(1, 2)))

    k, v = gather(call["key_cache"]), gather(call["value_cache"])
    q = bench.to_torch(torch, call["query"])[:, :, None].to(k.dtype)
    return lambda: torch.nn.functional.scaled_dot_product_attention(
        q, k, v, enable_gqa=case.heads != case.kv_heads
    )


def main():
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.read_rate() / 1e9}
    print(f"{bench.machine()}; read {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf" and only in str(c)):
        call = cases.make(case)
        call["out"] = np.empty_like(call["query"])
        functions = {"ours": lambda call=call: aiter.paged_attention_decode(**call)}
        if torch and (peer := torch_peer(torch, case, call)):
            functions["torch"] = peer
        ours, *others = bench.sample(*functions.values())
        bench.report(
            "paged_attention_decode",
            case,
            ours,
            moved=cases.moved(case),
            ceilings=ceilings,
            peers=dict(zip(list(functions)[1:], others, strict=True)),
        )


if __name__ == "__main__":
    main()
