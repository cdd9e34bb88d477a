"""Speed of silu_and_mul and its kin beside torch and the machine's copy rate:
python tests/python/activation/bench_act_and_mul.py"""

import aiter
import cases_act_and_mul as cases
import numpy as np
from aiter.testing import bench


def in_torch(torch, act, gate, up):
    f = torch.nn.functional
    if act == "situv2":
        return 4 * torch.tanh(gate / 4) * torch.sigmoid(gate) * 25 * torch.tanh(up / 25)
    if act == "silu":
        return f.silu(gate) * up
    if act == "swiglu":
        gate, up = gate.clamp(max=7), up.clamp(-7, 7)
        return gate * torch.sigmoid(1.702 * gate) * (up + 1)
    return f.gelu(gate, approximate="tanh" if act == "gelu_tanh" else "none") * up


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x = cases.make(case)
        out = np.empty((*case.shape[:-1], case.shape[-1] // 2), x.dtype)
        options = cases.options(case)
        functions = [lambda c=case, x=x, o=options, y=out: aiter.act_and_mul(x, c.act, **o, out=y)]
        if torch:
            tx = bench.to_torch(torch, x)
            halves = (tx[..., ::2], tx[..., 1::2]) if options["interleaved"] else tx.chunk(2, -1)
            if "bias" in options:  # of which torch has no form that is as good: without it
                options.pop("bias"), options.pop("expert_ids")
            functions.append(lambda a=case.act, h=halves: in_torch(torch, a, *h))
        ours, *peers = bench.sample(*functions)
        bench.report(
            "act_and_mul",
            case,
            ours,
            moved=x.nbytes + out.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
