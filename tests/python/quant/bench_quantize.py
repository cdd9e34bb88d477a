"""Speed of quantize beside the machine's copy rate: python tests/python/quant/bench_quantize.py"""

import functools

import aiter
import cases_quantize as cases
import numpy as np
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x, options = cases.make(case)
        codes, scale = aiter.quantize(x, **options)
        functions = [functools.partial(aiter.quantize, x, **options, out=codes, out_scale=scale)]
        if torch and case.code == "int8" and options["group"] == (1, 0):
            tx = torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)

            def per_token(tx=tx):
                f = tx.float()
                s = f.abs().amax(-1, keepdim=True) / 127
                return (f / s).round().to(torch.int8), s

            functions.append(per_token)
        ours, *peers = bench.sample(*functions)
        bench.report(
            "quantize",
            case,
            ours,
            moved=x.nbytes + codes.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
