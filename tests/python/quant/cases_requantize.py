"""Problems of requantize: quantize (cases_quantize) of what dequantize gives in fp32."""

import cases_quantize
import numpy as np
from aiter.testing import Case, dtype_of
from cases_quantize import E4M3, E8M0, FP4, FP6, FP8, INT4, INT8

FNUZ, OCP = FP8[1], FP8[0]

CASES = [
    Case("smoke", shape=(5, 256), code=FNUZ, group=(1, 128), to=OCP, to_group=(1, 32),
         to_scale=E8M0, round=2),
    *(Case("smoke", shape=(5, 128), code=c, to=INT8) for c in (*FP8, *FP6, FP4, INT4)),
    *(Case("smoke", shape=(5, 128), code=INT8, to=c) for c in (*FP8, *FP6, FP4, INT4)),
    Case("smoke", shape=(9, 64), code=FP4, group=(1, 16), scale=E4M3, to=OCP, to_group=(1, 32),
         to_scale=E8M0),
    Case("edge", shape=(130, 72), code=OCP, group=(128, 64), to=INT8, to_group=(7, 0)),
    Case("edge", shape=(130, 72), code=OCP, group=(1, 0), to=INT8, to_group=(0, 0)),
    Case("edge", shape=(3, 7, 20), code=INT8, group=(1, 6), to=FNUZ, to_group=(1, 9)),
    Case("edge", shape=(40, 256), code=INT8, to=FP4, to_group=(1, 32), to_scale=E8M0,
         to_layout="shuffled"),
    Case("edge", shape=(0, 32), code=INT8, to=OCP),
    Case("model", shape=(17, 4096), code=FNUZ, group=(1, 128), to=OCP, to_group=(1, 32),
         to_scale=E8M0),
    Case("model", shape=(150, 640), code=FP4, group=(1, 32), scale=E8M0, to=OCP, to_group=(128, 128)),
    Case("perf", shape=(8192, 4096), code=FNUZ, group=(1, 128), to=OCP, to_group=(1, 32),
         to_scale=E8M0),
    Case("perf", shape=(8192, 4096), code=FNUZ, group=(128, 128), to=OCP, to_group=(128, 128)),
]  # fmt: skip


def make(case, seed=0):
    """(codes, scale) of a case."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(case.shape).astype(np.float32)
    group = case.get("group", (1, 0))
    if not x.size:
        return x.astype(np.int8), np.empty((0, 1), np.float32)
    return cases_quantize.reference(x, group, case.code, scale_dtype=case.get("scale", "float32"))


def options(case):
    """Arguments of aiter.requantize after codes and scale."""
    return {
        "group": case.get("group", (1, 0)),
        "out_group": case.get("to_group", (1, 0)),
        "quant_dtype": case.to,
        "from_dtype": case.code if case.code in (FP4, INT4, *FP6) else None,
        "scale_dtype": case.get("to_scale", "float32"),
        "round_mode": case.get("round", 1),
        "scale_layout": case.get("to_layout", "strided"),
    }


def reference(case, codes, scale):
    """(codes, scale): the product of code and scale in fp32, then quantize's reference."""
    numbers = cases_quantize.decode(
        codes, np.ones(cases_quantize.scale_shape(case.shape, (0, 0))), (0, 0), case.code
    ).astype(np.float32)
    ones = np.ones(numbers.shape, np.float64)
    spread = cases_quantize.decode(
        ones.astype(np.int8), scale, case.get("group", (1, 0)), INT8
    ).astype(np.float32)
    return cases_quantize.reference(
        numbers * spread,
        case.get("to_group", (1, 0)),
        case.to,
        scale_dtype=case.get("to_scale", "float32"),
        round_mode=case.get("round", 1),
    )


__all__ = ["CASES", "FNUZ", "OCP", "dtype_of", "make", "options", "reference"]
