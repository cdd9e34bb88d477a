"""Matrix products with weights stored row by row: y[m, n] = sum_k x[m, k] * w[n, k] + bias[n]."""

from __future__ import annotations

from typing import NamedTuple

from . import _aiter

__all__ = [
    "gemm_a16w16",
    "gemm_a16w4",
    "gemm_a16w4_pack",
    "gemm_a16w4_unpack",
    "gemm_a16w8",
    "gemm_a16w8_pack",
    "gemm_a16w8_unpack",
    "gemm_a8w8",
    "gemm_weight_info",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayLike, ArrayT, DType, Stream


def gemm_a16w16(
    A: ArrayT,
    B: ArrayLike,
    bias: ArrayLike | None = None,
    otype: DType | None = None,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Multiply plain matrices: y = A @ B.T + bias, with fp32 sums.

    A: (..., K) bf16, f16 or f32; the last stride is 1, the leading dimensions fold into two.
    B: (N, K) of A's dtype; the last stride is 1.
    bias: (N,) of A's dtype or f32. otype: dtype of the result (bf16, f16 or f32), default A's.
    Returns (..., N). Raises ValueError on a wrong shape, dtype or stride.
    Accuracy: aiter.testing.bound(otype, K). bf16 denormals may count as zero.
    Source: AITER gemm_a16w16.
    """
    return _aiter.gemm_a16w16(A, B, bias, otype, out, stream)


def gemm_a8w8(
    XQ: ArrayT,
    WQ: ArrayLike,
    x_scale: ArrayLike,
    w_scale: ArrayLike,
    bias: ArrayLike | None = None,
    dtype: DType = "bfloat16",
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Multiply int8 matrices exactly, then scale: y = (XQ @ WQ.T) * x_scale * w_scale + bias.

    XQ: (..., K) int8, WQ: (N, K) int8; the last strides are 1, K is at most 131071.
    x_scale: f32, one per row of XQ: (M,), (M, 1) or XQ's leading dimensions.
    w_scale: f32, one per row of WQ: (N,), (1, N) or (N, 1).
    bias: (N,) of the result's dtype or f32. dtype: of the result, bf16, f16 or f32.
    Returns (..., N). Raises ValueError on a wrong shape, dtype or stride.
    The sum is exact in int32; scales and bias are applied in fp32. Source: AITER gemm_a8w8.
    """
    return _aiter.gemm_a8w8(XQ, WQ, x_scale, w_scale, bias, dtype, out, stream)


def gemm_a16w4(
    x: ArrayT,
    w: ArrayLike,
    w_scale: ArrayLike | None = None,
    w_min: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    dtype: DType | None = None,
    *,
    activation: str = "16bit",
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Multiply by 4-bit weights: w[n, k] = code[n, k] * w_scale[n, k // 32] + w_min[n, k // 32].

    x: (..., K) bf16, f16 or f32; the last stride is 1, K a multiple of 32.
    w: (N, K/2) uint8, codes 0..15, that of an even k in the low half of its byte; w_scale and w_min
        are (N, K/32), f16, bf16 or f32, w_min None = 0. Or w is what `gemm_a16w4_pack` made, which
        is faster, and w_scale and w_min are None.
    bias: (N,) of x's dtype or f32. dtype: of the result, default x's.
    activation: how precisely x is taken. "16bit": each value is off by at most 1/64000 of the
        largest |x| of its 32 neighbours that share a scale; "8bit": by at most 1/250; "32bit": not
        at all, the slowest. Products and sums are fp32.
    Returns (..., N). Raises ValueError on a wrong shape, dtype, stride or packed form.
    GGUF's Q4_1 has this form; its Q4_0 is w_min = -8 * w_scale.
    A row of x with a NaN gives a row of NaN; one with an infinity may, except with "32bit".
    """
    return _aiter.gemm_a16w4(x, w, w_scale, w_min, bias, dtype, activation, out, stream)


def gemm_a16w4_pack(
    w: ArrayT,
    w_scale: ArrayLike,
    w_min: ArrayLike | None = None,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The form of 4-bit weights that `gemm_a16w4` reads fastest, as one uint8 array.

    The array describes itself (format, N, K, scale dtype), so it cannot be taken for another.
    Its layout may change between versions: store the arguments instead.
    """
    return _aiter.gemm_a16w4_pack(w, w_scale, w_min, out, stream)


def gemm_a16w4_unpack(
    packed: ArrayT,
    *,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT, ArrayT | None]:
    """The exact inverse of `gemm_a16w4_pack`: (w, w_scale, w_min), w_min None if there was none."""
    return _aiter.gemm_a16w4_unpack(packed, stream)


def gemm_a16w8(
    x: ArrayT,
    w: ArrayLike,
    w_scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    dtype: DType | None = None,
    *,
    activation: str = "16bit",
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Multiply by 8-bit weights: w[n, k] = code[n, k] * w_scale[n, k // 32].

    w: (N, K) int8 and w_scale (N, K/32) f16, bf16 or f32; or w is what `gemm_a16w8_pack` made and
        w_scale is None. GGUF's Q8_0 has this form.
    All else is as in `gemm_a16w4`.
    """
    return _aiter.gemm_a16w8(x, w, w_scale, bias, dtype, activation, out, stream)


def gemm_a16w8_pack(
    w: ArrayT,
    w_scale: ArrayLike,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The form of 8-bit weights that `gemm_a16w8` reads fastest; see `gemm_a16w4_pack`."""
    return _aiter.gemm_a16w8_pack(w, w_scale, out, stream)


def gemm_a16w8_unpack(packed: ArrayT, *, stream: Stream = None) -> tuple[ArrayT, ArrayT]:
    """The exact inverse of `gemm_a16w8_pack`: (w, w_scale)."""
    return _aiter.gemm_a16w8_unpack(packed, stream)


class WeightInfo(NamedTuple):
    """What packed weights hold: bits a code, the matrix (n, k), the rows with padding, the dtype
    of the scales, and whether there are minimums."""

    bits: int
    n: int
    k: int
    padded_n: int
    scale_dtype: str
    has_min: bool


def gemm_weight_info(packed: ArrayLike) -> WeightInfo:
    """Describe weights packed by `gemm_a16w4_pack` or `gemm_a16w8_pack`: a WeightInfo."""
    return WeightInfo(*_aiter.gemm_weight_info(packed))
