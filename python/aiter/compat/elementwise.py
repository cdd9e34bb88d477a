"""Elementwise operators: as in aiter.ops.aiter_operator; fused_mul_add and softmax of
aiter.ops.triton."""

import aiter as _aiter

__all__ = ["fused_mul_add", "softmax"]


def fused_mul_add(x, a, b, out=None):
    """In place where out is not given."""
    return _aiter.fused_mul_add(x, _number(a), _number(b), out=x if out is None else out)


def _number(x):
    return float(x) if isinstance(x, int) else x


def softmax(x):
    return _aiter.softmax(x)
