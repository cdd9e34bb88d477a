"""Speed of rms_norm, plain and with the residual, beside torch and the machine's copy rate:
python tests/python/norm/bench_rmsnorm.py"""

import aiter
import cases_rmsnorm as cases
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
    x, residual, w = cases.make(case)
    out, residual_out = np.empty_like(x), np.empty_like(x)

    def rms_norm():
        aiter.rms_norm(x, w, out=out)

    def rms_norm_with_add():
        aiter.rmsnorm2d_fwd_with_add(x, residual, w, out=out, residual_out=residual_out)

    plain, add = [2 * x.nbytes, rms_norm], [4 * x.nbytes, rms_norm_with_add]
    if torch:
        F = torch.nn.functional
        tx, tresidual, tw = (bench.to_torch(torch, a) for a in (x, residual, w))

        def norm(x):
            return F.rms_norm(x, tw.shape, tw, 1e-6)

        plain.append(lambda: norm(tx))
        add.append(lambda: norm(tx + tresidual))
    return plain, add


if __name__ == "__main__":
    main()
