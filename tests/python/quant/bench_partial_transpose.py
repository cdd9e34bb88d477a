"""Speed of partial_transpose beside the copy rate: python tests/python/quant/bench_partial_transpose.py"""

import functools

import aiter
import cases_partial_transpose as cases
from aiter.testing import bench


def main():
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x, num_rows = cases.make(case)
        out = aiter.partial_transpose(x, num_rows)
        run = functools.partial(aiter.partial_transpose, x, num_rows, out=out)
        (ours,) = bench.sample(run)
        moved = 2 * x[: cases.valid_rows(case)].nbytes
        bench.report("partial_transpose", case, ours, moved=moved, ceilings=ceilings)


if __name__ == "__main__":
    main()
