"""Elementwise operators with broadcasting and any strides, and the softmax of rows.

Arrays are broadcast as in NumPy; dtypes are promoted as in torch: the larger of two floats (f32 for
f16 and bf16) or of two integers (int16 for uint8 and int8), the float of a float and an integer,
and division of integers gives f32. Python numbers take the dtype of the array beside them.
"""

from __future__ import annotations

from . import _aiter

__all__ = [
    "add",
    "add_",
    "div",
    "div_",
    "fused_mul_add",
    "gelu",
    "gelu_fast",
    "mul",
    "mul_",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "sub",
    "sub_",
    "tanh",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayLike, ArrayT, DType, Stream


def add(
    a: ArrayT | float,
    b: ArrayT | float,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """a + b.

    a, b: arrays of f64, f32, f16, bf16, int64, int32, int16, int8, uint8 or bool, of any strides,
        that broadcast to each other, or one of them a number.
    out: an array of the common shape, of a dtype whose kind (bool, integer, float) is not below
        that of the result; may be a or b.
    Returns an array of the common shape and dtype. f32 inside for f16 and bf16; integers wrap
    around; bools add up to `or`, their products are `and`. Exact: the operation in the common dtype,
    rounded once. Source: AITER add.
    """
    return _aiter.binary(a, b, _aiter.BINARY_ADD, out, stream)


def sub(
    a: ArrayT | float,
    b: ArrayT | float,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """a - b; see add. Not of two bools. Source: AITER sub."""
    return _aiter.binary(a, b, _aiter.BINARY_SUB, out, stream)


def mul(
    a: ArrayT | float,
    b: ArrayT | float,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """a * b; see add. Source: AITER mul."""
    return _aiter.binary(a, b, _aiter.BINARY_MUL, out, stream)


def div(
    a: ArrayT | float,
    b: ArrayT | float,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """a / b, of integers as f32; see add. Source: AITER div."""
    return _aiter.binary(a, b, _aiter.BINARY_DIV, out, stream)


def add_(a: ArrayT, b: ArrayLike | float, *, stream: Stream = None) -> ArrayT:
    """a += b, in place: add(a, b, out=a). Returns a. Source: AITER add_."""
    return _aiter.binary(a, b, _aiter.BINARY_ADD, a, stream)


def sub_(a: ArrayT, b: ArrayLike | float, *, stream: Stream = None) -> ArrayT:
    """a -= b, in place: sub(a, b, out=a). Returns a. Source: AITER sub_."""
    return _aiter.binary(a, b, _aiter.BINARY_SUB, a, stream)


def mul_(a: ArrayT, b: ArrayLike | float, *, stream: Stream = None) -> ArrayT:
    """a *= b, in place: mul(a, b, out=a). Returns a. Source: AITER mul_."""
    return _aiter.binary(a, b, _aiter.BINARY_MUL, a, stream)


def div_(a: ArrayT, b: ArrayLike | float, *, stream: Stream = None) -> ArrayT:
    """a /= b, in place: div(a, b, out=a). Returns a. Source: AITER div_."""
    return _aiter.binary(a, b, _aiter.BINARY_DIV, a, stream)


def sigmoid(
    x: ArrayT,
    *,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """1 / (1 + exp(-x)).

    x: f32, f16 or bf16, of any shape and strides.
    dtype: of the result, one of these; x's by default. out: an array of x's shape; may be x.
    Returns an array like x; fp32 inside. Source: AITER sigmoid.
    """
    return _aiter.unary(x, _aiter.UNARY_SIGMOID, dtype, out, stream)


def tanh(
    x: ArrayT,
    *,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Hyperbolic tangent; the arguments are those of sigmoid. Source: AITER tanh."""
    return _aiter.unary(x, _aiter.UNARY_TANH, dtype, out, stream)


def relu(
    x: ArrayT,
    *,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """max(x, 0), NaN stays NaN; the arguments are those of sigmoid."""
    return _aiter.unary(x, _aiter.UNARY_RELU, dtype, out, stream)


def silu(
    x: ArrayT,
    *,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """x * sigmoid(x); the arguments are those of sigmoid."""
    return _aiter.unary(x, _aiter.UNARY_SILU, dtype, out, stream)


def gelu(
    x: ArrayT,
    *,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """x * Phi(x), Phi the normal distribution (erf); the arguments are those of sigmoid."""
    return _aiter.unary(x, _aiter.UNARY_GELU, dtype, out, stream)


def gelu_fast(
    x: ArrayT,
    *,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """x * (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2; the arguments are those of sigmoid.

    Source: AITER gelu_fast.
    """
    return _aiter.unary(x, _aiter.UNARY_GELU_TANH, dtype, out, stream)


def fused_mul_add(
    x: ArrayT,
    a: ArrayLike | float,
    b: ArrayLike | float,
    *,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """x * a + b, rounded once to fp32 and once to the result.

    x, a, b: f32, f16 or bf16 arrays of any strides that broadcast to each other; a and b may be
        numbers.
    dtype: of the result, x's by default. out: an array of the common shape; may be x, a or b.
    Source: AITER fused_mul_add.
    """
    return _aiter.fused_mul_add(x, a, b, dtype, out, stream)


def softmax(x: ArrayT, *, out: ArrayT | None = None, stream: Stream = None) -> ArrayT:
    """Softmax of the rows: exp(x - max) / sum(exp(x - max)) along the last dimension.

    x: (..., n) f32, f16 or bf16; the last stride is 1, the others are free as long as they fold into
        two dimensions. out: like x; may be x.
    Returns an array like x; fp32 inside. A row with NaN or infinity, or of -infinity alone, gives
    NaN. Source: AITER softmax.
    """
    return _aiter.softmax(x, out, stream)
