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
    "ShuffledWeight",
    "dequantize",
    "dynamic_mxfp4_quant",
    "dynamic_mxfp8_quant",
    "dynamic_nvfp4_quant",
    "e8m0_shuffle",
    "fp8_legacy_to_mxfp8",
    "get_hip_quant",
    "get_quant",
    "get_torch_quant",
    "get_triton_quant",
    "moe_shuffle_scale",
    "moe_shuffle_weight",
    "moe_smoothquant",
    "normalize_fp8",
    "partial_transpose",
    "per_1x32_f4_quant",
    "per_1x32_f4_quant_hip",
    "per_1x32_f8_scale_f8_quant",
    "per_1x32_i4_quant",
    "per_1x32_mx_quant",
    "per_1x32_mx_quant_hip",
    "per_block_quant",
    "per_group_quant",
    "per_group_quant_hip",
    "per_tensor_quant",
    "per_tensor_quant_hip",
    "per_token_quant_hip",
    "pertoken_quant",
    "quant_mxfp4_hip",
    "quantize",
    "requantize",
    "rotate_activation",
    "shuffle_scale",
    "shuffle_scale_a16w4",
    "shuffle_weight",
    "shuffle_weight_a16w4",
    "shuffled_weight_info",
    "smoothquant",
    "unshuffle_scale",
    "unshuffle_weight",
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
    EvenFp4 = 4  # as Even with fp4's mantissa, for all codes: AITER's Triton kernels for fp8


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
    global_scale: float | ArrayLike = 1.0


