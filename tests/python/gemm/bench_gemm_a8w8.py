"""Speed of gemm_a8w8 beside torch's int8 product (without scales) and the machine's read rate.

python tests/python/gemm/bench_gemm_a8w8.py
"""

import aiter
import cases_gemm_a8w8 as cases
import numpy as np
from aiter.testing import bench, dtype_of


def main():
    torch = bench.torch_or_none()
    read = bench.read_rate() / 1e9
    print(f"{bench.machine()}; read {read:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x, w, x_scale, w_scale, _ = cases.make(case)
        out = np.empty((case.m, case.n), dtype_of(case.dtype))
        functions = [
            lambda x=x, w=w, a=x_scale, b=w_scale, out=out: aiter.gemm_a8w8(x, w, a, b, out=out)
        ]
        if torch:
            tx, tw = torch.from_numpy(x), torch.from_numpy(w)
            functions.append(lambda tx=tx, tw=tw: torch._int_mm(tx, tw.t()))
        ours, *peers = bench.sample(*functions)
        bench.report(
            "gemm_a8w8", case, ours, moved=w.nbytes if case.m <= 16 else 0,
            flops=2 * case.m * case.n * case.k, ceilings={"GB/s": read},
            peers=dict(zip(["torch._int_mm"], peers, strict=False)),
        )  # fmt: skip


if __name__ == "__main__":
    main()
