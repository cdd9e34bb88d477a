"""Speed of fused_qk_rmsnorm beside two norms and the machine's copy rate:
python tests/python/norm/bench_qk_rmsnorm.py"""

import functools

import aiter
import cases_qk_rmsnorm as cases
from aiter.testing import bench


def main():
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        q, options = cases.make(case)
        results = aiter.fused_qk_rmsnorm(q, **options)
        names = ["q_out", *(["q_out_scale"] if case.quant else []), "k_out"]
        given = dict(zip(names, results, strict=True))

        def two_norms(q=q, options=options, quant=case.quant):
            if quant:
                aiter.norm_quant(q, options["q_weight"], quant=quant)
            else:
                aiter.rms_norm(q, options["q_weight"])
            aiter.rms_norm(options["k"], options["k_weight"])

        fused = functools.partial(aiter.fused_qk_rmsnorm, q, **options, **given)
        ours, peer = bench.sample(fused, two_norms)
        moved = q.nbytes + options["k"].nbytes + sum(a.nbytes for a in results)
        bench.report("qk_rmsnorm", case, ours, moved=moved, ceilings=ceilings,
                     peers={"two norms": peer})  # fmt: skip


if __name__ == "__main__":
    main()
