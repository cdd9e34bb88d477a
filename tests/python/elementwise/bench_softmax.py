"""Speed of softmax beside torch and the machine's copy rate:
python tests/python/elementwise/bench_softmax.py"""

import aiter
import cases_softmax as cases
import numpy as np
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x = cases.make(case)
        out = np.empty_like(x)
        functions = [lambda x=x, out=out: aiter.softmax(x, out=out)]
        if torch:
            functions.append(lambda x=bench.to_torch(torch, x): torch.softmax(x, dim=-1))
        ours, *peers = bench.sample(*functions)
        bench.report(
            "softmax",
            case,
            ours,
            moved=2 * x.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
