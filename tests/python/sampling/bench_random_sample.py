"""Speed of random_sample beside torch and the machine's read rate:
python tests/python/sampling/bench_random_sample.py"""

import aiter
import cases_random_sample as cases
import numpy as np
from aiter.testing import bench


def in_torch(torch, x):
    p = torch.softmax(x, -1, dtype=torch.float32)
    return p.div_(torch.empty_like(p).exponential_(1)).argmax(-1)


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.read_rate() / 1e9}
    print(f"{bench.machine()}; read {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x = cases.make(case)
        out = np.empty(case.batch, np.int32)
        offset = iter(range(1 << 40))
        functions = [lambda x=x, out=out, n=offset: aiter.random_sample(x, offset=next(n), out=out)]
        if torch:
            functions.append(lambda x=bench.to_torch(torch, x): in_torch(torch, x))
        ours, *peers = bench.sample(*functions)
        bench.report(
            "random_sample",
            case,
            ours,
            moved=x.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
