"""Speed of gather_cache beside torch and the machine's copy rate.

python tests/python/kvcache/bench_gather_cache.py
"""

import aiter
import cases_gather_cache as cases
import numpy as np
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        arguments = cases.make(case)
        cache = arguments["key_cache"]
        shape = (arguments["tokens"], case.heads, case.head_dim)
        dtype = cases.dtype_of(case.dtype)
        out = np.empty(shape, dtype), np.empty(shape, dtype)
        functions = [lambda a=arguments, o=out: aiter.gather_cache(**a, out=o)]
        if torch and cache.dtype == dtype:
            caches = [torch.from_numpy(arguments[c].view(np.int16)) for c in
                      ("key_cache", "value_cache")]  # fmt: skip
            pages = torch.from_numpy(arguments["block_table"][:, :-1].reshape(-1).astype(np.int64))
            outs = [torch.from_numpy(o.view(np.int16)).view(-1, *cache.shape[1:]) for o in out]
            functions.append(
                lambda c=caches, p=pages, o=outs: [
                    torch.index_select(x, 0, p, out=y) for x, y in zip(c, o, strict=True)
                ]
            )
        ours, *peers = bench.sample(*functions)
        bench.report(
            "gather_cache",
            case,
            ours,
            moved=2 * out[0].size * (cache.itemsize + dtype.itemsize),
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
