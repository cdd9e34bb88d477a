"""Speed of greedy_sample beside torch.argmax and the machine's read rate:
python tests/python/sampling/bench_greedy_sample.py"""

import aiter
import cases_greedy_sample as cases
import numpy as np
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.read_rate() / 1e9}
    print(f"{bench.machine()}; read {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        logits = cases.make(case)
        out = np.empty(case.batch, np.int32)
        functions = [lambda x=logits, out=out: aiter.greedy_sample(x, out=out)]
        if torch:
            functions.append(lambda x=bench.to_torch(torch, logits): torch.argmax(x, -1))
        ours, *peers = bench.sample(*functions)
        bench.report(
            "greedy_sample",
            case,
            ours,
            moved=logits.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
