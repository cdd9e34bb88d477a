"""Speed of fused_mul_add beside torch and the machine's copy rate:
python tests/python/elementwise/bench_fused_mul_add.py"""

import aiter
import cases_fused_mul_add as cases
import numpy as np
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        operands = cases.make(case)
        out = np.empty_like(operands[0])
        functions = [lambda o=operands, y=out: aiter.fused_mul_add(*o, out=y)]
        if torch:
            x, a, b = (
                bench.to_torch(torch, v) if isinstance(v, np.ndarray) else v for v in operands
            )
            if isinstance(a, float):
                functions.append(lambda x=x, a=a, b=b: x * a + b)
            else:
                functions.append(lambda x=x, a=a, b=b: torch.addcmul(b, x, a))
        ours, *peers = bench.sample(*functions)
        arrays = [v for v in (*operands, out) if isinstance(v, np.ndarray)]
        bench.report(
            "fused_mul_add",
            case,
            ours,
            moved=sum(v.nbytes for v in arrays),
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
