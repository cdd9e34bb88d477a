"""Quantization to int8, fp8 and fp4, and back.

Every quantizer here is one C operator, `aiter_quantize`, with another group of numbers per scale and
another kind of code. `quant_dtype` is "int8", "float8_e4m3fn" (OCP: gfx950, NVIDIA),
"float8_e4m3fnuz" (gfx942), "float8_e5m2", "float8_e5m2fnuz", or, packed into uint8 from the lowest
bits on, "float4_e2m1fnx2", "int4x2" (two codes a byte), "float6_e2m3fnx4" or "float6_e3m2fnx4"
(four codes in three bytes).
"""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

from . import _aiter

__all__ = [
    "MxScaleRoundMode",
    "Quant",
    "QuantType",
    "dequantize",
    "dynamic_mxfp4_quant",
    "dynamic_nvfp4_quant",
    "get_quant",
    "per_1x32_mx_quant",
    "per_block_quant",
    "per_group_quant",
    "per_tensor_quant",
    "pertoken_quant",
    "quantize",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .typing import ArrayLike, ArrayT, DType, Stream


class QuantType(enum.IntEnum):
    """AITER's QuantType: which numbers share a scale."""

    No = 0
    per_Tensor = 1
    per_Token = 2
    per_1x32 = 3
    per_1x128 = 4
    per_128x128 = 5


class MxScaleRoundMode(enum.IntEnum):
    """How the exponent of an e8m0 scale follows from the group's largest magnitude."""

    RoundDown = 0  # floor(log2 amax) - emax (the OCP specification)
    RoundUp = 1  # the smallest power of two >= amax / max: nothing saturates
    Even = 2  # amax rounded to the element's mantissa first, then as RoundDown
    Ceil = 3  # ceil(log2 amax) - emax


class Quant(NamedTuple):
    """How an operator quantizes its result: the argument `quant` of norms, activations and others.

    group_size: columns that share a scale, 16, 32, 64 or 128; 0 = all of a row.
    scale: given scales (static quantization): (1,), or one for each group.
    All else as in `quantize`.
    """

    quant_dtype: DType
    group_size: int = 0
    scale: ArrayLike | None = None
    scale_dtype: DType = "float32"
    scale_layout: str = "strided"
    round_mode: int = MxScaleRoundMode.RoundUp
    scale_ub: float | None = None
    global_scale: float = 1.0


def quantize(
    x: ArrayT,
    group: tuple[int, int] = (1, 0),
    quant_dtype: DType = "int8",
    *,
    scale: ArrayLike | None = None,
    scale_dtype: DType = "float32",
    smooth: ArrayLike | None = None,
    num_rows: ArrayLike | None = None,
    num_rows_factor: int = 1,
    scale_ub: float | None = None,
    round_mode: int = MxScaleRoundMode.RoundUp,
    global_scale: float = 1.0,
    scale_layout: str = "strided",
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """Quantize x with one scale per group of `group` = (rows, columns); 0 = all of them.

    codes = round(x * smooth / scale), scale = amax(group of x * smooth) / max(quant_dtype).

    x: (..., columns) f32, f16 or bf16.
    group: (1, 0) per token, (0, 0) per tensor, (1, 128) per group, (128, 128) per block.
    scale: given scales (static quantization); then only the codes are returned.
    scale_dtype: "float32", "bfloat16", "float8_e8m0fnu" (powers of two, by round_mode) or
        "float8_e4m3fn" (fp4 codes; times global_scale).
    smooth: (columns,) f32, multiplies x first.
    num_rows: (1,) int32; rows from num_rows * num_rows_factor on are padding: not read, not
        written.
    scale_ub: the largest magnitude that a scale makes room for.
    scale_layout: "strided", or "shuffled": the order of gfx950's matrix kernels, padded to
        multiples of 256 rows and 8 columns; scales of the padding are undefined.
    out, out_scale: arrays for the results; out_scale may be a transposed view, for column-major
        scales.
    Returns (codes, scale): codes like x, or uint8 with fewer columns where they are packed; scale (...,
    ceil(columns / group columns)), (row groups, column groups) for blocks, (1,) per tensor.
    Exact: codes and scales are those of the arithmetic written in include/aiter/quant.h. NaN
    becomes an integer's 0, the float's NaN, or fp4's or fp6's largest number, and leaves the scale alone.
    """
    bound = math.inf if scale_ub is None else scale_ub
    return _aiter.quantize(
        x,
        smooth,
        num_rows,
        scale,
        *group,
        quant_dtype,
        scale_dtype,
        int(round_mode),
        bound,
        global_scale,
        scale_layout,
        num_rows_factor,
        out,
        out_scale,
        stream,
    )


def dequantize(
    codes: ArrayT,
    scale: ArrayLike,
    group: tuple[int, int] = (1, 0),
    dtype: DType = "float32",
    *,
    quant_dtype: DType | None = None,
    scale_dtype: DType | None = None,
    global_scale: float = 1.0,
    scale_layout: str = "strided",
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Undo `quantize`: codes * scale (* global_scale for e4m3fn scales), rounded to dtype.

    quant_dtype, scale_dtype: what uint8 arrays hold ("float4_e2m1fnx2", "float8_e8m0fnu" ...).
    group: as given to `quantize`. Returns an array of x's shape.
    """
    return _aiter.dequantize(
        codes,
        scale,
        *group,
        quant_dtype,
        scale_dtype,
        global_scale,
        scale_layout,
        dtype,
        out,
        stream,
    )


def per_tensor_quant(
    x: ArrayT,
    scale: ArrayLike | None = None,
    quant_dtype: DType = "int8",
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayLike]:
    """One scale for all of x. Returns (codes, scale (1,)). Source: AITER per_tensor_quant."""
    result = quantize(x, (0, 0), quant_dtype, scale=scale, out=out, stream=stream)
    return result if scale is None else (result, scale)


def pertoken_quant(
    x: ArrayT,
    scale: ArrayLike | None = None,
    x_scale: ArrayLike | None = None,
    scale_dtype: DType = "float32",
    quant_dtype: DType = "int8",
    *,
    scale_ub: float | None = None,
    num_rows: ArrayLike | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayLike]:
    """One scale per row; x_scale (columns,) multiplies x first (SmoothQuant).

    Returns (codes, scale (..., 1)). Source: AITER pertoken_quant, dynamic_per_token_scaled_quant,
    smooth_per_token_scaled_quant.
    """
    result = quantize(
        x,
        (1, 0),
        quant_dtype,
        scale=scale,
        scale_dtype=scale_dtype,
        smooth=x_scale,
        scale_ub=scale_ub,
        num_rows=num_rows,
        out=out,
        stream=stream,
    )
    return result if scale is None else (result, scale)


def per_group_quant(
    x: ArrayT,
    quant_dtype: DType = "float8_e4m3fn",
    group_size: int = 128,
    *,
    scale_dtype: DType = "float32",
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """One scale per `group_size` neighbours of a row: DeepSeek's 1 x 128 activations.

    Returns (codes, scale (..., columns / group_size)). For column-major scales give a transposed
    view as out_scale. Source: AITER per_group_quant_hip.
    """
    return quantize(
        x,
        (1, group_size),
        quant_dtype,
        scale_dtype=scale_dtype,
        out=out,
        out_scale=out_scale,
        stream=stream,
    )


def per_block_quant(
    x: ArrayT,
    block_shape: tuple[int, int] = (128, 128),
    quant_dtype: DType = "float8_e4m3fn",
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """One scale per block of a matrix: DeepSeek's 128 x 128 weights. Source: AITER
    per_block_quant_wrapper. Returns (codes, scale (row blocks, column blocks))."""
    return quantize(x, block_shape, quant_dtype, out=out, stream=stream)


def per_1x32_mx_quant(
    x: ArrayT,
    quant_dtype: DType = "float4_e2m1fnx2",
    *,
    round_mode: int = MxScaleRoundMode.RoundUp,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """MXFP4 or MXFP8: groups of 32 with power-of-two scales (e8m0).

    Returns (codes, scale (..., columns / 32) float8_e8m0fnu). Source: AITER per_1x32_mx_quant_hip;
    OCP Microscaling Formats 1.0.
    """
    return quantize(
        x,
        (1, 32),
        quant_dtype,
        scale_dtype="float8_e8m0fnu",
        round_mode=round_mode,
        out=out,
        out_scale=out_scale,
        stream=stream,
    )


def dynamic_mxfp4_quant(
    x: ArrayT,
    *,
    scaling_mode: int = MxScaleRoundMode.Even,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """`per_1x32_mx_quant` to fp4 with the rounding of AITER's Triton dynamic_mxfp4_quant."""
    return per_1x32_mx_quant(x, "float4_e2m1fnx2", round_mode=scaling_mode, out=out, stream=stream)


def dynamic_nvfp4_quant(
    x: ArrayT,
    global_scale: float = 1.0,
    *,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """NVFP4: fp4 codes, groups of 16 with e4m3 scales, and one fp32 factor for all.

    x ~ code * scale * global_scale; a good global_scale is amax(x) / (6 * 448).
    Returns (codes, scale (..., columns / 16) float8_e4m3fn). Source: AITER dynamic_nvfp4_quant.
    """
    return quantize(
        x,
        (1, 16),
        "float4_e2m1fnx2",
        scale_dtype="float8_e4m3fn",
        global_scale=global_scale,
        out=out,
        out_scale=out_scale,
        stream=stream,
    )


_GROUPS = {
    QuantType.per_Tensor: (0, 0),
    QuantType.per_Token: (1, 0),
    QuantType.per_1x128: (1, 128),
    QuantType.per_128x128: (128, 128),
}


def get_quant(quant_type: int) -> Callable[..., tuple[ArrayLike, ArrayLike | None]]:
    """The quantizer of a QuantType: f(x, scale=None, quant_dtype="int8") -> (codes, scale).

    Source: AITER get_torch_quant, get_hip_quant, get_triton_quant.
    """
    quant_type = QuantType(quant_type)

    def quant(x, scale=None, quant_dtype="int8", **options):
        if quant_type == QuantType.No:
            return x, None
        if quant_type == QuantType.per_1x32:
            return per_1x32_mx_quant(x, quant_dtype, **options)
        result = quantize(x, _GROUPS[quant_type], quant_dtype, scale=scale, **options)
        return result if scale is None else (result, scale)

    return quant