def quantize(
    x: ArrayT,
    group: tuple[int, int] = (1, 0),
    quant_dtype: DType = "int8",
    *,
    scale: ArrayLike | None = None,
    scale_dtype: DType = "float32",
    smooth: ArrayLike | None = None,
    smooth_map: ArrayLike | None = None,
    num_rows: ArrayLike | None = None,
    num_rows_factor: int = 1,
    scale_ub: float | None = None,
    round_mode: int = MxScaleRoundMode.RoundUp,
    global_scale: float | ArrayLike = 1.0,
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
    smooth: (columns,) f32, multiplies x first; with smooth_map (experts, columns).
    smooth_map: (...,) int32: the row of smooth that each row of x takes. Rows with an entry outside
        [0, experts) are neither read nor written. Needs groups within rows.
    num_rows: (1,) int32; rows from num_rows * num_rows_factor on are padding: not read, not
        written.
    scale_ub: the largest magnitude that a scale makes room for.
    global_scale: of e4m3fn scales, a factor of all; a number, or an array (1,) f32 on x's device,
        read when the kernel runs.
    scale_layout: "strided", or "shuffled": the order of gfx950's matrix kernels, padded to
        multiples of 256 rows and 8 columns; scales of the padding are undefined.
    out, out_scale: arrays for the results; out_scale may be a transposed view, for column-major
        scales.
    Returns (codes, scale): codes like x, or uint8 with fewer columns where they are packed; scale
    (..., ceil(columns / group columns)), (row groups, column groups) for blocks, (1,) per tensor.
    Exact: codes and scales are those of the arithmetic written in include/aiter/quant.h. NaN
    becomes an integer's 0, the float's NaN, or fp4's or fp6's largest number, and leaves the scale
    alone.
    """
    bound = math.inf if scale_ub is None else scale_ub
    return _aiter.quantize(
        x,
        smooth,
        smooth_map,
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
    global_scale: float | ArrayLike = 1.0,
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
    scale_layout: str = "strided",
    num_rows: ArrayLike | None = None,
    num_rows_factor: int = 1,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """MXFP4, MXFP6 or MXFP8: groups of 32 with power-of-two scales (e8m0).

    Returns (codes, scale (..., columns / 32) float8_e8m0fnu). Source: AITER per_1x32_mx_quant_hip;
    OCP Microscaling Formats 1.0.
    """
    return quantize(
        x,
        (1, 32),
        quant_dtype,
        scale_dtype="float8_e8m0fnu",
        round_mode=round_mode,
        scale_layout=scale_layout,
        num_rows=num_rows,
        num_rows_factor=num_rows_factor,
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
    global_scale: float | ArrayLike = 1.0,
    *,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """NVFP4: fp4 codes, groups of 16 with e4m3 scales, and one fp32 factor for all.

    x ~ code * scale * global_scale; a good global_scale is amax(x) / (6 * 448). It may be an array
    (1,) f32 on x's device: it is read when the kernel runs.
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


def dynamic_mxfp8_quant(
    x: ArrayT,
    quant_dtype: DType = "float8_e4m3fn",
    *,
    scaling_mode: int = MxScaleRoundMode.EvenFp4,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """`per_1x32_mx_quant` to fp8 with the rounding of AITER's Triton dynamic_mxfp8_quant."""
    return per_1x32_mx_quant(x, quant_dtype, round_mode=scaling_mode, out=out, stream=stream)


def quant_mxfp4_hip(
    x: ArrayT,
    group_size: int = 32,
    round_mode: int = MxScaleRoundMode.RoundUp,
    e8m0_shuffle: bool = False,
    a16w4_shuffle: bool = False,
    gate_up: bool = False,
    shuffle_weight: bool = False,
    *,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """MXFP4 with any group size, rounding and order of scales and codes. Source: AITER
    quant_mxfp4_hip.

    e8m0_shuffle: scales as by `e8m0_shuffle`. a16w4_shuffle: as by `shuffle_scale_a16w4` for one
        expert, with gate_up if that is given.
    shuffle_weight: with one of them, codes as by `shuffle_weight` or `shuffle_weight_a16w4`.
    """
    if e8m0_shuffle and a16w4_shuffle:
        raise ValueError("quant_mxfp4_hip: e8m0_shuffle and a16w4_shuffle exclude each other")
    if shuffle_weight and not (e8m0_shuffle or a16w4_shuffle):
        raise ValueError("quant_mxfp4_hip: shuffle_weight needs e8m0_shuffle or a16w4_shuffle")
    if gate_up and not a16w4_shuffle:
        raise ValueError("quant_mxfp4_hip: gate_up needs a16w4_shuffle")
    codes, scale = quantize(
        x,
        (1, group_size),
        "float4_e2m1fnx2",
        scale_dtype="float8_e8m0fnu",
        round_mode=round_mode,
        scale_layout="shuffled" if e8m0_shuffle else "strided",
        out=None if shuffle_weight else out,
        out_scale=None if a16w4_shuffle else out_scale,
        stream=stream,
    )
    if a16w4_shuffle:
        scale = _aiter.shuffle_scale(scale, 1, gate_up, True, out_scale, stream)
    if shuffle_weight:
        tile = 64 if a16w4_shuffle else 32
        codes = _aiter.shuffle_weight(codes, 16, tile, 16, gate_up, 0, out, stream)
    return codes, scale


def per_1x32_i4_quant(
    weight: ArrayT, group_size: int = 32, *, out: ArrayT | None = None, stream: Stream = None
) -> tuple[ArrayT, ArrayT]:
    """int4 weights in groups along K: codes -7..7, bf16 scales, both of (N, K).

    Returns (codes (..., K / 2) uint8, two a byte, the even k in the lower half; scale (...,
    K / group_size) bf16). AITER's scale is the transposed view. Source: AITER per_1x32_i4_quant.
    """
    return quantize(
        weight, (1, group_size), "int4x2", scale_dtype="bfloat16", out=out, stream=stream
    )


def per_1x32_f8_scale_f8_quant(
    x: ArrayT,
    quant_dtype: DType = "float8_e4m3fn",
    *,
    scale_type: DType = "float32",
    shuffle: bool = False,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """fp8 in groups of 32, with f32 or e8m0 scales. Source: AITER per_1x32_f8_scale_f8_quant.

    AITER's f32 scale makes room for 256, not 448: 7 / 4 of the one here.
    """
    return quantize(
        x,
        (1, 32),
        quant_dtype,
        scale_dtype=scale_type,
        scale_layout="shuffled" if shuffle else "strided",
        out=out,
        stream=stream,
    )


def smoothquant(
    x: ArrayT,
    smooth_scale: ArrayLike,
    quant_dtype: DType = "int8",
    *,
    smooth_scale_map: ArrayLike | None = None,
    num_rows: ArrayLike | None = None,
    num_rows_factor: int = 1,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """Per token, of x * smooth_scale: (columns,), or (experts, columns) with a map (...,) int32.

    Returns (codes, scale (..., 1)). Source: AITER smoothquant_fwd, smooth_per_token_scaled_quant.
    """
    return quantize(
        x,
        (1, 0),
        quant_dtype,
        smooth=smooth_scale,
        smooth_map=smooth_scale_map,
        num_rows=num_rows,
        num_rows_factor=num_rows_factor,
        out=out,
        out_scale=out_scale,
        stream=stream,
    )


def moe_smoothquant(
    x: ArrayT,
    x_scale: ArrayLike,
    topk_ids: ArrayLike,
    quant_dtype: DType = "int8",
    *,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """Each token once for each of its experts, times the expert's smooth scale, per token.

    x: (tokens, columns). x_scale: (experts, columns) f32. topk_ids: (tokens, topk) int32; what is
    not in [0, experts) is passed over.
    Returns (codes (topk, tokens, columns), scale (topk, tokens, 1)). Source: AITER
    moe_smoothquant_fwd.
    """
    return _aiter.moe_smoothquant(x, x_scale, topk_ids, quant_dtype, out, out_scale, stream)


def requantize(
    codes: ArrayT,
    scale: ArrayLike,
    group: tuple[int, int] = (1, 0),
    out_group: tuple[int, int] = (1, 0),
    quant_dtype: DType = "int8",
    *,
    given_scale: ArrayLike | None = None,
    from_dtype: DType | None = None,
    from_scale_dtype: DType | None = None,
    from_global_scale: float | ArrayLike = 1.0,
    from_scale_layout: str = "strided",
    scale_dtype: DType = "float32",
    global_scale: float | ArrayLike = 1.0,
    scale_layout: str = "strided",
    round_mode: int = MxScaleRoundMode.RoundUp,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """`quantize` of `dequantize`, without the numbers in between: other codes, other groups.

    from_...: what codes and scale are, as for `dequantize`; all else as for `quantize`. With
    given_scale only the codes are returned.
    """
    return _aiter.requantize(
        codes,
        scale,
        tuple(group),
        from_dtype,
        from_scale_dtype,
        from_global_scale,
        from_scale_layout,
        tuple(out_group),
        quant_dtype,
        scale_dtype,
        global_scale,
        scale_layout,
        int(round_mode),
        given_scale,
        out,
        out_scale,
        stream,
    )


def normalize_fp8(
    codes: ArrayT,
    scale: ArrayT,
    new_scale: ArrayT,
    quant_dtype: DType,
    group: tuple[int, int] = (0, 0),
    *,
    from_dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Codes of another kind of fp8 for the same numbers, with given scales.

    With new_scale = 2 * scale, e4m3fn becomes e4m3fnuz bit by bit (NaN and -0 change their codes);
    with scale / 2, back again, where 240 becomes 224.
    """
    return requantize(
        codes,
        scale,
        group,
        group,
        quant_dtype,
        given_scale=new_scale,
        from_dtype=from_dtype,
        out=out,
        stream=stream,
    )


def fp8_legacy_to_mxfp8(
    x_fnuz: ArrayT,
    x_scale: ArrayLike,
    *,
    round_mode: int = MxScaleRoundMode.EvenFp4,
    scale_layout: str = "strided",
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """e4m3fnuz with f32 scales per 1 x 128 as e4m3fn with e8m0 scales per 1 x 32.

    Source: AITER fp8_legacy_to_mxfp8.
    """
    return requantize(
        x_fnuz,
        x_scale,
        (1, 128),
        (1, 32),
        "float8_e4m3fn",
        from_dtype="float8_e4m3fnuz",
        scale_dtype="float8_e8m0fnu",
        round_mode=round_mode,
        scale_layout=scale_layout,
        out=out,
        out_scale=out_scale,
        stream=stream,
    )


def rotate_activation(
    x: ArrayT,
    quant: Quant | None = None,
    *,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """The Walsh-Hadamard transform of each row, times 1 / sqrt(columns): its own inverse.

    x: (..., columns) f32, f16 or bf16, columns a power of two up to 8192.
    quant: quantize the result. dtype: of the result otherwise; None = x's.
    Returns y, or (codes, scale) with computed scales. Source: AITER rotate_activation.
    """
    return _aiter.rotate_activation(x, quant, dtype, out, out_scale, stream)


def partial_transpose(
    x: ArrayT, num_rows: ArrayLike, *, out: ArrayT | None = None, stream: Stream = None
) -> ArrayT:
    """The valid rows of x, transposed and dense: column-major scales of a buffer with room to spare.

    x: (rows, columns) f32, f16, bf16 or uint8, any strides. num_rows: (1,) int32 on x's device, n.
    Returns (columns, rows), whose first columns * n elements are x[:n] transposed, as (columns, n);
    the rest is not written. Source: AITER partial_transpose.
    """
    return _aiter.partial_transpose(x, num_rows, out, stream)


class ShuffledWeight(NamedTuple):
    """What a shuffled weight holds: the plain shape and dtype, K with padding, and the layout."""

    shape: tuple[int, ...]
    dtype: str
    padded_k: int
    tile_rows: int
    tile_elements: int
    pack_elements: int
    gate_up: bool


def shuffle_weight(
    x: ArrayT,
    layout: tuple[int, int] = (16, 16),
    use_int4: bool = False,
    is_guinterleave: bool = False,
    gate_up: bool = False,
    pad_k_to: int = 0,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Weights in the order in which matrix kernels read them.

    x: (N, K) or (experts, N, K), of elements of 1, 2 or 4 bytes, contiguous.
    layout: (rows of a tile, half its elements); (16, 16), or (32, 16) for int8 kernels.
    use_int4: 4-bit codes, each in a byte: 32 of them stay together, not 16 bytes.
    is_guinterleave: layout is (rows of a tile, elements that stay together), and a tile has 64 /
        rows packs; with gate_up, tiles of the gate's and of the up projection's rows alternate.
    pad_k_to: K is padded with zeros to a multiple.
    Returns (bytes,) uint8: a head of 64 bytes which describes layout, shape and padding (see
    `shuffled_weight_info`), then the elements. Source: AITER shuffle_weight.
    """
    rows, k = layout
    tile, pack = (64 // rows * k, k) if is_guinterleave else (2 * k, 32 if use_int4 else 0)
    return _aiter.shuffle_weight(
        x, rows, tile, pack, is_guinterleave and gate_up, pad_k_to, out, stream
    )


def unshuffle_weight(
    packed: ArrayT,
    *,
    info: ShuffledWeight | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The exact inverse of `shuffle_weight`, whatever its layout.

    info: what `shuffled_weight_info` told, which is asked for by default: on a GPU that waits for the
        stream. There, where it is not what the weight says of itself, nothing is written.
    """
    info = info or shuffled_weight_info(packed, stream=stream)
    return _aiter.unshuffle_weight(packed, *info, out, stream)


def shuffled_weight_info(packed: ArrayLike, *, stream: Stream = None) -> ShuffledWeight:
    """Describe what `shuffle_weight` made. On a GPU it waits for the stream."""
    return ShuffledWeight(*_aiter.shuffled_weight_info(packed, stream))


def shuffle_weight_a16w4(
    src: ArrayT, NLane: int = 16, gate_up: bool = False, *, stream: Stream = None
) -> ArrayT:
    """`shuffle_weight` of packed fp4 (experts, N, K / 2) for products with 16-bit activations."""
    return shuffle_weight(src, (NLane, 16), is_guinterleave=True, gate_up=gate_up, stream=stream)


def moe_shuffle_weight(
    src: ArrayT, gate_up: bool = False, *, NLane: int = 16, stream: Stream = None
) -> ArrayT:
    """`shuffle_weight_a16w4`, under AITER's other name."""
    return shuffle_weight_a16w4(src, NLane, gate_up, stream=stream)


def shuffle_scale(
    src: ArrayT,
    experts_cnt: int | None = None,
    is_guinterleave: bool = False,
    gate_up: bool = False,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Scales of one byte each in the order of `quantize`'s scale_layout="shuffled".

    src: (rows, columns). Returns them padded with zeros to multiples of 256 rows and 8 columns; with
    is_guinterleave unpadded, expert by expert (rows / experts_cnt a multiple of 32), the pairs of
    rows from the gate's and the up projection's half if gate_up. Source: AITER shuffle_scale.
    """
    experts = experts_cnt if is_guinterleave and experts_cnt else 1
    gate_up = is_guinterleave and gate_up
    return _aiter.shuffle_scale(src, experts, gate_up, is_guinterleave, out, stream)


def unshuffle_scale(
    shuffled: ArrayT,
    shape: tuple[int, int],
    experts_cnt: int = 1,
    gate_up: bool = False,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The exact inverse of `shuffle_scale`; shape: (rows, columns) without the padding."""
    return _aiter.unshuffle_scale(shuffled, *shape, experts_cnt, gate_up, out, stream)


def e8m0_shuffle(scale: ArrayT, *, out: ArrayT | None = None, stream: Stream = None) -> ArrayT:
    """`shuffle_scale` of one matrix, under AITER's other name."""
    return shuffle_scale(scale, out=out, stream=stream)


def shuffle_scale_a16w4(
    src: ArrayT, experts_cnt: int, gate_up: bool, *, stream: Stream = None
) -> ArrayT:
    """`shuffle_scale` for products with 16-bit activations."""
    return shuffle_scale(src, experts_cnt, True, gate_up, stream=stream)


moe_shuffle_scale = shuffle_scale_a16w4

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


def per_tensor_quant_hip(
    x: ArrayT,
    scale: ArrayLike | None = None,
    quant_dtype: DType = "int8",
    **options: object,
) -> tuple[ArrayT, ArrayLike]:
    """`per_tensor_quant`."""
    return per_tensor_quant(x, scale, quant_dtype, **options)


def per_token_quant_hip(
    x: ArrayT,
    scale: ArrayLike | None = None,
    quant_dtype: DType = "int8",
    num_rows: ArrayLike | None = None,
    num_rows_factor: int = 1,
    **options: object,
) -> tuple[ArrayT, ArrayT]:
    """One computed scale per row. Returns (codes, scale (..., 1))."""
    return quantize(
        x,
        (1, 0),
        quant_dtype,
        scale=scale,
        num_rows=num_rows,
        num_rows_factor=num_rows_factor,
        **options,
    )


def per_group_quant_hip(
    x: ArrayT,
    scale: ArrayLike | None = None,
    quant_dtype: DType = "int8",
    group_size: int = 128,
    transpose_scale: bool = False,
    num_rows: ArrayLike | None = None,
    num_rows_factor: int = 1,
    scale_type: DType = "float32",
    **options: object,
) -> tuple[ArrayT, ArrayT]:
    """One scale per group_size neighbours of a row.

    transpose_scale: e8m0 scales of groups of 32 come shuffled; for column-major ones give a
    transposed view as out_scale. Returns (codes, scale).
    """
    if transpose_scale and "out_scale" not in options:
        options["scale_layout"] = "shuffled"
    return quantize(
        x,
        (1, group_size),
        quant_dtype,
        scale=scale,
        scale_dtype=scale_type,
        num_rows=num_rows,
        num_rows_factor=num_rows_factor,
        **options,
    )


def per_1x32_mx_quant_hip(
    x: ArrayT,
    scale: ArrayLike | None = None,
    quant_dtype: DType = "float4_e2m1fnx2",
    shuffle: bool = False,
    num_rows: ArrayLike | None = None,
    num_rows_factor: int = 1,
    scale_type: DType | None = None,
    **options: object,
) -> tuple[ArrayT, ArrayT]:
    """Groups of 32: fp4 with e8m0 scales; fp8 with f32 scales, or e8m0 ones by scale_type."""
    fp4 = "float4_e2m1fnx2"
    return per_group_quant_hip(
        x,
        scale,
        quant_dtype,
        32,
        shuffle,
        num_rows,
        num_rows_factor,
        scale_type or ("float8_e8m0fnu" if quant_dtype == fp4 else "float32"),
        **options,
    )


def per_1x32_f4_quant(
    x: ArrayT,
    scale: ArrayLike | None = None,
    quant_dtype: DType = "float4_e2m1fnx2",
    shuffle: bool = False,
    *,
    round_mode: int = MxScaleRoundMode.RoundUp,
    **options: object,
) -> tuple[ArrayT, ArrayT]:
    """MXFP4. Returns (codes (..., columns / 2) uint8, scale (..., columns / 32))."""
    return per_1x32_mx_quant_hip(x, scale, quant_dtype, shuffle, round_mode=round_mode, **options)


per_1x32_f4_quant_hip = per_1x32_mx_quant_hip
get_hip_quant = get_torch_quant = get_triton_quant = get_quant
