"""Speed of groupnorm_quant beside groupnorm_run and quantize one after the other, and the machine's copy
rate: python tests/python/norm/bench_groupnorm_quant.py"""

import functools

import aiter
import cases_groupnorm_quant as cases
from aiter.testing import bench


def main():
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        x, options = cases.make(case)
        results = aiter.groupnorm_quant(x, **options)
        names = ["out", "out_scale", "residual_out"]
        given = dict(zip(names, results, strict=False))
        call = functools.partial(aiter.groupnorm_quant, x, **options, **given)
        ours, apart = bench.sample(call, separate(x, options, given))
        bench.report(
            "groupnorm_quant",
            case,
            ours,
            moved=sum(a.nbytes for a in results) + x.nbytes * (2 if case.get("residual") else 1),
            ceilings=ceilings,
            peers={"separate calls": apart},
        )


def separate(x, options, given):
    """The norm, then its codes."""
    norm = {n: v for n, v in options.items() if n not in ("quant", "residual_in")}
    quant = options["quant"]
    codes = functools.partial(
        aiter.quantize,
        group=(1, quant.group_size),
        quant_dtype=quant.quant_dtype,
        scale_dtype=quant.scale_dtype,
        out=given["out"],
        out_scale=given["out_scale"],
    )
    y = aiter.groupnorm_run(x, **norm)
    if "residual_in" not in options:
        return lambda: codes(aiter.groupnorm_run(x, **norm, out=y))
    residual = {"residual_in": options["residual_in"], "residual_out": given["residual_out"]}
    return lambda: codes(aiter.groupnorm_run_with_add(x, **norm, **residual, out=y)[0])


if __name__ == "__main__":
    main()
