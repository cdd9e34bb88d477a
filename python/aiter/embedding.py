"""Embedding lookup."""

from __future__ import annotations

from . import _aiter

__all__ = ["embedding"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayLike, ArrayT, DType, Stream


def embedding(
    ids: ArrayT,
    table: ArrayLike,
    scale: ArrayLike | None = None,
    *,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Rows of a table by id: out[t] = table[ids[t]] * scale; negative ids (padding) give zeros.

    ids: (...) int32 or int64, each less than vocab.
    table: (vocab, hidden) bf16, f16, f32 or int8; the last stride is 1.
    scale: for int8 tables, (vocab, groups) bf16, f16 or f32: element h is scaled by
        scale[id, h // (hidden / groups)]; groups = 1 is a scale a row, hidden / 32 GGUF's Q8_0.
    dtype: of the result, "float32", "float16" or "bfloat16"; by default table's, for int8 bf16.
    out: (..., hidden).
    Returns an array (..., hidden). Raises ValueError on a wrong shape, dtype or stride and, on the
    CPU, on an id past the table's end.
    """
    return _aiter.embedding(ids, table, scale, dtype, out, stream)
