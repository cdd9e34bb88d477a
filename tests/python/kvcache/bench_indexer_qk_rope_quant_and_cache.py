"""Speed of indexer_qk_rope_quant_and_cache beside the machine's copy rate.

python tests/python/kvcache/bench_indexer_qk_rope_quant_and_cache.py
"""

import aiter
import cases_indexer_qk_rope_quant_and_cache as cases
import numpy as np
from aiter.testing import bench


def main():
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        a = cases.make(case)
        out = np.empty(a["q"].shape, np.uint8), np.empty(a["weights"].shape, np.float32)
        (ours,) = bench.sample(
            lambda a=a, out=out: aiter.indexer_qk_rope_quant_and_cache(**a, out=out)
        )
        moved = a["q"].nbytes + a["q"].size + a["k"].nbytes + a["k"].size
        bench.report("indexer_qk_rope_quant_and_cache", case, ours, moved=moved, ceilings=ceilings)


if __name__ == "__main__":
    main()
