"""Operators with gradients, for torch (`aiter.autograd.torch`) and JAX (`aiter.autograd.jax`).

Both modules have the functions of RULES under their own names, with the signatures that they have
in `aiter` (`out` and `stream` apart, which make no sense there). An operator is added here, in a few
lines, and nowhere else.
"""

from __future__ import annotations

import functools
import inspect
from typing import NamedTuple

import aiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RULES", "Rule", "differentiable"]


class Rule(NamedTuple):
    """How a function is computed, and its gradients.

    arrays: number of its leading parameters that are arrays; each has a gradient.
    forward(*arrays, **options): (results, saved): results is an array or a tuple, saved a tuple of
        arrays (or None) for the backward pass.
    backward(saved, grads, **options): a gradient for each array, or None for one that has none.
        grads has one array for each result.
    """

    signature: inspect.Signature
    arrays: int
    forward: Callable
    backward: Callable

    def bind(self, args, kwargs):
        """(arrays, options) of a call."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values = list(bound.arguments.values())
        names = list(bound.arguments)[self.arrays :]
        return values[: self.arrays], dict(zip(names, values[self.arrays :], strict=True))


RULES: dict[str, Rule] = {}


def differentiable(function, arrays=1, forward=None):
    """Decorate the backward pass of `function`: it joins RULES under the function's name.

    forward: as in Rule; by default the function itself, which then saves its arrays.
    """

    def saving_the_arrays(*args, **options):
        return function(*args, **options), args[:arrays]

    def register(backward):
        signature = inspect.signature(function)
        kept = [p for n, p in signature.parameters.items() if n not in ("out", "stream")]
        RULES[function.__name__] = Rule(
            signature.replace(parameters=kept), arrays, forward or saving_the_arrays, backward
        )
        return backward

    return register


def document(wrapper, name):
    """Make a wrapper look like aiter's function."""
    functools.update_wrapper(wrapper, getattr(aiter, name))
    wrapper.__signature__ = RULES[name].signature
    del wrapper.__wrapped__
    return wrapper


# ---- activation ---------------------------------------------------------------------------------


def _gated(function, activation):
    @differentiable(function)
    def backward(saved, grads, dtype=None, **options):
        return (aiter.act_and_mul_backward(grads[0], *saved, activation, **options),)


_gated(aiter.silu_and_mul, "silu")
_gated(aiter.gelu_and_mul, "gelu")
_gated(aiter.gelu_tanh_and_mul, "gelu_tanh")
_gated(aiter.swiglu_and_mul, "swiglu")
_gated(aiter.situv2_and_mul, "situv2")


# ---- rope ---------------------------------------------------------------------------------------


def _turning(function, inputs, tables):
    """Tables (and positions, bounds of sequences) have no gradient, and are all that is saved."""
    inverse = getattr(aiter, function.__name__.replace("_fwd", "_bwd"))

    def forward(*arrays, **options):
        return function(*arrays, **options), arrays[inputs:]

    @differentiable(function, inputs + tables, forward)
    def backward(saved, grads, **options):
        found = inverse(*grads, *saved, **options)
        return (*(found if inputs > 1 else (found,)), *(None,) * tables)


_turning(aiter.rope_fwd, 1, 1)
_turning(aiter.rope_2c_fwd, 2, 1)
_turning(aiter.rope_cached_fwd, 1, 2)
_turning(aiter.rope_cached_2c_fwd, 2, 2)
_turning(aiter.rope_cached_positions_fwd, 1, 3)
_turning(aiter.rope_cached_positions_2c_fwd, 2, 3)
_turning(aiter.rope_cached_positions_offsets_fwd, 1, 4)
_turning(aiter.rope_cached_positions_offsets_2c_fwd, 2, 4)
_turning(aiter.rope_thd_fwd, 1, 2)
_turning(aiter.rope_2d_fwd, 1, 4)
