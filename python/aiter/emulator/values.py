"""Arguments of kernels and operators, as words of a command line."""

from __future__ import annotations

import ast
import re

import numpy as np

HELP = """\
An array is TYPE[SHAPE], quoted from the shell, with what it holds behind a "=":
  f32[64,128]=random   numbers of a normal distribution; integers below 100
  bf16[4096]=1.5       one number; also zeros, ones, arange
  f32[64,128]=x.npy    of a file, whose dtype and shape must be these
TYPE is i8 ... u64, f16, bf16, f32, f64, or a name of NumPy's or ml_dtypes' such as float8_e4m3fn.
"""

SHORT = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
SHORT |= {f"{kind[0]}{n}": f"{kind}{n}" for kind in ("int", "uint") for n in (8, 16, 32, 64)}
ARRAY = re.compile(r"(\w+)\[([\d, ]*)\](?:=(.+))?$")


def dtype_of(name: str) -> np.dtype:
    import ml_dtypes

    name = SHORT.get(name, name)
    try:
        return np.dtype(getattr(ml_dtypes, name, None) or name)
    except TypeError:
        raise ValueError(f"{name!r} is no type; e.g. i32, f32, bf16, float8_e4m3fn") from None


def array_of(text: str, rng: np.random.Generator, default: str | None = None):
    """The array that TYPE[SHAPE]=CONTENTS describes; None where `text` is no array.

    Without contents, and without a default, it is (dtype, shape).
    """
    match = ARRAY.match(text)
    if not match:
        return None
    dtype = dtype_of(match[1])
    shape = tuple(int(n) for n in match[2].split(",") if n.strip())
    contents = match[3] or default
    if contents is None:
        return dtype, shape
    if contents == "random":
        if dtype.kind in "iub":
            return rng.integers(0, 100, shape).astype(dtype)
        return rng.standard_normal(shape, np.float32).astype(dtype)
    if contents == "arange":
        return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    if contents.endswith(".npy"):
        array = np.load(contents)
        if array.dtype.kind == "V" and array.dtype.itemsize == dtype.itemsize:
            array = array.view(dtype)  # NumPy's files do not know ml_dtypes
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(f"{contents} has {array.dtype}{list(array.shape)}, not {text}")
        return array
    number = {"zeros": 0, "ones": 1}.get(contents, contents)
    try:
        return np.full(shape, float(number), np.float64).astype(dtype)
    except ValueError:
        raise ValueError(f"{text}: {contents!r} is no number and no known contents") from None


def literal(text: str):
    """A Python literal, or the word itself."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
