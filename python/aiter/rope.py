"""Rotary position embedding.

Every function here is one C operator, which turns the pairs (a, b) of each head by the angles of a row
of its tables: (a cos - b sin, b cos + a sin). They differ in where the row comes from, and in how
tokens and tables lie in memory. Arguments that they share:

rotate_style: 0 (RotateStyle.NEOX): dimension i turns with i + R/2; 1 (GPTJ): 2 i turns with 2 i + 1.
reuse_freqs_front_part: the tables have a column for each of the R/2 pairs; else for each of the R
    dimensions (and a pair's two may differ).
nope_first: the last R dimensions of a head turn, instead of the first R; the others are copied.
transpose_output: the result's memory has the first two dimensions the other way round: (B, S, ...).
out: arrays for the results, which may be the inputs. `..._inplace` functions write and return these.

Tables are f32, f16 or bf16, whatever x is: `freqs` are angles in radians, `cos` and `sin` their cosine
and sine; (rows, R or R/2), with dimensions of extent 1 anywhere before the last. A row outside of the
tables raises ValueError on the CPU; on a GPU, where that cannot be reported, the token is copied.
"""

from __future__ import annotations

from . import _aiter

__all__ = [
    "batched_rotary_embedding",
    "fused_qk_norm_rope",
    "fused_qk_norm_rope_1way",
    "fused_qkv_split_qk_rope",
    "mrope_fwd",
    "rope_2c_bwd",
    "rope_2c_fwd",
    "rope_2c_fwd_inplace",
    "rope_2d_bwd",
    "rope_2d_fwd",
    "rope_2d_fwd_inplace",
    "rope_bwd",
    "rope_cached_2c_bwd",
    "rope_cached_2c_fwd",
    "rope_cached_2c_fwd_inplace",
    "rope_cached_bwd",
    "rope_cached_fwd",
    "rope_cached_fwd_inplace",
    "rope_cached_positions_2c_bwd",
    "rope_cached_positions_2c_fwd",
    "rope_cached_positions_2c_fwd_inplace",
    "rope_cached_positions_bwd",
    "rope_cached_positions_fwd",
    "rope_cached_positions_fwd_inplace",
    "rope_cached_positions_offsets_2c_bwd",
    "rope_cached_positions_offsets_2c_fwd",
    "rope_cached_positions_offsets_2c_fwd_inplace",
    "rope_cached_positions_offsets_bwd",
    "rope_cached_positions_offsets_fwd",
    "rope_cached_positions_offsets_fwd_inplace",
    "rope_fwd",
    "rope_fwd_3d",
    "rope_fwd_inplace",
    "rope_thd_bwd",
    "rope_thd_fwd",
    "rope_thd_fwd_inplace",
    "rotary_embedding_fwd",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayLike, ArrayT, Stream

# aiter_rope_rows: which row of the tables turns a token.
_SEQUENCE, _POSITIONS, _SEQUENCES, _GRID, _IMAGE = range(5)


def _turn(
    x,
    y,
    cos,
    sin,
    rotate_style,
    reuse_freqs_front_part=True,
    nope_first=False,
    transpose_output=False,
    *,
    rows=_SEQUENCE,
    positions=None,
    offsets=None,
    cos_w=None,
    sin_w=None,
    head_size=0,
    sections=(0, 0, 0),
    sections_interleaved=False,
    height=0,
    width=0,
    first_token=0,
    inverse=False,
    out=None,
    stream=None,
):
    x_out, y_out = (out, None) if y is None or out is None else out
    result = _aiter.rope(
        x,
        y,
        cos,
        sin,
        cos_w,
        sin_w,
        positions,
        offsets,
        rows,
        rotate_style == 1,
        bool(nope_first),
        not reuse_freqs_front_part,
        inverse,
        head_size,
        *sections,
        sections_interleaved,
        height,
        width,
        first_token,
        transpose_output and out is None,
        x_out,
        y_out,
        stream,
    )
    if not transpose_output or out is not None:
        return result
    return _transposed(result) if y is None else tuple(map(_transposed, result))


def _transposed(x):
    """The same memory with its first two dimensions the other way round."""
    if hasattr(x, "swapaxes"):
        return x.swapaxes(0, 1)
    shape, strides = list(x.shape), list(x.strides)
    shape[:2], strides[:2] = shape[1::-1], strides[1::-1]
    return _aiter.as_strided(x, x.dtype, shape, strides, 0)


def rope_fwd(
    input: ArrayT,
    freqs: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Turn x (S, B, heads, head_size) by the angles freqs (S, 1, 1, R or R/2): row s for x[s]."""
    return _turn(
        input,
        None,
        freqs,
        None,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        out=out,
        stream=stream,
    )


def rope_fwd_inplace(
    input: ArrayT,
    freqs: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    stream: Stream = None,
) -> ArrayT:
    """`rope_fwd` in place."""
    return _turn(
        input,
        None,
        freqs,
        None,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        out=input,
        stream=stream,
    )


def rope_bwd(
    output_grads: ArrayT,
    freqs: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The gradient of `rope_fwd`'s input."""
    return _turn(
        output_grads,
        None,
        freqs,
        None,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        inverse=True,
        out=out,
        stream=stream,
    )


def rope_2c_fwd(
    input_x: ArrayT,
    input_y: ArrayT,
    freqs: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """`rope_fwd` of two tensors with their own numbers of heads."""
    return _turn(
        input_x,
        input_y,
        freqs,
        None,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        out=out,
        stream=stream,
    )


def rope_2c_fwd_inplace(
    input_x: ArrayT,
    input_y: ArrayT,
    freqs: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """`rope_2c_fwd` in place."""
    return _turn(
        input_x,
        input_y,
        freqs,
        None,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        out=(input_x, input_y),
        stream=stream,
    )


def rope_2c_bwd(
    output_grads_x: ArrayT,
    output_grads_y: ArrayT,
    freqs: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """The gradient of `rope_2c_fwd`'s inputs."""
    return _turn(
        output_grads_x,
        output_grads_y,
        freqs,
        None,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        inverse=True,
        out=out,
        stream=stream,
    )


def rope_cached_fwd(
    input: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """`rope_fwd` with the cosines and sines of the angles."""
    return _turn(
        input,
        None,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        out=out,
        stream=stream,
    )


def rope_cached_fwd_inplace(
    input: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    stream: Stream = None,
) -> ArrayT:
    """`rope_cached_fwd` in place."""
    return _turn(
        input,
        None,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        out=input,
        stream=stream,
    )


def rope_cached_bwd(
    output_grads: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The gradient of `rope_cached_fwd`'s input."""
    return _turn(
        output_grads,
        None,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        inverse=True,
        out=out,
        stream=stream,
    )


def rope_cached_2c_fwd(
    input_x: ArrayT,
    input_y: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """`rope_cached_fwd` of two tensors with their own numbers of heads."""
    return _turn(
        input_x,
        input_y,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        out=out,
        stream=stream,
    )


def rope_cached_2c_fwd_inplace(
    input_x: ArrayT,
    input_y: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """`rope_cached_2c_fwd` in place."""
    return _turn(
        input_x,
        input_y,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        out=(input_x, input_y),
        stream=stream,
    )


def rope_cached_2c_bwd(
    output_grads_x: ArrayT,
    output_grads_y: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """The gradient of `rope_cached_2c_fwd`'s inputs."""
    return _turn(
        output_grads_x,
        output_grads_y,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        inverse=True,
        out=out,
        stream=stream,
    )


def rope_cached_positions_fwd(
    input: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Turn x (S, B, heads, head_size) by the rows positions (S, B), int32 or int64, of cos and sin."""
    return _turn(
        input,
        None,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        rows=_POSITIONS,
        positions=positions,
        out=out,
        stream=stream,
    )


def rope_cached_positions_fwd_inplace(
    input: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    stream: Stream = None,
) -> ArrayT:
    """`rope_cached_positions_fwd` in place."""
    return _turn(
        input,
        None,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        rows=_POSITIONS,
        positions=positions,
        out=input,
        stream=stream,
    )


def rope_cached_positions_bwd(
    output_grads: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The gradient of `rope_cached_positions_fwd`'s input."""
    return _turn(
        output_grads,
        None,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        rows=_POSITIONS,
        positions=positions,
        inverse=True,
        out=out,
        stream=stream,
    )


def rope_cached_positions_2c_fwd(
    input_x: ArrayT,
    input_y: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """`rope_cached_positions_fwd` of two tensors with their own numbers of heads."""
    return _turn(
        input_x,
        input_y,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        rows=_POSITIONS,
        positions=positions,
        out=out,
        stream=stream,
    )


def rope_cached_positions_2c_fwd_inplace(
    input_x: ArrayT,
    input_y: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """`rope_cached_positions_2c_fwd` in place."""
    return _turn(
        input_x,
        input_y,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        rows=_POSITIONS,
        positions=positions,
        out=(input_x, input_y),
        stream=stream,
    )


def rope_cached_positions_2c_bwd(
    output_grads_x: ArrayT,
    output_grads_y: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """The gradient of `rope_cached_positions_2c_fwd`'s inputs."""
    return _turn(
        output_grads_x,
        output_grads_y,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        rows=_POSITIONS,
        positions=positions,
        inverse=True,
        out=out,
        stream=stream,
    )


def rope_cached_positions_offsets_fwd(
    input: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    offsets: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """`rope_cached_positions_fwd` by the rows positions + offsets, both (S, B) of one dtype."""
    return _turn(
        input,
        None,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        rows=_POSITIONS,
        positions=positions,
        offsets=offsets,
        out=out,
        stream=stream,
    )


def rope_cached_positions_offsets_fwd_inplace(
    input: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    offsets: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    stream: Stream = None,
) -> ArrayT:
    """`rope_cached_positions_offsets_fwd` in place."""
    return _turn(
        input,
        None,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        rows=_POSITIONS,
        positions=positions,
        offsets=offsets,
        out=input,
        stream=stream,
    )


def rope_cached_positions_offsets_bwd(
    output_grads: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    offsets: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The gradient of `rope_cached_positions_offsets_fwd`'s input."""
    return _turn(
        output_grads,
        None,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        rows=_POSITIONS,
        positions=positions,
        offsets=offsets,
        inverse=True,
        out=out,
        stream=stream,
    )


def rope_cached_positions_offsets_2c_fwd(
    input_x: ArrayT,
    input_y: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    offsets: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """`rope_cached_positions_offsets_fwd` of two tensors with their own numbers of heads."""
    return _turn(
        input_x,
        input_y,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        rows=_POSITIONS,
        positions=positions,
        offsets=offsets,
        out=out,
        stream=stream,
    )


def rope_cached_positions_offsets_2c_fwd_inplace(
    input_x: ArrayT,
    input_y: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    offsets: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """`rope_cached_positions_offsets_2c_fwd` in place."""
    return _turn(
        input_x,
        input_y,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        rows=_POSITIONS,
        positions=positions,
        offsets=offsets,
        out=(input_x, input_y),
        stream=stream,
    )


def rope_cached_positions_offsets_2c_bwd(
    output_grads_x: ArrayT,
    output_grads_y: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    offsets: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    transpose_output: bool = False,
    *,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """The gradient of `rope_cached_positions_offsets_2c_fwd`'s inputs."""
    return _turn(
        output_grads_x,
        output_grads_y,
        cos,
        sin,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        transpose_output,
        rows=_POSITIONS,
        positions=positions,
        offsets=offsets,
        inverse=True,
        out=out,
        stream=stream,
    )


def rope_thd_fwd(
    input: ArrayT,
    cu_seqlens: ArrayLike,
    freqs: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Turn packed sequences x (T, heads, head_size): token t of sequence i by row t - cu_seqlens[i].

    cu_seqlens: (sequences + 1,) int32 or int64. Tokens outside of every sequence are copied.
    """
    return _turn(
        input,
        None,
        freqs,
        None,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        rows=_SEQUENCES,
        positions=cu_seqlens,
        out=out,
        stream=stream,
    )


def rope_thd_fwd_inplace(
    input: ArrayT,
    cu_seqlens: ArrayLike,
    freqs: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    stream: Stream = None,
) -> ArrayT:
    """`rope_thd_fwd` in place."""
    return _turn(
        input,
        None,
        freqs,
        None,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        rows=_SEQUENCES,
        positions=cu_seqlens,
        out=input,
        stream=stream,
    )


def rope_thd_bwd(
    output_grads: ArrayT,
    cu_seqlens: ArrayLike,
    freqs: ArrayLike,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The gradient of `rope_thd_fwd`'s input."""
    return _turn(
        output_grads,
        None,
        freqs,
        None,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        rows=_SEQUENCES,
        positions=cu_seqlens,
        inverse=True,
        out=out,
        stream=stream,
    )


def rope_2d_fwd(
    input: ArrayT,
    cos_h: ArrayLike,
    sin_h: ArrayLike,
    cos_w: ArrayLike,
    sin_w: ArrayLike,
    img_height: int,
    img_width: int,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Turn images x (B, img_height * img_width, heads, head_size) by line and column.

    The first half of each head turns by its line, with cos_h and sin_h (1, >= img_height, 1, R or
    R/2), the second by its column, with cos_w, sin_w.

    Each half is like a head of its own, of which R <= head_size / 2 dimensions turn.
    """
    return _turn(
        input,
        None,
        cos_h,
        sin_h,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        rows=_IMAGE,
        cos_w=cos_w,
        sin_w=sin_w,
        height=img_height,
        width=img_width,
        out=out,
        stream=stream,
    )


def rope_2d_fwd_inplace(
    input: ArrayT,
    cos_h: ArrayLike,
    sin_h: ArrayLike,
    cos_w: ArrayLike,
    sin_w: ArrayLike,
    img_height: int,
    img_width: int,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    stream: Stream = None,
) -> ArrayT:
    """`rope_2d_fwd` in place."""
    return _turn(
        input,
        None,
        cos_h,
        sin_h,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        rows=_IMAGE,
        cos_w=cos_w,
        sin_w=sin_w,
        height=img_height,
        width=img_width,
        out=input,
        stream=stream,
    )


def rope_2d_bwd(
    output_grads: ArrayT,
    cos_h: ArrayLike,
    sin_h: ArrayLike,
    cos_w: ArrayLike,
    sin_w: ArrayLike,
    img_height: int,
    img_width: int,
    rotate_style: int,
    reuse_freqs_front_part: bool,
    nope_first: bool,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The gradient of `rope_2d_fwd`'s input."""
    return _turn(
        output_grads,
        None,
        cos_h,
        sin_h,
        rotate_style,
        reuse_freqs_front_part,
        nope_first,
        rows=_IMAGE,
        cos_w=cos_w,
        sin_w=sin_w,
        height=img_height,
        width=img_width,
        inverse=True,
        out=out,
        stream=stream,
    )


def rope_fwd_3d(
    x: ArrayT,
    grid_sizes: ArrayLike,
    freqs: ArrayLike | tuple[ArrayLike, ArrayLike],
    sp_size: int = 1,
    sp_rank: int = 0,
    *,
    inverse: bool = False,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Turn neighbours (2 i, 2 i + 1) of videos x (B, L, heads, head_size) by frame, line and column.

    grid_sizes: (B, 3) int32 or int64, frames, lines and columns; tokens lie in this order, those past
        the video are copied.
    freqs: complex (rows, head_size / 2), or its real and imaginary parts, (cos, sin). Of the P =
        head_size / 2 pairs, the first P - 2 (P // 3) turn by frame, P // 3 each by line and column.
    sp_rank: x holds tokens sp_rank * L and on, of sp_size such parts.
    inverse: turn back: the gradient.
    Source: AITER rope_fwd_3d, whose result is f32 whatever x is.
    """
    if not 0 <= sp_rank < max(sp_size, 1):
        raise ValueError(
            f"rope_fwd_3d: sp_rank is {sp_rank}, expected 0 to sp_size - 1 = {sp_size - 1}"
        )
    if not isinstance(freqs, tuple):
        freqs = _contiguous(freqs.real), _contiguous(freqs.imag)
    pairs = freqs[0].shape[-1]
    third = pairs // 3
    return _turn(
        x,
        None,
        *freqs,
        1,
        rows=_GRID,
        positions=grid_sizes,
        sections=(pairs - 2 * third, third, third),
        first_token=sp_rank * x.shape[1],
        inverse=inverse,
        out=out,
        stream=stream,
    )


def _contiguous(x):
    """Parts of complex arrays as f32 with stride 1, in x's own library."""
    if hasattr(x, "contiguous"):  # torch
        return x.float().contiguous()
    return x.astype("float32", order="C") if hasattr(x, "flags") else x.astype("float32")


def mrope_fwd(
    positions: ArrayLike,
    query: ArrayT,
    key: ArrayT | None,
    head_size: int,
    cos_cache: ArrayLike,
    sin_cache: ArrayLike,
    mrope_section: tuple[int, int, int],
    is_neox: bool = True,
    mrope_interleaved: bool = False,
    is_nope_first: bool = False,
    *,
    out: ArrayT | tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """`rotary_embedding_fwd` with three positions a token, of time, height and width (Qwen-VL).

    positions: (3, ...) int32 or int64.
    mrope_section: pairs that turn by each of the three; the sum is R/2. They follow each other, or,
        mrope_interleaved, alternate: pairs 1, 4, 7 ... by height, 2, 5, 8 ... by width, as many as
        mrope_section says, all others by time.
    Returns (query, key) turned, or the query alone when key is None.
    """
    return _turn(
        query,
        key,
        cos_cache,
        sin_cache,
        0 if is_neox else 1,
        nope_first=is_nope_first,
        rows=_POSITIONS,
        positions=positions,
        head_size=head_size if query.ndim == positions.ndim else 0,
        sections=tuple(mrope_section),
        sections_interleaved=bool(mrope_interleaved),
        out=out,
        stream=stream,
    )


def batched_rotary_embedding(
    positions: ArrayLike,
    query: ArrayT,
    key: ArrayT | None,
    head_size: int,
    cos_cache: ArrayLike,
    sin_cache: ArrayLike,
    is_neox: bool,
    is_nope_first: bool,
    rot_dim: int,
    cos_sin_cache_offsets: ArrayLike,
    *,
    out: ArrayT | tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """`rotary_embedding_fwd` by the rows positions + cos_sin_cache_offsets, for tables of several
    scalings one after the other.

    rot_dim: R, twice the width of the caches.
    cos_sin_cache_offsets: as many as positions, of their dtype.
    Source: AITER batched_rotary_embedding, which is always in place.
    """
    if rot_dim != 2 * cos_cache.shape[-1]:
        raise ValueError(
            f"batched_rotary_embedding: rot_dim is {rot_dim}, expected twice the width of cos_cache, "
            f"{2 * cos_cache.shape[-1]}"
        )
    return _turn(
        query,
        key,
        cos_cache,
        sin_cache,
        0 if is_neox else 1,
        nope_first=is_nope_first,
        rows=_POSITIONS,
        positions=positions,
        offsets=cos_sin_cache_offsets.reshape(positions.shape),
        head_size=head_size if query.ndim == positions.ndim + 1 else 0,
        out=out,
        stream=stream,
    )


def fused_qk_norm_rope(
    q: ArrayT,
    k: ArrayT,
    v: ArrayT | None = None,
    q_weight: ArrayLike | None = None,
    k_weight: ArrayLike | None = None,
    cos: ArrayLike | None = None,
    sin: ArrayLike | None = None,
    positions: ArrayLike | None = None,
    eps: float | None = 1e-6,
    is_neox: bool = True,
    *,
    gemma_norm: bool = False,
    is_nope_first: bool = False,
    mrope_section: tuple[int, int, int] | None = None,
    mrope_interleaved: bool = False,
    out: tuple[ArrayT | None, ...] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ...]:
    """RMS norm of each head of q and k, then their rotation; v is copied. One pass over memory.

    q, k, v: (..., heads, dim) bf16, f16 or f32, each with its own heads and dim, up to 1024; the last
        stride is 1, tokens and heads may be strided, so that slices of a fused QKV tensor work.
    q_weight, k_weight: (dim,) of q's dtype or f32; None = ones.
    cos, sin: (rows, R/2); None: nothing turns.
    positions: (...) int32 or int64, or (3, ...) with mrope_section (see `mrope_fwd`); None: token t
        takes row t % rows.
    eps: None = no norm. gemma_norm: multiply by (1 + weight).
    out: (q_out, k_out), with v (q_out, k_out, v_out); may be the inputs.
    Returns (q, k), or (q, k, v). Each step is rounded to q's dtype, as `rms_norm` and
    `rotary_embedding_fwd` would.
    """
    outs = out if out is not None else (None,) * 3
    return _aiter.fused_qk_norm_rope(
        q,
        k,
        v,
        q_weight,
        k_weight,
        cos,
        sin,
        positions,
        eps is not None,
        1e-6 if eps is None else eps,
        gemma_norm,
        not is_neox,
        is_nope_first,
        *(mrope_section or (0, 0, 0)),
        mrope_interleaved,
        outs[0],
        outs[1],
        outs[2] if v is not None else None,
        stream,
    )


def fused_qk_norm_rope_1way(
    q: ArrayT,
    k: ArrayT,
    w_q: ArrayLike,
    w_k: ArrayLike,
    cos_sin: ArrayLike,
    is_interleaved: bool,
    eps: float,
    *,
    out: tuple[ArrayT | None, ArrayT | None] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """`fused_qk_norm_rope` of one stream of tokens (diffusion): token n of each batch takes row n.

    q, k: (batch, tokens, heads, dim). cos_sin: (tokens, dim), the cosines, then the sines.
    is_interleaved: GPT-J's pairs. Returns (q, k). Source: AITER fused_qk_norm_rope_1way.
    """
    half = cos_sin.shape[-1] // 2
    if cos_sin.shape[0] != q.shape[1]:
        raise ValueError(
            f"fused_qk_norm_rope_1way: cos_sin has {cos_sin.shape[0]} rows, expected q's "
            f"{q.shape[1]} tokens"
        )
    tables = cos_sin[:, :half], cos_sin[:, half:]
    return fused_qk_norm_rope(
        q, k, None, w_q, w_k, *tables, None, eps, not is_interleaved, out=out, stream=stream
    )


def fused_qkv_split_qk_rope(
    qkv: ArrayT,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike,
    qh: int,
    kvh: int,
    head_dim: int,
    is_neox: bool = True,
    nope_first: bool = False,
    *,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT, ArrayT]:
    """q, k and v of a fused QKV tensor, q and k turned.

    qkv: (tokens, (qh + 2 kvh) * head_dim). Returns (tokens, qh, head_dim) and twice (tokens, kvh,
    head_dim). Source: AITER fused_qkv_split_qk_rope.
    """
    ends = qh * head_dim, (qh + kvh) * head_dim
    parts = qkv[:, : ends[0]], qkv[:, ends[0] : ends[1]], qkv[:, ends[1] :]
    heads = [x.reshape((x.shape[0], -1, head_dim)) for x in parts]
    return fused_qk_norm_rope(
        *heads,
        cos=cos,
        sin=sin,
        positions=positions,
        eps=None,
        is_neox=is_neox,
        is_nope_first=nope_first,
        stream=stream,
    )


def rotary_embedding_fwd(
    positions: ArrayLike,
    query: ArrayT,
    key: ArrayT | None,
    head_size: int,
    cos_cache: ArrayLike,
    sin_cache: ArrayLike,
    is_neox: bool,
    is_nope_first: bool = False,
    *,
    out: ArrayT | tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """Turn the pairs (a, b) of each head by its token's position: (a cos - b sin, b cos + a sin).

    The first R dimensions of a head turn (the last R with is_nope_first), R being twice the width
    of the caches and at most head_size; the rest is copied.

    positions: (...) int32 or int64, each in [0, max_position).
    query: (..., heads * head_size) or (..., heads, head_size), bf16, f16 or f32; the last stride is
        1, tokens and heads may be strided, so that slices of a fused QKV tensor work.
    key: the same with its own number of heads, or None.
    head_size: may be 0 where heads are a dimension of their own.
    cos_cache, sin_cache: (max_position, R/2) or (max_position, 1, 1, R/2), bf16, f16 or f32.
    is_neox: pairs are (i, i + R/2); otherwise (2 i, 2 i + 1), the GPT-J style.
    out: (query_out, key_out), or query_out alone when key is None; out=(query, key) is in place.
    Returns (query, key) turned, or the query alone when key is None. Raises ValueError on a wrong
    shape, dtype or stride and, on the CPU, on a position outside of the caches (on a GPU such tokens
    are copied).
    Source: AITER rotary_embedding_fwd, which is always in place.
    """
    if key is None:
        query_out, key_out = out, None
    else:
        query_out, key_out = (None, None) if out is None else out
    return _aiter.rotary_embedding(
        positions,
        query,
        key,
        head_size,
        cos_cache,
        sin_cache,
        not is_neox,
        bool(is_nope_first),
        query_out,
        key_out,
        stream,
    )
