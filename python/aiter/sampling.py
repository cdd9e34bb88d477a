"""Choosing tokens from logits or probabilities."""

from __future__ import annotations

from . import _aiter

__all__ = [
    "exponential",
    "greedy_sample",
    "min_p_renorm_probs",
    "mixed_sample",
    "mixed_sample_outer_exponential",
    "random_sample",
    "random_sample_outer_exponential",
    "top_k_per_row_decode",
    "top_k_per_row_prefill",
    "top_k_renorm_probs",
    "top_k_top_p_renorm_probs",
    "top_k_top_p_sampling_from_logits",
    "top_k_top_p_sampling_from_probs",
    "top_p_renorm_probs",
    "top_p_sampling_from_probs",
    "topk",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayLike, ArrayT, Stream


def greedy_sample(logits: ArrayT, *, out: ArrayT | None = None, stream: Stream = None) -> ArrayT:
    """The index of the largest logit of each row; the lowest index where several are largest.

    logits: (batch, vocab) bf16, f16 or f32; the last stride is 1. vocab is at least 1.
    out: (batch,) int32 or int64.
    Returns int32 (batch,); -1 for a row of nothing but NaN, which is never chosen.
    Source: AITER greedy_sample.
    """
    return _aiter.greedy_sample(logits, out, stream)


def random_sample(
    logits: ArrayT,
    temperatures: float | ArrayLike = 1.0,
    lambd: float = 1.0,
    *,
    eps: float = 1e-10,
    seed: int | ArrayLike = 0,
    offset: int | ArrayLike = 0,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Draw a token a row: argmax of softmax(logits / temperature) / (exponential noise + eps).

    logits: (batch, vocab) bf16, f16 or f32; the last stride is 1.
    temperatures: a number or (batch,) f32; 0 = greedy, less than 1e-5 counts as 1e-5.
    lambd: rate of the noise.
    seed, offset: which noise: what exponential() makes of them with eps 0; numbers, or (batch,) int32
        or int64. Count the offset up from step to step.
    out: (batch,) int32 or int64.
    Returns int32 (batch,), -1 for a row of nothing but NaN. Equal scores: the lowest index. The
    result is that of double arithmetic on every machine. Source: AITER random_sample.
    """
    return _aiter.random_sample(logits, temperatures, None, seed, offset, lambd, eps, out, stream)


def mixed_sample(
    logits: ArrayT,
    temperatures: float | ArrayLike = 1.0,
    lambd: float = 1.0,
    *,
    eps: float = 1e-10,
    seed: int | ArrayLike = 0,
    offset: int | ArrayLike = 0,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """random_sample, which is greedy at temperature 0. Source: AITER mixed_sample."""
    return _aiter.random_sample(logits, temperatures, None, seed, offset, lambd, eps, out, stream)


def random_sample_outer_exponential(
    logits: ArrayT,
    exponentials: ArrayLike,
    temperatures: float | ArrayLike = 1.0,
    *,
    eps: float = 1e-10,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """random_sample with the caller's noise: (batch, vocab) f32, the last stride 1, the first may be 0.

    Source: AITER random_sample_outer_exponential.
    """
    return _aiter.random_sample(logits, temperatures, exponentials, 0, 0, 1.0, eps, out, stream)


def mixed_sample_outer_exponential(
    logits: ArrayT,
    exponentials: ArrayLike,
    temperatures: float | ArrayLike = 1.0,
    *,
    eps: float = 1e-10,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """mixed_sample with the caller's noise. Source: AITER mixed_sample_outer_exponential."""
    return _aiter.random_sample(logits, temperatures, exponentials, 0, 0, 1.0, eps, out, stream)


def exponential(
    out: ArrayT,
    lambd: float = 1.0,
    *,
    eps: float = 1e-10,
    seed: int | ArrayLike = 0,
    offset: int | ArrayLike = 0,
    stream: Stream = None,
) -> ArrayT:
    """Fill an array with exponentially distributed numbers of rate lambd, plus eps.

    out: (.., n) bf16, f16 or f32; the last stride is 1. Dimensions but the last one are rows.
    seed, offset: Philox 4x32-10 with key seed and counter (offset, row, v // 4) makes element v; each
        a number, or an array with one for each row, whose row number then counts as 0.
    Returns out. The same bits on every machine. Source: AITER exponential.
    """
    return _aiter.exponential(out, seed, offset, lambd, eps, stream)


def top_k_top_p_sampling_from_logits(
    logits: ArrayT,
    top_k: int | ArrayLike = 0,
    top_p: float | ArrayLike = 1.0,
    *,
    temperature: float | ArrayLike = 1.0,
    min_p: float | ArrayLike = 0.0,
    seed: int | ArrayLike = 0,
    offset: int | ArrayLike = 0,
    indices: ArrayLike | None = None,
    filter_apply_order: str = "top_k_first",
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Draw a token a row in proportion to exp(logits / temperature), from the likeliest tokens.

    logits: (rows, vocab) bf16, f16 or f32; the last stride is 1.
    top_k: keep the k largest tokens (and those equal to the last of them); 0 or less = all.
    top_p: keep the largest tokens up to this share of the mass; 1 = all.
    temperature: 0 = greedy.
    min_p: first drop the tokens with less than this share of the largest one's weight.
    seed, offset: which draw: Philox 4x32-10 with key seed and counter (offset, n); n is the row's
        number in the batch, or 0 where seeds are given a row. Count the offset up from step to step.
        Equal seed, offset and row contents give equal tokens, on every machine and in any batch.
    Each of the six may be an array with a value for each row: f32 for top_p, temperature, min_p;
    int32 or int64 for top_k, seed, offset.
    indices: (batch,) int32 or int64: result b is of logits[indices[b]].
    filter_apply_order: "top_k_first": top_p is a share of the mass that top_k leaves; "joint": of
        the whole mass.
    out: (batch,) int32 or int64.
    Returns int32 (batch,). Rows decided as by greedy_sample: temperature 0, an infinite largest
    element, nothing finite. Raises ValueError on a wrong shape, dtype, stride or value.
    The contract is in aiter/sampling.h. Source: FlashInfer's function of this name.
    """
    return _aiter.top_k_top_p_sampling(
        logits, False, indices, temperature, top_k, top_p, min_p, seed, offset,
        _top_k_first(filter_apply_order), out, stream,
    )  # fmt: skip


def top_k_top_p_sampling_from_probs(
    probs: ArrayT,
    indices: ArrayLike | None = None,
    top_k: int | ArrayLike = 0,
    top_p: float | ArrayLike = 1.0,
    *,
    min_p: float | ArrayLike = 0.0,
    seed: int | ArrayLike = 0,
    offset: int | ArrayLike = 0,
    filter_apply_order: str = "joint",
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Draw a token a row in proportion to probs, from the likeliest tokens.

    probs: (rows, vocab) bf16, f16 or f32, not necessarily normalized; the last stride is 1.
    The other arguments are those of top_k_top_p_sampling_from_logits; the default order, "joint", is
    AITER's. A row without any positive probability is decided as by greedy_sample.
    Source: AITER top_k_top_p_sampling_from_probs, whose maybe_top_k_arr and top_k_val are top_k here.
    """
    return _aiter.top_k_top_p_sampling(
        probs, True, indices, 1.0, top_k, top_p, min_p, seed, offset,
        _top_k_first(filter_apply_order), out, stream,
    )  # fmt: skip


def top_p_sampling_from_probs(
    probs: ArrayT,
    indices: ArrayLike | None = None,
    top_p: float | ArrayLike = 1.0,
    *,
    seed: int | ArrayLike = 0,
    offset: int | ArrayLike = 0,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """top_k_top_p_sampling_from_probs with top_p alone. Source: AITER top_p_sampling_from_probs."""
    return top_k_top_p_sampling_from_probs(
        probs, indices, 0, top_p, seed=seed, offset=offset, out=out, stream=stream
    )


def top_k_top_p_renorm_probs(
    probs: ArrayT,
    top_k: int | ArrayLike = 0,
    top_p: float | ArrayLike = 1.0,
    *,
    min_p: float | ArrayLike = 0.0,
    filter_apply_order: str = "top_k_first",
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Divide the likeliest probabilities by their sum, and set the others to 0.

    probs: (rows, vocab) bf16, f16 or f32, not necessarily normalized; the last stride is 1.
    top_k, top_p, min_p, filter_apply_order: as in top_k_top_p_sampling_from_logits; numbers, or arrays
    with one for each row. What is kept is what that function draws from.
    out: like probs, may be probs. Returns an array like probs. A row without any positive finite
    largest probability is 1 at the token of greedy_sample.
    """
    return _aiter.renorm_probs(
        probs, top_k, top_p, min_p, _top_k_first(filter_apply_order), out, stream
    )


def top_k_renorm_probs(
    probs: ArrayT,
    top_k: int | ArrayLike,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """top_k_top_p_renorm_probs with top_k alone. Source: AITER top_k_renorm_probs."""
    return _aiter.renorm_probs(probs, top_k, 1.0, 0.0, True, out, stream)


def top_p_renorm_probs(
    probs: ArrayT,
    top_p: float | ArrayLike,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """top_k_top_p_renorm_probs with top_p alone. Source: FlashInfer top_p_renorm_probs."""
    return _aiter.renorm_probs(probs, 0, top_p, 0.0, True, out, stream)


def min_p_renorm_probs(
    probs: ArrayT,
    min_p: float | ArrayLike,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """top_k_top_p_renorm_probs with min_p alone."""
    return _aiter.renorm_probs(probs, 0, 1.0, min_p, True, out, stream)


def topk(
    x: ArrayT,
    k: int,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,
    *,
    row_starts: ArrayLike | None = None,
    row_ends: ArrayLike | None = None,
    out: tuple[ArrayT, ArrayT] | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """The k largest (or smallest) elements along a dimension, and where they are.

    x: bf16, f16, f32 or int32, any strides that need no more than two levels beside dim.
    sorted: the best element first; otherwise by ascending index.
    row_starts, row_ends: int32 or int64, for each row (all dimensions but dim, in order): only the
        elements in [row_starts, row_ends) are searched; k may then exceed their number.
    out: (values, indices), indices int32 or int64.
    Returns values (dtype of x) and indices (int64), shaped like x with k in dimension dim. Of equal
    elements the one with the lower index is taken first; -0 equals 0; NaN is larger than all numbers.
    Where there are fewer than k elements, the indices are -1 and the values the worst number.
    The contract is in aiter/sampling.h. Source: AITER topk_plain, Triton topk; torch.topk.
    """
    values, indices = out or (None, None)
    return _aiter.topk(
        x, k, dim, largest, sorted, row_starts, row_ends, 1, True, True, values, indices, stream
    )


def top_k_per_row_prefill(
    logits: ArrayT,
    row_starts: ArrayLike,
    row_ends: ArrayLike,
    k: int = 2048,
    *,
    sorted: bool = False,
    with_values: bool = False,
    values: ArrayT | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """Indices of the k largest logits of each row within its own range.

    logits: (rows, width) f32, bf16 or f16. row_starts, row_ends: (rows,) int32 or int64; what is
    outside of [row_starts, row_ends) is not looked at.
    sorted: the largest first; otherwise by ascending index (AITER's stable order).
    Returns int32 (rows, k), counted from the beginning of the row, -1 after the last one; with
    with_values (or values given) the pair (values, indices), values -infinity there. Of equal logits
    the lower index is taken. Source: AITER top_k_per_row_prefill.
    """
    return _aiter.topk(
        logits, k, -1, True, sorted, row_starts, row_ends, 1, with_values or values is not None,
        False, values, out, stream,
    )  # fmt: skip


def top_k_per_row_decode(
    logits: ArrayT,
    next_n: int,
    seq_lens: ArrayLike,
    k: int = 2048,
    *,
    sorted: bool = False,
    with_values: bool = False,
    values: ArrayT | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """top_k_per_row_prefill for next_n new tokens of each sequence.

    logits: (sequences * next_n, width). seq_lens: (sequences,) int32 or int64. Row r searches its
    first seq_lens[r // next_n] - next_n + 1 + r % next_n logits.
    Source: AITER top_k_per_row_decode.
    """
    return _aiter.topk(
        logits, k, -1, True, sorted, None, seq_lens, next_n, with_values or values is not None,
        False, values, out, stream,
    )  # fmt: skip


def _top_k_first(order: str) -> bool:
    if order not in ("top_k_first", "joint"):
        raise ValueError(f"filter_apply_order is {order!r}, expected 'top_k_first' or 'joint'")
    return order == "top_k_first"
