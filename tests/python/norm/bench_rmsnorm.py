"""Speed of rms_norm beside torch and the machine's copy rate: python tests/python/norm/bench_rmsnorm.py"""

import aiter
import cases_rmsnorm as cases
import numpy as np
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x, _, w = cases.make(case)
        out = np.empty_like(x)
        functions = [lambda x=x, w=w, out=out: aiter.rms_norm(x, w, out=out)]
        if torch:
            tx, tw = bench.to_torch(torch, x), bench.to_torch(torch, w)
            functions.append(
                lambda tx=tx, tw=tw: torch.nn.functional.rms_norm(tx, tw.shape, tw, 1e-6)
            )
        ours, *peers = bench.sample(*functions)
        bench.report(
            "rms_norm",
            case,
            ours,
            moved=2 * x.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
