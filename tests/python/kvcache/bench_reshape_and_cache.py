"""Speed of reshape_and_cache beside torch and the machine's copy rate.

python tests/python/kvcache/bench_reshape_and_cache.py
"""

import cases_reshape_and_cache as cases
import numpy as np
import test_reshape_and_cache as test
from aiter.testing import bench


def peer(torch, arguments):
    """torch's index_copy_, for caches that take a token's rows as they are."""
    # Bits are copied, so integers of the same width will do for torch.
    bits = {2: np.int16, 4: np.int32}[arguments["key"].itemsize]
    pairs = [
        (torch.from_numpy(arguments[c].view(bits)).flatten(0, 1),
         torch.from_numpy(arguments[r].view(bits)))
        for r, c in (("key", "key_cache"), ("value", "value_cache"))
    ]  # fmt: skip
    slots = torch.from_numpy(arguments["slot_mapping"])

    def run():
        for cache, rows in pairs:
            cache.index_copy_(0, slots, rows)

    return run


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        arguments = cases.make(case)
        functions = [lambda a=arguments: test.write(**a)]
        if torch and case.get("layout", "flash") == "flash" and "cache" not in case:
            functions.append(peer(torch, arguments))
        ours, *peers = bench.sample(*functions)
        key, cache = arguments["key"], arguments["key_cache"]
        bench.report(
            "reshape_and_cache",
            case,
            ours,
            moved=2 * key.size * (key.itemsize + cache.itemsize),
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
