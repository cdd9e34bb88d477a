"""Speed of sigmoid, tanh and their kin beside torch and the machine's copy rate:
python tests/python/elementwise/bench_unary.py"""

import aiter
import cases_unary as cases
import numpy as np
from aiter.testing import bench


def in_torch(torch, op, x):
    f = torch.nn.functional
    functions = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "silu": f.silu,
        "gelu": f.gelu,
        "gelu_fast": lambda x: f.gelu(x, approximate="tanh"),
    }
    return functions[op](x)


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x = cases.make(case)
        out = np.empty(x.shape, x.dtype)
        functions = [lambda f=getattr(aiter, case.op), x=x, out=out: f(x, out=out)]
        if torch:
            functions.append(lambda o=case.op, x=bench.to_torch(torch, x): in_torch(torch, o, x))
        ours, *peers = bench.sample(*functions)
        bench.report(
            "unary",
            case,
            ours,
            moved=2 * x.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
