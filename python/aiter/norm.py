"""Normalization."""

from __future__ import annotations

from . import _aiter
from .quant import Quant

__all__ = [
    "add_rmsnorm_quant",
    "layer_norm_backward",
    "rms_norm_backward",
    "fused_add_rmsnorm_pad",
    "fused_qk_rmsnorm",
    "gated_rmsnorm_fp8_group_quant",
    "gated_rmsnorm_fp8_per_token_quant",
    "groupnorm_quant",
    "groupnorm_run",
    "groupnorm_run_with_add",
    "layer_norm",
    "layernorm2d_fwd",
    "layernorm2d_fwd_with_add",
    "layernorm2d_fwd_with_add_dynamicquant",
    "layernorm2d_fwd_with_add_smoothquant",
    "layernorm2d_fwd_with_dynamicquant",
    "layernorm2d_fwd_with_smoothquant",
    "norm_quant",
    "rms_norm",
    "rmsnorm2d_fwd",
    "rmsnorm2d_fwd_with_add",
    "rmsnorm2d_fwd_with_add_dynamicquant",
    "rmsnorm2d_fwd_with_add_smoothquant",
    "rmsnorm2d_fwd_with_dynamicquant",
    "rmsnorm2d_fwd_with_smoothquant",
    "rmsnorm_quant",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayLike, ArrayT, DType, Stream


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


_KINDS = {"rms": 0, "layer": 1}


def norm_quant(
    x: ArrayT,
    w: ArrayLike | None = None,
    b: ArrayLike | None = None,
    quant: Quant = Quant("int8"),  # noqa: B008 (a constant)
    *,
    kind: str = "rms",
    eps: float = 1e-6,
    x_bias: ArrayLike | None = None,
    residual_in: ArrayLike | None = None,
    gate: ArrayLike | None = None,
    smooth: ArrayLike | None = None,
    gemma_norm: bool = False,
    use_model_sensitive_rmsnorm: int = 0,
    flatten: bool = False,
    unquantized: DType | None = None,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    out_unquantized: ArrayT | None = None,
    residual_out: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ...]:
    """Normalize rows and quantize the result, without rounding it in between.

    codes, scale = quantize(v * smooth), v = norm(x + x_bias + residual_in) * silu(gate) in fp32.

    kind: "rms" (w; gemma_norm, use_model_sensitive_rmsnorm as in rms_norm) or "layer" (w, b and
        x_bias as in layer_norm).
    quant: codes, groups and scales; see Quant.
    residual_in: like x; the sum is rounded, and returned as residual_out.
    gate: like x. smooth: (columns,) f32 (SmoothQuant).
    flatten: quantize (..., heads, hidden) as rows of heads * hidden numbers.
    unquantized: a dtype, x's or "float32", in which v is returned too.
    out, out_scale, out_unquantized, residual_out: arrays for the results. out_scale may be a
        transposed view, for column-major scales.
    Returns codes, scale (unless it is given by quant), v (if asked for) and residual_out (with
    residual_in), those that there are. The codes are exactly those of `quantize` for v * smooth.
    Source: AITER rmsnorm2d_fwd_with_dynamicquant and its kin, which are made of this.
    """
    result = _aiter.norm_quant(
        x,
        x_bias,
        residual_in,
        w,
        b,
        gate,
        smooth,
        _KINDS[kind],
        eps,
        gemma_norm,
        bool(use_model_sensitive_rmsnorm),
        flatten,
        quant,
        unquantized,
        out,
        out_scale,
        out_unquantized,
        residual_out,
        stream,
    )
    return result if isinstance(result, tuple) else (result,)


def _quant(dtype: DType, group_size: int = 0, shuffle_scale: bool = False) -> Quant:
    """AITER's choice of scales: e8m0 for groups of fp4, else fp32."""
    layout = "shuffled" if shuffle_scale else "strided"
    if dtype == "float4_e2m1fnx2":
        return Quant(dtype, group_size or 32, scale_dtype="float8_e8m0fnu", scale_layout=layout)
    return Quant(dtype, group_size, scale_layout=layout)


def rmsnorm2d_fwd_with_dynamicquant(
    x: ArrayT,
    w: ArrayLike | None = None,
    eps: float = 1e-6,
    use_model_sensitive_rmsnorm: int = 0,
    group_size: int = 0,
    shuffle_scale: bool = False,
    *,
    quant_dtype: DType = "int8",
    gemma_norm: bool = False,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """RMS norm, quantized per token, or per group_size columns. Returns (codes, scale).

    fp4 codes have e8m0 scales, of groups of 32 unless group_size says otherwise, all others fp32
    ones; shuffle_scale as Quant's layout "shuffled". See norm_quant for all other kinds.
    Source: AITER rmsnorm2d_fwd_with_dynamicquant, rmsnorm_quant.
    """
    return norm_quant(
        x,
        w,
        quant=_quant(quant_dtype, group_size, shuffle_scale),
        eps=eps,
        gemma_norm=gemma_norm,
        use_model_sensitive_rmsnorm=use_model_sensitive_rmsnorm,
        out=out,
        out_scale=out_scale,
        stream=stream,
    )


def rmsnorm2d_fwd_with_add_dynamicquant(
    x: ArrayT,
    residual_in: ArrayLike,
    w: ArrayLike | None = None,
    eps: float = 1e-6,
    use_model_sensitive_rmsnorm: int = 0,
    group_size: int = 0,
    shuffle_scale: bool = False,
    *,
    quant_dtype: DType = "int8",
    gemma_norm: bool = False,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    residual_out: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT, ArrayT]:
    """rmsnorm2d_fwd_with_dynamicquant of x + residual_in. Returns (codes, scale, residual_out).

    Source: AITER rmsnorm2d_fwd_with_add_dynamicquant, add_rmsnorm_quant.
    """
    return norm_quant(
        x,
        w,
        quant=_quant(quant_dtype, group_size, shuffle_scale),
        eps=eps,
        residual_in=residual_in,
        gemma_norm=gemma_norm,
        use_model_sensitive_rmsnorm=use_model_sensitive_rmsnorm,
        out=out,
        out_scale=out_scale,
        residual_out=residual_out,
        stream=stream,
    )


def rmsnorm_quant(
    x: ArrayT,
    w: ArrayLike | None = None,
    eps: float = 1e-6,
    group_size: int = 0,
    shuffle_scale: bool = False,
    gemma_norm: bool = False,
    **options: object,
) -> tuple[ArrayT, ArrayT]:
    """rmsnorm2d_fwd_with_dynamicquant by its other name. Source: AITER rmsnorm_quant."""
    return rmsnorm2d_fwd_with_dynamicquant(
        x, w, eps, 0, group_size, shuffle_scale, gemma_norm=gemma_norm, **options
    )


def add_rmsnorm_quant(
    x: ArrayT,
    residual_in: ArrayLike,
    w: ArrayLike | None = None,
    eps: float = 1e-6,
    group_size: int = 0,
    shuffle_scale: bool = False,
    gemma_norm: bool = False,
    **options: object,
) -> tuple[ArrayT, ArrayT, ArrayT]:
    """rmsnorm2d_fwd_with_add_dynamicquant by its other name. Source: AITER add_rmsnorm_quant."""
    return rmsnorm2d_fwd_with_add_dynamicquant(
        x, residual_in, w, eps, 0, group_size, shuffle_scale, gemma_norm=gemma_norm, **options
    )


def rmsnorm2d_fwd_with_smoothquant(
    x: ArrayT,
    xscale: ArrayLike,
    w: ArrayLike | None = None,
    eps: float = 1e-6,
    use_model_sensitive_rmsnorm: int = 0,
    *,
    quant_dtype: DType = "int8",
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """RMS norm times xscale (columns,) f32, quantized per token. Returns (codes, scale).

    Source: AITER rmsnorm2d_fwd_with_smoothquant.
    """
    return norm_quant(
        x,
        w,
        quant=_quant(quant_dtype),
        eps=eps,
        smooth=xscale,
        use_model_sensitive_rmsnorm=use_model_sensitive_rmsnorm,
        out=out,
        out_scale=out_scale,
        stream=stream,
    )


def rmsnorm2d_fwd_with_add_smoothquant(
    x: ArrayT,
    residual_in: ArrayLike,
    xscale: ArrayLike,
    w: ArrayLike | None = None,
    eps: float = 1e-6,
    out_before_quant: ArrayT | None = None,
    use_model_sensitive_rmsnorm: int = 0,
    *,
    quant_dtype: DType = "int8",
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    residual_out: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ...]:
    """rmsnorm2d_fwd_with_smoothquant of x + residual_in.

    out_before_quant: an array like x for the norm before smoothing and quantization.
    Returns (codes, scale, out_before_quant if given, residual_out).
    Source: AITER rmsnorm2d_fwd_with_add_smoothquant.
    """
    return norm_quant(
        x,
        w,
        quant=_quant(quant_dtype),
        eps=eps,
        residual_in=residual_in,
        smooth=xscale,
        use_model_sensitive_rmsnorm=use_model_sensitive_rmsnorm,
        out=out,
        out_scale=out_scale,
        out_unquantized=out_before_quant,
        residual_out=residual_out,
        stream=stream,
    )


def layernorm2d_fwd_with_dynamicquant(
    x: ArrayT,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    x_bias: ArrayLike | None = None,
    **options: object,
) -> tuple[ArrayT, ArrayT]:
    """Layer norm, quantized per token. Returns (codes, scale).

    options: quant_dtype ("int8"), out, out_scale, stream.
    Source: AITER layernorm2d_fwd_with_dynamicquant.
    """
    return _layernorm_quant(x, weight, bias, eps, x_bias, **options)


def layernorm2d_fwd_with_add_dynamicquant(
    x: ArrayT,
    residual_in: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    x_bias: ArrayLike | None = None,
    **options: object,
) -> tuple[ArrayT, ArrayT, ArrayT]:
    """Layer norm of x + x_bias + residual_in, quantized per token.

    options: those of layernorm2d_fwd_with_dynamicquant, and residual_out.
    Returns (codes, scale, residual_out). Source: AITER layernorm2d_fwd_with_add_dynamicquant.
    """
    return _layernorm_quant(x, weight, bias, eps, x_bias, residual_in=residual_in, **options)


def layernorm2d_fwd_with_smoothquant(
    x: ArrayT,
    xscale: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    x_bias: ArrayLike | None = None,
    **options: object,
) -> tuple[ArrayT, ArrayT]:
    """Layer norm times xscale (columns,) f32, quantized per token. Returns (codes, scale).

    options: those of layernorm2d_fwd_with_dynamicquant.
    Source: AITER layernorm2d_fwd_with_smoothquant.
    """
    return _layernorm_quant(x, weight, bias, eps, x_bias, smooth=xscale, **options)


def layernorm2d_fwd_with_add_smoothquant(
    x: ArrayT,
    residual_in: ArrayLike,
    xscale: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    x_bias: ArrayLike | None = None,
    **options: object,
) -> tuple[ArrayT, ArrayT, ArrayT]:
    """layernorm2d_fwd_with_smoothquant of x + x_bias + residual_in.

    options: those of layernorm2d_fwd_with_dynamicquant, and residual_out.
    Returns (codes, scale, residual_out). Source: AITER layernorm2d_fwd_with_add_smoothquant.
    """
    return _layernorm_quant(
        x, weight, bias, eps, x_bias, residual_in=residual_in, smooth=xscale, **options
    )


def _layernorm_quant(x, weight, bias, eps, x_bias, *, quant_dtype="int8", **options):
    quant = _quant(quant_dtype)
    return norm_quant(x, weight, bias, quant, kind="layer", eps=eps, x_bias=x_bias, **options)


def gated_rmsnorm_fp8_group_quant(
    x: ArrayT,
    z: ArrayLike,
    w: ArrayLike | None = None,
    eps: float = 1e-6,
    group_size: int = 128,
    *,
    quant_dtype: DType = "float8_e4m3fn",
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """rms_norm(x) * silu(z) for each head, quantized in groups of the joined heads.

    x, z: (..., heads, head_dim). w: (head_dim,).
    Returns codes (..., heads * head_dim) and scale (..., heads * head_dim / group_size); give a
    transposed view as out_scale for column-major scales.
    Source: AITER gated_rmsnorm_fp8_group_quant.
    """
    return norm_quant(
        x,
        w,
        quant=Quant(quant_dtype, group_size),
        eps=eps,
        gate=z,
        flatten=True,
        out=out,
        out_scale=out_scale,
        stream=stream,
    )


def gated_rmsnorm_fp8_per_token_quant(
    x: ArrayT, z: ArrayLike, w: ArrayLike | None = None, eps: float = 1e-6, **options: object
) -> tuple[ArrayT, ArrayT]:
    """gated_rmsnorm_fp8_group_quant with one scale for all heads of a token: scale (..., 1).

    Source: AITER gated_rmsnorm_fp8_per_token_quant.
    """
    return gated_rmsnorm_fp8_group_quant(x, z, w, eps, 0, **options)


def fused_qk_rmsnorm(
    q: ArrayT,
    q_weight: ArrayLike | None = None,
    q_epsilon: float = 1e-6,
    k: ArrayLike | None = None,
    k_weight: ArrayLike | None = None,
    k_epsilon: float = 1e-6,
    q_residual: ArrayLike | None = None,
    gemma_norm: bool = False,
    quant: Quant | None = None,
    *,
    unquantized: DType | None = None,
    q_out: ArrayT | None = None,
    q_out_scale: ArrayT | None = None,
    q_out_unquantized: ArrayT | None = None,
    q_res_out: ArrayT | None = None,
    k_out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ...]:
    """Two RMS norms in one launch, of rows of unlike widths; the first may be quantized.

    q: (..., q_hidden), with q_residual added first (rounded, returned as q_res_out).
    k: (..., k_hidden) with as many rows, or None.
    quant: how q's norm is quantized (see norm_quant); None = it is not.
    unquantized: with quant, a dtype, q's or "float32", in which q's norm is returned too.
    Returns q's norm or codes, then, as far as they were asked for: q's scale, the unquantized norm,
    q_res_out, and k's norm. Source: AITER fused_qk_rmsnorm, fused_qk_rmsnorm_group_quant,
    fused_qk_rmsnorm_per_token_quant.
    """
    return _aiter.qk_rmsnorm(
        q,
        q_residual,
        q_weight,
        k,
        k_weight,
        q_epsilon,
        k_epsilon,
        gemma_norm,
        quant,
        unquantized,
        q_out,
        q_out_scale,
        q_out_unquantized,
        q_res_out,
        k_out,
        stream,
    )


def groupnorm_run(
    x: ArrayT,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    channels_last: bool = False,
    silu: bool = False,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Normalize groups of channels of each image, scale and shift each channel.

    x: (batch, channels, ...), or (batch, ..., channels) with channels_last; contiguous bf16, f16 or
        f32.
    weight, bias: (channels,) of x's dtype or f32, both the same; None = ones, zeros.
    silu: return v * sigmoid(v) of the norm v.
    out: like x, may be x itself.
    Returns an array like x. Source: AITER groupnorm_run.
    """
    return _aiter.groupnorm(x, weight, bias, num_groups, eps, channels_last, silu, out, stream)


def groupnorm_run_with_add(
    x: ArrayT,
    residual_in: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    *,
    channels_last: bool = False,
    silu: bool = False,
    out: ArrayT | None = None,
    residual_out: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """Add the residual, then normalize: residual_out = x + residual_in; y = groupnorm_run(it).

    The norm is taken of the sum as rounded to x's dtype.

    residual_in: like x. out, residual_out: like x; residual_out may be residual_in or x, out may be
        x. The rest as in `groupnorm_run`. Returns (y, residual_out).
    """
    return _aiter.add_groupnorm(
        x,
        residual_in,
        weight,
        bias,
        num_groups,
        eps,
        channels_last,
        silu,
        out,
        residual_out,
        stream,
    )


def groupnorm_quant(
    x: ArrayT,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    quant: Quant = Quant("int8"),  # noqa: B008 (a constant)
    *,
    eps: float = 1e-5,
    channels_last: bool = False,
    silu: bool = False,
    residual_in: ArrayLike | None = None,
    smooth: ArrayLike | None = None,
    unquantized: DType | None = None,
    return_moments: bool = False,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    out_unquantized: ArrayT | None = None,
    residual_out: ArrayT | None = None,
    moments: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ...]:
    """groupnorm_run with a quantized result, without rounding in between.

    codes, scale = quantize(v * smooth), v = groupnorm_run(x + residual_in) in fp32.

    Scales per token, and groups of columns, are of rows of x's last axis: the channels of a pixel with
    channels_last; otherwise neighbours of one channel, so that x as (batch, channels, places) has a
    scale for each channel of an image.

    x, num_groups, weight, bias, eps, channels_last, silu: as in groupnorm_run.
    quant: codes, groups and scales; see Quant.
    residual_in: like x; the sum is rounded, and returned as residual_out.
    smooth: (channels,) f32 (SmoothQuant).
    unquantized: a dtype, x's or "float32", in which v is returned too.
    return_moments: return mean and 1 / sqrt(variance + eps) of each group, too.
    out, out_scale, out_unquantized, residual_out, moments: arrays for the results; moments is
        (batch, num_groups, 2) f32.
    Returns codes, scale (unless it is given by quant), v (if asked for), residual_out (with
    residual_in) and the moments (if asked for). The codes are exactly those of `quantize` for v *
    smooth.
    """
    result = _aiter.groupnorm_quant(
        x,
        residual_in,
        weight,
        bias,
        smooth,
        num_groups,
        eps,
        channels_last,
        silu,
        quant,
        unquantized,
        return_moments,
        out,
        out_scale,
        out_unquantized,
        residual_out,
        moments,
        stream,
    )
    return result if isinstance(result, tuple) else (result,)


def rms_norm_backward(
    dy: ArrayT,
    x: ArrayLike,
    w: ArrayLike | None = None,
    eps: float = 1e-6,
    *,
    gemma_norm: bool = False,
    dresidual: ArrayLike | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """Gradients of y = rms_norm(x, w, eps), given that of y.

    dx = dresidual + (g - n * mean(g * n)) / s, dw = sum of dy * n over the rows, with g = dy * w,
    n = x / s, s = sqrt(mean(x^2) + eps).

    dy, x: (..., hidden) bf16, f16 or f32 of one dtype; strides as in rms_norm. For a norm with
        residual, x is its residual_out, and dx the gradient of both its inputs.
    dresidual: like x, the gradient of residual_out; None = zeros.
    out: dx, like x; may be dy, x or dresidual.
    Returns (dx, dw), or dx alone without w; dw has w's dtype. The same bits in every run.
    Source: AITER's Triton rms_norm.
    """
    return _aiter.rmsnorm_backward(dy, x, w, dresidual, eps, gemma_norm, out, stream)


def layer_norm_backward(
    dy: ArrayT,
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: bool = True,
    eps: float = 1e-5,
    *,
    x_bias: bool = False,
    dresidual: ArrayLike | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ...]:
    """Gradients of y = layer_norm(x, weight, bias, eps), given that of y.

    dx = dresidual + (g - mean(g) - n * mean(g * n)) / s, dw = sum of dy * n and db = sum of dy over
    the rows, with g = dy * weight, n = (x - mean(x)) / s, s = sqrt(variance(x) + eps).

    bias: whether there was one, and db is wanted.
    x_bias: whether x is the sum with one, and its gradient, the sum of dx over the rows, is wanted.
    The other arguments are those of rms_norm_backward.
    Returns (dx, dw, db, dx_bias), without those of what there is not.
    Source: AITER's Triton layer_norm.
    """
    return _aiter.layernorm_backward(dy, x, weight, dresidual, eps, bias, x_bias, out, stream)
