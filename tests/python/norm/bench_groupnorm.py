"""Speed of groupnorm_run beside torch and the machine's copy rate:
python tests/python/norm/bench_groupnorm.py"""

import functools

import aiter
import cases_groupnorm as cases
import numpy as np
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x, w, b = cases.make(case)
        options = cases.options(case)
        out = np.empty_like(x)
        call = functools.partial(aiter.groupnorm_run, x, weight=w, bias=b, out=out, **options)
        functions = [call]
        if torch:
            tx, tw, tb = (bench.to_torch(torch, a) for a in (x, w, b))
            if case["last"]:
                tx = tx.movedim(-1, 1)
            group_norm = torch.nn.functional.group_norm
            functions.append(functools.partial(group_norm, tx, case.groups, tw, tb))
        ours, *peers = bench.sample(*functions)
        bench.report("groupnorm", case, ours, moved=2 * x.nbytes, ceilings=ceilings,
                     peers=dict(zip(["torch"], peers, strict=False)))  # fmt: skip


if __name__ == "__main__":
    main()
