"""Problems, data and reference of binary, for its test and its bench."""

import itertools

import ml_dtypes
import numpy as np
from aiter.testing import Case, dtype_of
from strided import LAYOUTS, lay_out

OPS = ("add", "sub", "mul", "div")
FLOATS = ("bfloat16", "float16", "float32", "float64")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
DTYPES = (*FLOATS, *INTEGERS, "bool")

# Shapes of a and b that AITER's tests broadcast, and more.
SHAPES = [
    ((4, 6, 40), (4, 6, 40)),
    ((4, 6, 40), (40,)),
    ((4, 6, 40), (6, 1)),
    ((4, 6, 40), (4, 1, 40)),
    ((4, 1, 40), (1, 6, 1)),
    ((1,), (3, 33)),
    ((3, 1), (1, 33)),
    ((), (17,)),
    ((), ()),
    ((2, 3, 4, 2, 3), (3, 1, 2, 1)),
    ((0, 4), (1, 4)),
    ((4, 0), (4, 1)),
]

CASES = [
    *(Case("smoke", op=o, a="float32", b="float32", shapes=((5, 64), (5, 64))) for o in OPS),
    *(Case("edge", op="add", a=d, b=d, shapes=s) for d in ("bfloat16", "float32") for s in SHAPES),
    *(Case("edge", op="sub", a="int32", b="int32", shapes=s) for s in SHAPES[:6]),
    *(
        Case("edge", op=OPS[i % 4], a=a, b=b, shapes=((3, 20), (3, 20)))
        for i, (a, b) in enumerate(itertools.product(DTYPES, DTYPES))
        if not (OPS[i % 4] == "sub" and a == b == "bool")
    ),
    *(
        Case("edge", op="mul", a=d, b=d, shapes=((3, n), (3, n)))
        for d in ("bfloat16", "float16", "float32")
        for n in (1, 7, 8, 9, 15, 16, 17, 31, 33, 130)
    ),
    *(
        Case("edge", op="sub", a="float32", b=b, shapes=((3, 10, 12), s), layouts=(x, y))
        for x, y in itertools.product(LAYOUTS, LAYOUTS)
        for b, s in (("float32", (3, 10, 12)), ("int16", (10, 1)))
    ),
    Case(
        "edge",
        op="add",
        a="bfloat16",
        b="bfloat16",
        shapes=((70, 90), (70, 90)),
        layouts=("contiguous", "transposed"),
    ),  # fmt: skip
    # Several tiles of a transposed operand, and parts of them, of every width.
    *(
        Case("model", op="add", a=d, b=d, shapes=((2, 300, 150), (2, 300, 150)), layouts=x)
        for d in ("bfloat16", "float32", "float64", "uint8")
        for x in (("contiguous", "transposed"), ("transposed", "contiguous"))
    ),
    Case("edge", op="div", a="float32", b="float32", shapes=((4, 16), (4, 16)), values="special"),
    *(
        Case("perf", op=o, a=d, b=d, shapes=((4096, 8192), (4096, 8192)))
        for o, d in (
            ("add", "float32"),
            ("add", "bfloat16"),
            ("mul", "float16"),
            ("div", "float32"),
        )
    ),
    *(
        Case("perf", op="add", a="bfloat16", b="bfloat16", shapes=((4096, 8192), s))
        for s in ((8192,), (4096, 1), (1,))
    ),
    Case("perf", op="add", a="float32", b="bfloat16", shapes=((4096, 4096), (4096, 4096))),
    Case("perf", op="add", a="int32", b="int32", shapes=((4096, 4096), (4096, 4096))),
    Case("perf", op="add", a="float64", b="float64", shapes=((4096, 2048), (4096, 2048))),
    Case(
        "perf",
        op="add",
        a="float32",
        b="float32",
        shapes=((4096, 4096), (4096, 4096)),
        layouts=("contiguous", "transposed"),
    ),  # fmt: skip
    Case(
        "perf",
        op="add",
        a="bfloat16",
        b="bfloat16",
        shapes=((4096, 8192), (4096, 8192)),
        layouts=("contiguous", "transposed"),
    ),  # fmt: skip
    *(
        Case("perf", op="mul", a="bfloat16", b="bfloat16", shapes=(s, s))
        for s in ((1, 4096), (16, 4096), (64, 1024))
    ),
]


def operand(dtype, shape, layout, rng):
    if dtype == "bool":
        x = rng.integers(0, 2, shape)
    elif dtype in INTEGERS:
        bits = np.iinfo(dtype)
        x = rng.integers(bits.min, bits.max, shape, dtype=np.int64, endpoint=True)
        x = np.where(x == 0, 1, x)
    else:
        x = rng.standard_normal(shape) * 3
    return lay_out(np.asarray(x).astype(dtype_of(dtype)), layout)


def make(case, seed=0):
    """(a, b) of a case."""
    rng = np.random.default_rng(seed)
    layouts = case.get("layouts", ("contiguous", "contiguous"))
    a, b = (operand(*x, rng) for x in zip((case.a, case.b), case.shapes, layouts, strict=True))
    if case.get("values") == "special":
        a[0, :8] = np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38, 1.0, 1e-40
        b[0, :8] = np.inf, 2.0, 1.0, 0.0, 3.0, 0.1, 0.0, 2.0
    return a, b


def promote(a, b):
    """torch's common dtype of two names, from its documentation."""
    if a == b:
        return a
    rank = {"bool": 0, **dict.fromkeys(INTEGERS, 1), **dict.fromkeys(FLOATS, 2)}
    if rank[a] != rank[b]:
        return a if rank[a] > rank[b] else b
    if {a, b} == {"bfloat16", "float16"}:
        return "float32"
    if rank[a] == 2:
        return max(a, b, key=FLOATS.index)
    if {a, b} == {"uint8", "int8"}:
        return "int16"
    return max(a, b, key=INTEGERS.index)


def reference(a, b, op, out=None):
    """The exact result, from the contract in include/aiter/elementwise.h."""
    common = promote(a.dtype.name, b.dtype.name)
    if op == "div" and common not in FLOATS:
        common = "float32"
    dtype = dtype_of(common)
    function = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[op]
    with np.errstate(all="ignore"):
        a, b = a.astype(dtype), b.astype(dtype)
        if common == "bool":
            y = function(a.astype(np.int32), b.astype(np.int32)) != 0
        elif dtype in (ml_dtypes.bfloat16, np.float16):
            y = function(a.astype(np.float32), b.astype(np.float32)).astype(dtype)
        else:
            y = function(a, b)
        return y.astype(dtype_of(out)) if out else y
