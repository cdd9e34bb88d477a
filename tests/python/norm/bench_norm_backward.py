"""Speed of rms_norm_backward and layer_norm_backward beside torch's, and the machine's copy rate:
python tests/python/norm/bench_norm_backward.py"""

import aiter
import cases_norm_backward as cases
import numpy as np
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        dy, x, w, _ = cases.make(case)
        dx = np.empty_like(x)
        functions = [lambda: ours(case.kind, dy, x, w, dx)]
        if torch:
            functions.append(peer(torch, case.kind, dy, x, w))
        time, *peers = bench.sample(*functions)
        bench.report(
            f"{case.kind}_norm_backward",
            case,
            time,
            moved=3 * x.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


def ours(kind, dy, x, w, dx):
    if kind == "rms":
        aiter.rms_norm_backward(dy, x, w, 1e-5, out=dx)
    else:
        aiter.layer_norm_backward(dy, x, w, True, 1e-5, out=dx)


def peer(torch, kind, dy, x, w):
    """torch's own backward pass, its forward pass done before."""
    tdy, tx, tw = (bench.to_torch(torch, a) for a in (dy, x, w))
    tx, tw = tx.clone().requires_grad_(), tw.clone().requires_grad_()
    b = torch.zeros_like(tw).requires_grad_()
    F = torch.nn.functional
    if kind == "rms":
        y, wanted = F.rms_norm(tx, tw.shape, tw, 1e-5), (tx, tw)
    else:
        y, wanted = F.layer_norm(tx, tw.shape, tw, b, 1e-5), (tx, tw, b)
    return lambda: torch.autograd.grad(y, wanted, tdy, retain_graph=True)


if __name__ == "__main__":
    main()
