"""Speed of dequantize beside the copy rate: python tests/python/quant/bench_dequantize.py"""

import functools

import aiter
import cases_dequantize as cases
import numpy as np
from aiter.testing import bench


def main():
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x, options = cases.make(case)
        codes, scale = aiter.quantize(x, **options)
        y = np.empty_like(x)
        run = functools.partial(
            aiter.dequantize,
            codes,
            scale,
            options["group"],
            "bfloat16",
            quant_dtype=case.code,
            out=y,
        )
        (ours,) = bench.sample(run)
        moved = y.nbytes + codes.nbytes
        bench.report("dequantize", case, ours, moved=moved, ceilings=ceilings)


if __name__ == "__main__":
    main()
