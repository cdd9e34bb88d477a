"""Speed of topk beside torch.topk and the machine's read rate: python tests/python/sampling/bench_topk.py"""

import aiter
import cases_topk as cases
import numpy as np
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.read_rate() / 1e9}
    print(f"{bench.machine()}; read {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x = cases.make(case)
        out = np.empty((case.rows, case.k), x.dtype), np.empty((case.rows, case.k), np.int64)
        functions = [
            lambda x=x, c=case, out=out: aiter.topk(x, c.k, sorted=c.sorted, out=out),
        ]
        if torch:
            functions.append(
                lambda x=bench.to_torch(torch, x), c=case: torch.topk(x, c.k, sorted=c.sorted)
            )
        ours, *peers = bench.sample(*functions)
        bench.report(
            "topk",
            case,
            ours,
            moved=x.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
