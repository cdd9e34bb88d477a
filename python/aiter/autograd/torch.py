"""aiter's operators as functions that torch.autograd can differentiate.

from aiter.autograd import torch as ops

y = ops.silu_and_mul(x)
y.sum().backward()
"""

from __future__ import annotations

import torch as _torch

from . import RULES, document

__all__ = sorted(RULES)


class _Function(_torch.autograd.Function):
    @staticmethod
    def forward(ctx, rule, options, *arrays):
        detached = [a.detach() if isinstance(a, _torch.Tensor) else a for a in arrays]
        results, saved = rule.forward(*detached, **options)
        ctx.rule, ctx.options = rule, options
        ctx.save_for_backward(*saved)
        return results

    @staticmethod
    @_torch.autograd.function.once_differentiable
    def backward(ctx, *grads):
        # Gradients of sums are expanded numbers, without strides.
        grads = [g.contiguous() for g in grads]
        found = ctx.rule.backward(ctx.saved_tensors, grads, **ctx.options)
        return None, None, *found


def _wrap(name):
    rule = RULES[name]

    def wrapper(*args, **kwargs):
        arrays, options = rule.bind(args, kwargs)
        return _Function.apply(rule, options, *arrays)

    return document(wrapper, name)


globals().update({name: _wrap(name) for name in __all__})
