"""Speed of fused_qk_rope_reshape_and_cache beside the operators one after the other.

python tests/python/kvcache/bench_fused_qk_rope_reshape_and_cache.py
"""

import aiter
import cases_fused_qk_rope_reshape_and_cache as cases
import numpy as np
import test_fused_qk_rope_reshape_and_cache as test
from aiter.testing import bench


def main():
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        a = cases.make(case)
        q_out, key_out = np.empty_like(a["q"]), np.empty_like(a["key"])

        write = {
            "static": lambda key, a, names: aiter.reshape_and_cache(
                key, a["value"], *names, k_scale=a.get("k_scale"), v_scale=a.get("v_scale")
            ),
            "token": lambda key, a, names: aiter.reshape_and_cache_with_pertoken_quant(
                key, a["value"], *names[:2], a["k_scale"], a["v_scale"], names[2]
            ),
            "page": lambda key, a, names: aiter.reshape_and_cache_with_block_quant(
                key, a["value"], *names[:2], a["k_scale"], a["v_scale"], names[2]
            ),
        }[a["quant"]]

        def apart(a=a, q_out=q_out, key_out=key_out, write=write):
            aiter.fused_qk_norm_rope(
                a["q"], a["key"], None, a.get("q_weight"), a.get("k_weight"), a["cos"], a["sin"],
                a["pos"], a.get("eps"), out=(q_out, key_out),
            )  # fmt: skip
            write(key_out, a, (a["key_cache"], a["value_cache"], a["slot_mapping"]))

        k_out = key_out if a["quant"] == "page" else None
        ours, peer = bench.sample(
            lambda a=a, q_out=q_out, k_out=k_out: test.call(a, q_out=q_out, k_out=k_out), apart
        )
        moved = 2 * a["q"].nbytes + 2 * a["key"].size * (
            a["key"].itemsize + a["key_cache"].itemsize
        )
        bench.report(
            "fused_qk_rope_reshape_and_cache",
            case,
            ours,
            moved=moved,
            ceilings=ceilings,
            peers={"apart": peer},
        )


if __name__ == "__main__":
    main()
