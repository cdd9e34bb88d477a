"""Speed of renorm_probs beside torch: python tests/python/sampling/bench_renorm_probs.py"""

import aiter
import cases_renorm_probs as cases
import numpy as np
from aiter.testing import bench


def in_torch(torch, p, top_k=0, top_p=1.0, min_p=0.0):
    """The usual composition: torch.topk or a sort for the threshold."""
    if top_k:
        kept = p >= torch.topk(p, top_k).values[:, -1:]
    elif top_p < 1:
        s, index = torch.sort(p, descending=True)
        mask = torch.cumsum(s, -1) - s < top_p
        kept = torch.zeros_like(mask).scatter_(1, index, mask)
    else:
        kept = p >= min_p * p.amax(-1, keepdim=True)
    q = torch.where(kept, p, 0)
    return q / q.sum(-1, keepdim=True)


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        p = cases.make(case)
        out = np.empty_like(p)
        options = cases.options(case)
        functions = [
            lambda p=p, out=out, o=options: aiter.top_k_top_p_renorm_probs(p, **o, out=out)
        ]
        if torch:
            functions.append(lambda p=torch.from_numpy(p), o=options: in_torch(torch, p, **o))
        ours, *peers = bench.sample(*functions)
        bench.report(
            "renorm_probs",
            case,
            ours,
            moved=2 * p.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
