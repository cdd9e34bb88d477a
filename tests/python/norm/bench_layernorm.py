"""Speed of layer_norm, plain and with the residual, beside torch and the machine's copy rate:
python tests/python/norm/bench_layernorm.py"""

import aiter
import cases_layernorm as cases
import numpy as np
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        for moved, *functions in problems(torch, case):
            ours, *peers = bench.sample(*functions)
            bench.report(
                functions[0].__name__,
                case,
                ours,
                moved=moved,
                ceilings=ceilings,
                peers=dict(zip(["torch"], peers, strict=False)),
            )


def problems(torch, case):
    """(bytes moved, our function, torch's) for the norm alone and with the residual."""
    x, residual, w, b, _ = cases.make(case)
    out, residual_out = np.empty_like(x), np.empty_like(x)

    def layer_norm():
        aiter.layer_norm(x, w, b, out=out)

    def layer_norm_with_add():
        aiter.layernorm2d_fwd_with_add(x, residual, w, b, out=out, residual_out=residual_out)

    plain, add = [2 * x.nbytes, layer_norm], [4 * x.nbytes, layer_norm_with_add]
    if torch:
        F = torch.nn.functional
        tx, tresidual, tw, tb = (bench.to_torch(torch, a) for a in (x, residual, w, b))

        def norm(x):
            return F.layer_norm(x, tw.shape, tw, tb, 1e-5)

        plain.append(lambda: norm(tx))
        add.append(lambda: norm(tx + tresidual))
    return plain, add


if __name__ == "__main__":
    main()
