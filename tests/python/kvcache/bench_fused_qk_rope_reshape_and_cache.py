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

        def apart(a=a, q_out=q_out, key_out=key_out):
            aiter.rotary_embedding_fwd(
                a["pos"], a["q"], a["key"], case.head_dim, a["cos"], a["sin"], True,
                out=(q_out, key_out),
            )  # fmt: skip
            aiter.reshape_and_cache(
                key_out, a["value"], a["key_cache"], a["value_cache"], a["slot_mapping"],
                k_scale=a.get("k_scale"), v_scale=a.get("v_scale"),
            )  # fmt: skip

        ours, peer = bench.sample(lambda a=a, q_out=q_out: test.call(a, q_out=q_out), apart)
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
