"""Speed of fused_qk_norm_rope_group_quant beside the operators one after the other.

python tests/python/kvcache/bench_fused_qk_norm_rope_group_quant.py
"""

import aiter
import cases_fused_qk_norm_rope_group_quant as cases
import numpy as np
from aiter.testing import bench


def main():
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        a = cases.make(case)
        ring = np.zeros((4, 128, case.dim), a["kv"].dtype)
        batches, rings = np.zeros(case.tokens, np.int32), np.array([2], np.int32)
        out = np.empty((case.tokens, case.heads, case.dim), a["kv"].dtype), a["kv"].copy()
        tables = a["cos_cache"], a["sin_cache"], a["positions"]

        def fused(a=a, ring=ring, batches=batches, rings=rings, out=out):
            aiter.fused_reduce_qk_norm_rope_swa_write(
                **a, batch_id_per_token=batches, state_slot_mapping=rings, swa_kv=ring, out=out
            )

        def apart(a=a, ring=ring, case=case, out=out, tables=tables):
            q = a["q"]
            if q.ndim == 3:
                q = aiter.add(q[0], q[1]).astype(a["kv"].dtype)
            aiter.fused_qk_norm_rope(
                q.reshape(out[0].shape), a["kv"][:, None], None, a["q_norm_weight"],
                a["kv_norm_weight"], *tables, cases.Q_EPS, False, is_nope_first=True,
                out=(out[0], out[1][:, None]),
            )  # fmt: skip
            half = case.dim // 2
            slots = 256 + a["positions"] % 128
            aiter.concat_and_cache_mla(out[1][:, :half], out[1][:, half:], ring, slots)

        ours, peer = bench.sample(fused, apart)
        moved = a["q"].nbytes + out[0].nbytes + 3 * out[1].nbytes
        bench.report(
            "fused_reduce_qk_norm_rope_swa_write", case, ours, moved=moved, ceilings=ceilings,
            peers={"apart": peer},
        )  # fmt: skip

        x = out[0]
        for code in (None, "float8_e4m3fn", "float4_e2m1fnx2"):
            results = aiter.rope_rotate_activation(x, *tables, code)
            results = results if code else (results,)
            given = dict(zip(("out", "out_scale"), results, strict=False))
            turned = np.empty_like(x)
            quant = code and aiter.Quant(
                code, 32 if "4_e2" in code else 128,
                scale_dtype="float8_e8m0fnu" if "4_e2" in code else "float32",
            )  # fmt: skip

            def separate(x=x, turned=turned, quant=quant, given=given, tables=tables):
                aiter.fused_qk_norm_rope(
                    x, x[:, :0], None, None, None, *tables, None, False, is_nope_first=True,
                    out=(turned, None),
                )  # fmt: skip
                aiter.rotate_activation(turned, quant, **given)

            ours, peer = bench.sample(
                lambda x=x, code=code, given=given, tables=tables: aiter.rope_rotate_activation(
                    x, *tables, code, **given
                ),
                separate,
            )
            bench.report(
                f"rope_rotate_activation to {code or case.dtype}", case, ours,
                moved=x.nbytes + sum(r.nbytes for r in results), ceilings=ceilings,
                peers={"apart": peer},
            )  # fmt: skip


if __name__ == "__main__":
    main()
