"""Normalization."""

from __future__ import annotations

from . import _aiter

__all__ = [
    "fused_add_rmsnorm_pad",
    "layer_norm",
    "layernorm2d_fwd",
    "layernorm2d_fwd_with_add",
    "rms_norm",
    "rmsnorm2d_fwd",
    "rmsnorm2d_fwd_with_add",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayLike, ArrayT, Stream


def rms_norm(
    x: ArrayT,
    w: ArrayLike | None = None,
    eps: float = 1e-6,
    use_model_sensitive_rmsnorm: int = 0,
    *,
    gemma_norm: bool = False,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Divide each row of x by its root mean square, then scale by w.

    y[t, h] = x[t, h] / sqrt(mean_h(x[t, :]^2) + eps) * w[h], in fp32.

    x: (..., hidden) bf16, f16 or f32; the last stride is 1, the others are free as long as they
        fold into two dimensions.
    w: (hidden,) of x's dtype or f32; None = ones.
    use_model_sensitive_rmsnorm: round to x's dtype before multiplying by w (T5, Hugging Face).
    gemma_norm: multiply by (1 + w).
    out: like x, may be x itself.
    Returns an array like x. Raises ValueError on a wrong shape, dtype or stride.
    Accuracy: aiter.testing.bound(dtype, hidden). Source: AITER rms_norm.
    """
    return _aiter.rmsnorm(x, w, eps, gemma_norm, bool(use_model_sensitive_rmsnorm), 0, out, stream)


rmsnorm2d_fwd = rms_norm


def rmsnorm2d_fwd_with_add(
    x: ArrayT,
    residual_in: ArrayLike,
    w: ArrayLike | None = None,
    eps: float = 1e-6,
    use_model_sensitive_rmsnorm: int = 0,
    *,
    gemma_norm: bool = False,
    out: ArrayT | None = None,
    residual_out: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """Add the residual, then normalize: residual_out = x + residual_in; y = rms_norm(residual_out).

    The norm is taken of the sum as rounded to x's dtype.

    x, residual_in: (..., hidden) bf16, f16 or f32 of one dtype; strides as in rms_norm.
    out, residual_out: like x; residual_out may be residual_in or x, out may be x.
    The other arguments are those of rms_norm.
    Returns (y, residual_out). Source: AITER rmsnorm2d_fwd_with_add.
    """
    return _aiter.add_rmsnorm(
        x,
        residual_in,
        w,
        eps,
        gemma_norm,
        bool(use_model_sensitive_rmsnorm),
        0,
        out,
        residual_out,
        stream,
    )


def fused_add_rmsnorm_pad(
    x: ArrayT,
    weight: ArrayLike | None = None,
    epsilon: float = 1e-6,
    res: ArrayLike | None = None,
    x_pad_to_multiple: int = 0,
    *,
    out: ArrayT | None = None,
    residual_out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """RMS norm, of x + res where res is given, with zeros after the last column.

    x_pad_to_multiple: the columns of the result become a multiple of it; 0 = as x has.
    Returns y, or (y, residual_out) with res. Source: AITER fused_add_rmsnorm_pad.
    """
    if res is None:
        return _aiter.rmsnorm(x, weight, epsilon, False, False, x_pad_to_multiple, out, stream)
    return _aiter.add_rmsnorm(
        x, res, weight, epsilon, False, False, x_pad_to_multiple, out, residual_out, stream
    )


def layer_norm(
    x: ArrayT,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    x_bias: ArrayLike | None = None,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Subtract each row's mean, divide by its standard deviation, scale by weight, add bias.

    y = (v - mean(v)) / sqrt(variance(v) + eps) * weight + bias, v = x + x_bias, in fp32.

    x: (..., hidden) bf16, f16 or f32; strides as in rms_norm.
    weight, bias: (hidden,) of x's dtype or f32, both the same; None = ones, zeros.
    x_bias: (hidden,) of x's dtype, added to x first.
    out: like x, may be x itself.
    Returns an array like x. Raises ValueError on a wrong shape, dtype or stride.
    Source: AITER layer_norm, layernorm2d_fwd.
    """
    return _aiter.layernorm(x, x_bias, weight, bias, eps, out, stream)


layernorm2d_fwd = layer_norm


def layernorm2d_fwd_with_add(
    x: ArrayT,
    residual_in: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    x_bias: ArrayLike | None = None,
    *,
    out: ArrayT | None = None,
    residual_out: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """Add the residual, then normalize: residual_out = x + x_bias + residual_in; y = layer_norm(it).

    The norm is taken of the sum as rounded to x's dtype.

    out, residual_out: like x; residual_out may be residual_in or x, out may be x.
    The other arguments are those of layer_norm.
    Returns (y, residual_out). Source: AITER layernorm2d_fwd_with_add.
    """
    return _aiter.add_layernorm(
        x, x_bias, residual_in, weight, bias, eps, out, residual_out, stream
    )
