"""Speed of reshape_and_cache_flash beside torch and the machine's copy rate.

python tests/python/kvcache/bench_reshape_and_cache_flash.py
"""

import aiter
import cases_reshape_and_cache_flash as cases
import numpy as np
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        arrays = cases.make(case)
        key, value, key_cache, value_cache, slots = arrays
        functions = [lambda a=arrays: aiter.reshape_and_cache_flash(*a)]
        if torch:
            # Bits are copied, so integers of the same width will do for torch.
            bits = {2: np.int16, 4: np.int32}[key.itemsize]
            tk, tv, tkc, tvc = (torch.from_numpy(a.view(bits)) for a in arrays[:4])
            tkc, tvc = tkc.flatten(0, 1), tvc.flatten(0, 1)
            ts = torch.from_numpy(slots)

            def peer(tk=tk, tv=tv, tkc=tkc, tvc=tvc, ts=ts):
                tkc.index_copy_(0, ts, tk)
                tvc.index_copy_(0, ts, tv)

            functions.append(peer)
        ours, *peers = bench.sample(*functions)
        bench.report(
            "reshape_and_cache_flash",
            case,
            ours,
            moved=2 * (key.nbytes + value.nbytes),
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
