"""Speed of requantize beside the copy rate: python tests/python/quant/bench_requantize.py"""

import functools

import aiter
import cases_requantize as cases
import numpy as np
from aiter.testing import bench


def main():
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x = np.random.default_rng(0).standard_normal(case.shape).astype(np.float32)
        codes, scale = aiter.quantize(x, case.group, case.code)
        options = cases.options(case)
        out, out_scale = aiter.requantize(codes, scale, **options)
        run = functools.partial(
            aiter.requantize, codes, scale, **options, out=out, out_scale=out_scale
        )
        (ours,) = bench.sample(run)
        bench.report("requantize", case, ours, moved=2 * codes.nbytes, ceilings=ceilings)


if __name__ == "__main__":
    main()
