"""Activations."""

from __future__ import annotations

from . import _aiter

__all__ = ["gelu_and_mul", "gelu_tanh_and_mul", "silu_and_mul", "swiglu_and_mul"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayT, DType, Stream


def silu_and_mul(
    x: ArrayT,
    limit: float = 0.0,
    *,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Gated SiLU: y = gate * sigmoid(gate) * up, gate the first and up the second half of x's rows.

    x: (..., 2 d) bf16, f16 or f32; the last stride is 1, the others are free as long as they fold
        into two dimensions.
    limit: where positive, gate is first clamped to at most limit and up to [-limit, limit].
    dtype: of the result, x's by default; f32 x may give "bfloat16" or "float16".
    out: (..., d), may be either half of x.
    Returns an array (..., d); fp32 inside. Raises ValueError on a wrong shape, dtype or stride.
    Source: AITER silu_and_mul.
    """
    return _aiter.act_and_mul(x, _aiter.ACTIVATION_SILU, limit, dtype, out, stream)


def gelu_and_mul(
    x: ArrayT,
    *,
    limit: float = 0.0,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Gated GELU: y = gate * Phi(gate) * up, Phi the normal distribution function (erf).

    The arguments are those of silu_and_mul. Source: AITER gelu_and_mul.
    """
    return _aiter.act_and_mul(x, _aiter.ACTIVATION_GELU, limit, dtype, out, stream)


def gelu_tanh_and_mul(
    x: ArrayT,
    *,
    limit: float = 0.0,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Gated GELU with tanh: gate * (1 + tanh(sqrt(2 / pi) (gate + 0.044715 gate^3))) / 2 * up.

    The arguments are those of silu_and_mul. Source: AITER gelu_tanh_and_mul.
    """
    return _aiter.act_and_mul(x, _aiter.ACTIVATION_GELU_TANH, limit, dtype, out, stream)


def swiglu_and_mul(
    x: ArrayT,
    *,
    limit: float = 7.0,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The GPT-OSS gate: y = gate * sigmoid(1.702 gate) * (up + 1), gate and up clamped by limit.

    The arguments are those of silu_and_mul; limit=0 clamps nothing. Source: AITER swiglu_and_mul.
    """
    return _aiter.act_and_mul(x, _aiter.ACTIVATION_SWIGLU, limit, dtype, out, stream)
