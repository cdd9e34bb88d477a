"""Speed of fused_compress_attn.

python tests/python/kvcache/bench_fused_compress_attn.py
"""

import aiter
import cases_fused_compress_attn as cases
import numpy as np
from aiter.testing import bench


def main():
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        arguments, pages = cases.make(case)
        cache = np.zeros((pages, case.block, case.dim), arguments["kv_in"].dtype)
        (ours,) = bench.sample(
            lambda a=arguments, c=cache: aiter.fused_compress_attn(kv_cache=c, **a)
        )
        moved = 2 * arguments["kv_in"].nbytes + len(arguments["plan"]) * case.dim * 2
        bench.report("fused_compress_attn", case, ours, moved=moved, ceilings=ceilings)


if __name__ == "__main__":
    main()
