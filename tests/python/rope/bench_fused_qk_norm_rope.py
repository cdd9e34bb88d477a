"""Speed of fused_qk_norm_rope beside its parts, torch and the machine's copy rate:
python tests/python/rope/bench_fused_qk_norm_rope.py"""

import aiter
import cases_fused_qk_norm_rope as cases
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        d = cases.make(case)
        out = tuple(d[n].copy() for n in "qkv")

        def ours(d=d, out=out):
            arrays = (
                d[n] for n in ("q", "k", "v", "q_weight", "k_weight", "cos", "sin", "positions")
            )
            return aiter.fused_qk_norm_rope(*arrays, cases.EPS, out=out)

        def parts(d=d, out=out):
            for n, o in zip("qk", out, strict=False):
                aiter.rms_norm(d[n], d[n + "_weight"], cases.EPS, out=o)
            q, k = out[:2]
            return aiter.rotary_embedding_fwd(
                d["positions"], q, k, 0, d["cos"], d["sin"], True, out=(q, k)
            )

        peers = {"parts": parts}
        if torch:
            t = {n: bench.to_torch(torch, a) for n, a in d.items()}

            def in_torch(t=t, case=case):
                results = []
                for n in "qk":
                    x = torch.nn.functional.rms_norm(t[n], (case.dim,), t[n + "_weight"], cases.EPS)
                    c, s = (t[f][t["positions"]][:, None].to(x.dtype) for f in ("cos", "sin"))
                    a, b = x.chunk(2, -1)
                    results.append(torch.cat((a * c - b * s, b * c + a * s), -1))
                return results

            peers["torch"] = in_torch
        seconds, *others = bench.sample(ours, *peers.values())
        bench.report(
            "fused_qk_norm_rope",
            case,
            seconds,
            moved=2 * sum(d[n].nbytes for n in "qkv"),
            ceilings=ceilings,
            peers=dict(zip(peers, others, strict=True)),
        )


if __name__ == "__main__":
    main()
