"""Speed of norm_quant beside torch and the machine's copy rate:
python tests/python/norm/bench_norm_quant.py"""

import functools

import aiter
import cases_norm_quant as cases
from aiter.testing import bench


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x, options = cases.make(case)
        results = aiter.norm_quant(x, **options)
        names = ["out", "out_scale", "residual_out"]
        given = dict(zip(names, results, strict=False))
        functions = [functools.partial(aiter.norm_quant, x, **options, **given)]
        if torch and case.quant.group_size == 0:
            functions.append(peer(torch, x, **options))
        ours, *peers = bench.sample(*functions)
        bench.report(
            "norm_quant",
            case,
            ours,
            moved=sum(a.nbytes for a in results) + x.nbytes * (2 if case.residual else 1),
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


def peer(torch, x, w, quant, kind, b=None, residual_in=None, **_):
    """The norm of torch, quantized per token by its operators."""
    F = torch.nn.functional
    x, w = bench.to_torch(torch, x), bench.to_torch(torch, w)
    b = None if b is None else bench.to_torch(torch, b)
    residual = None if residual_in is None else bench.to_torch(torch, residual_in)
    dtype, most = {
        "int8": (torch.int8, 127),
        "float8_e4m3fn": (torch.float8_e4m3fn, 448),
    }[quant.quant_dtype]

    def norm_quant():
        v = x if residual is None else x + residual
        v = F.rms_norm(v, w.shape, w) if kind == "rms" else F.layer_norm(v, w.shape, w, b)
        v = v.float()
        scale = v.abs().amax(-1, keepdim=True) / most
        v = v / scale
        return (v.round() if most == 127 else v).to(dtype), scale

    return norm_quant


if __name__ == "__main__":
    main()
