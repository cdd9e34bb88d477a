"""Speed of reshape_and_cache_with_block_quant beside the machine's copy rate.

python tests/python/kvcache/bench_reshape_and_cache_with_block_quant.py
"""

import cases_reshape_and_cache_with_block_quant as cases
import test_reshape_and_cache_with_block_quant as test
from aiter.testing import bench


def main():
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        state, calls = cases.make(case)
        key, value, slots = calls[0]
        page_slots = case.get("page_slots", 0)
        (ours,) = bench.sample(
            lambda s=state, c=calls[0], p=page_slots: test.write(s, *c, page_slots=p)
        )
        bench.report(
            "reshape_and_cache_with_block_quant",
            case,
            ours,
            moved=2 * key.nbytes + 2 * key.size,
            ceilings=ceilings,
        )


if __name__ == "__main__":
    main()
