"""Speed of exponential beside torch: python tests/python/sampling/bench_exponential.py"""

import aiter
import cases_exponential as cases
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 2e9}
    print(f"{bench.machine()}; write {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        out = cases.make(case)
        functions = [lambda out=out: aiter.exponential(out, seed=1)]
        if torch:
            functions.append(lambda out=torch.from_numpy(out): out.exponential_())
        ours, *peers = bench.sample(*functions)
        bench.report(
            "exponential",
            case,
            ours,
            moved=out.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
