"""Speed of gemm_a16w16 beside torch (bf16, fp16) and NumPy (fp32), and the machine's ceilings.

python tests/python/gemm/bench_gemm_a16w16.py
"""

import aiter
import cases_gemm_a16w16 as cases
import ml_dtypes
import numpy as np
from aiter.testing import bench


def to_torch(torch, array):
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def main():
    torch = bench.torch_or_none()
    read = bench.read_rate() / 1e9
    print(f"{bench.machine()}; read {read:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x, w, _ = cases.make(case)
        out = np.empty((case.m, case.n), x.dtype)
        functions = {"ours": lambda x=x, w=w, out=out: aiter.gemm_a16w16(x, w, out=out)}
        if torch:
            tx, tw = to_torch(torch, x), to_torch(torch, w)
            functions["torch"] = lambda tx=tx, tw=tw: torch.nn.functional.linear(tx, tw)
        if case.dtype == "fp32":
            functions["numpy"] = lambda x=x, w=w, out=out: np.matmul(x, w.T, out=out)
        ours, *peers = bench.sample(*functions.values())
        bench.report(
            "gemm_a16w16", case, ours, moved=w.nbytes if case.m <= 16 else 0,
            flops=2 * case.m * case.n * case.k, ceilings={"GB/s": read},
            peers=dict(zip(list(functions)[1:], peers, strict=True)),
        )  # fmt: skip


if __name__ == "__main__":
    main()
