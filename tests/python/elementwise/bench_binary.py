"""Speed of add and its kin beside torch and the machine's copy rate:
python tests/python/elementwise/bench_binary.py"""

import aiter
import cases_binary as cases
import numpy as np
from aiter.testing import bench


def to_torch(torch, x):
    """bench.to_torch for arrays that may be transposed."""
    if x.strides[-1] == x.itemsize or x.ndim < 2:
        return bench.to_torch(torch, x)
    return bench.to_torch(torch, x.T).T


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        a, b = cases.make(case)
        out = np.empty(a.shape, a.dtype)
        functions = [lambda f=getattr(aiter, case.op), a=a, b=b, out=out: f(a, b, out=out)]
        if torch:
            ta, tb, ty = (to_torch(torch, x) for x in (a, b, out))
            functions.append(lambda f=getattr(torch, case.op), a=ta, b=tb, y=ty: f(a, b, out=y))
        ours, *peers = bench.sample(*functions)
        bench.report(
            "binary",
            case,
            ours,
            moved=a.nbytes + b.nbytes + out.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
