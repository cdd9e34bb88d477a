"""Speed of shuffle_weight beside the copy rate: python tests/python/quant/bench_shuffle_weight.py"""

import functools

import aiter
import cases_shuffle_weight as cases
from aiter.testing import bench


def main():
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x = cases.make(case)
        packed = aiter.shuffle_weight(x, **cases.options(case))
        run = functools.partial(aiter.shuffle_weight, x, **cases.options(case), out=packed)
        (ours,) = bench.sample(run)
        bench.report("shuffle_weight", case, ours, moved=2 * x.nbytes, ceilings=ceilings)


if __name__ == "__main__":
    main()
