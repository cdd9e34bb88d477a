"""Speed of act_and_mul_backward beside torch and the machine's copy rate:
python tests/python/activation/bench_act_and_mul_backward.py"""

import aiter
import cases_act_and_mul_backward as cases
import numpy as np
from aiter.testing import bench
from bench_act_and_mul import in_torch


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        dy, x = cases.make(case)
        out, options = np.empty_like(x), cases.options(case)
        functions = [
            lambda c=case, dy=dy, x=x, o=options, dx=out: aiter.act_and_mul_backward(
                dy, x, c.act, **o, out=dx
            )
        ]
        if torch:
            tx = bench.to_torch(torch, x).requires_grad_()
            ty, tdy = in_torch(torch, case.act, *tx.chunk(2, -1)), bench.to_torch(torch, dy)
            functions.append(
                lambda tx=tx, ty=ty, dy=tdy: torch.autograd.grad(ty, tx, dy, retain_graph=True)
            )
        ours, *peers = bench.sample(*functions)
        bench.report(
            "act_and_mul_backward",
            case,
            ours,
            moved=2 * x.nbytes + dy.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
