"""Problems, data and reference of fused_mul_add, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of
from strided import LAYOUTS, lay_out

DTYPES = ("bf16", "fp16", "fp32")

CASES = [
    *(Case("smoke", x=d, a=d, b=d, shape=(5, 256), shapes=((5, 256), (5, 256))) for d in DTYPES),
    # Numbers, whole arrays, rows, columns.
    *(
        Case("edge", x="bf16", a="bf16", b="bf16", shape=(6, 40), shapes=(s, t))
        for s in (None, (1,), (6, 40), (40,), (6, 1))
        for t in (None, (6, 40), (6, 1))
    ),
    *(
        Case("edge", x=x, a=a, b=b, shape=(6, 33), shapes=((33,), (6, 33)))
        for x, a, b in (("bf16", "fp32", "fp32"), ("fp32", "bf16", "fp16"), ("fp16", "fp32", "bf16"))
    ),
    *(
        Case("edge", x="fp32", a="fp32", b="fp32", shape=(3, 10, 12), shapes=(None, (10, 12)), layout=x)
        for x in LAYOUTS
    ),
    *(Case("edge", x="fp32", a="fp32", b="fp32", shape=(0, 4), shapes=(None, s)) for s in (None, (4,))),
    *(
        Case("perf", x=d, a=d, b=d, shape=(4096, 8192), shapes=s)
        for d in ("bf16", "fp32")
        for s in ((None, None), ((4096, 8192), (4096, 8192)), ((8192,), (8192,)))
    ),
]  # fmt: skip


def make(case, seed=0):
    """(x, a, b) of a case; a and b are numbers where their shapes are None."""
    rng = np.random.default_rng(seed)

    def operand(dtype, shape):
        if shape is None:
            return float(np.float32(rng.standard_normal()))
        return rng.standard_normal(shape).astype(dtype_of(dtype))

    x = lay_out(operand(case.x, case.shape), case.get("layout", "contiguous"))
    return x, *(operand(d, s) for d, s in zip((case.a, case.b), case.shapes, strict=True))


def reference(x, a, b):
    """Exact: the product of two fp32 numbers fits float64, and so does nearly every sum; rounded to
    fp32, and then to x's dtype."""
    x, a, b = (np.asarray(v, np.float64) for v in (x, a, b))
    return (x * a + b).astype(np.float32)
