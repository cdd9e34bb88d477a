"""Choosing tokens from logits or probabilities."""

from __future__ import annotations

from . import _aiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayT, Stream


def greedy_sample(logits: ArrayT, *, out: ArrayT | None = None, stream: Stream = None) -> ArrayT:
    """The index of the largest logit of each row; the lowest index where several are largest.

    logits: (batch, vocab) bf16, f16 or f32; the last stride is 1. vocab is at least 1.
    out: (batch,) int32 or int64.
    Returns int32 (batch,); -1 for a row of nothing but NaN, which is never chosen.
    Source: AITER greedy_sample.
    """
    return _aiter.greedy_sample(logits, out, stream)
