"""Speed of top_k_top_p_sampling beside torch: python tests/python/sampling/bench_top_k_top_p_sampling.py"""

import aiter
import cases_top_k_top_p_sampling as cases
import numpy as np
from aiter.testing import bench


def in_torch(torch, x, top_k=0, top_p=1.0):
    """The usual composition: torch.topk, a sort for top_p, softmax, multinomial."""
    index = None
    if top_k:
        x, index = torch.topk(x, top_k)
    elif top_p < 1:
        x, index = torch.sort(x, descending=True)
    p = torch.softmax(x, -1)
    if top_p < 1:
        p = torch.where(torch.cumsum(p, -1) - p < top_p, p, 0)
    token = torch.multinomial(p, 1)
    return token if index is None else torch.gather(index, 1, token)


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.read_rate() / 1e9}
    print(f"{bench.machine()}; read {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x = cases.make(case)
        out = np.empty(case.batch, np.int32)
        options = cases.options(case)
        offset = iter(range(1 << 40))
        functions = [
            lambda x=x, out=out, o=options, n=offset: aiter.top_k_top_p_sampling_from_logits(
                x, **o, offset=next(n), out=out
            )
        ]
        if torch:
            functions.append(lambda x=torch.from_numpy(x), o=options: in_torch(torch, x, **o))
        ours, *peers = bench.sample(*functions)
        bench.report(
            "top_k_top_p_sampling",
            case,
            ours,
            moved=x.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
