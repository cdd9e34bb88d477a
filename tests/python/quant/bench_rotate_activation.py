"""Speed of rotate_activation beside the copy rate: python tests/python/quant/bench_rotate_activation.py"""

import functools

import aiter
import cases_rotate_activation as cases
from aiter.testing import bench


def main():
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x = cases.make(case)
        options = cases.options(case)
        quant = aiter.Quant(**options) if options else None
        result = aiter.rotate_activation(x, quant)
        out, scale = result if quant else (result, None)
        run = functools.partial(aiter.rotate_activation, x, quant, out=out, out_scale=scale)
        (ours,) = bench.sample(run)
        bench.report(
            "rotate_activation", case, ours, moved=x.nbytes + out.nbytes, ceilings=ceilings
        )


if __name__ == "__main__":
    main()
