"""Speed of copy_blocks beside torch and the machine's copy rate.

python tests/python/kvcache/bench_copy_blocks.py
"""

import aiter
import cases_copy_blocks as cases
import numpy as np
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        key, value, mapping = cases.make(case)
        functions = [lambda k=key, v=value, m=mapping: aiter.copy_blocks([k], [v], m)]
        if torch:
            caches = [torch.from_numpy(c.view(np.int16)) for c in (key, value)]
            ends = torch.from_numpy(mapping).T.contiguous()

            def peer(caches=caches, ends=ends):
                for cache in caches:
                    cache.index_copy_(0, ends[1], cache.index_select(0, ends[0]))

            functions.append(peer)
        ours, *peers = bench.sample(*functions)
        bench.report(
            "copy_blocks",
            case,
            ours,
            moved=4 * len(mapping) * key[0].nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
