"""Elementwise operators: as in aiter.ops.aiter_operator; fused_mul_add and softmax of
aiter.ops.triton."""

import aiter as _aiter

__all__ = [
    "add",
    "add_",
    "div",
    "div_",
    "fused_mul_add",
    "mul",
    "mul_",
    "sigmoid",
    "softmax",
    "sub",
    "sub_",
    "tanh",
]


def add(input, other):
    return _aiter.add(input, other)


def sub(input, other):
    return _aiter.sub(input, other)


def mul(input, other):
    return _aiter.mul(input, other)


def div(input, other):
    return _aiter.div(input, other)


def add_(input, other):
    return _aiter.add_(input, other)


def sub_(input, other):
    return _aiter.sub_(input, other)


def mul_(input, other):
    return _aiter.mul_(input, other)


def div_(input, other):
    return _aiter.div_(input, other)


def sigmoid(input):
    return _aiter.sigmoid(input)


def tanh(input):
    return _aiter.tanh(input)


def fused_mul_add(x, a, b, out=None):
    """In place where out is not given."""
    return _aiter.fused_mul_add(x, _number(a), _number(b), out=x if out is None else out)


def _number(x):
    return float(x) if isinstance(x, int) else x


def softmax(x):
    return _aiter.softmax(x)
