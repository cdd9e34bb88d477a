"""Operators with gradients, for torch (`aiter.autograd.torch`) and JAX (`aiter.autograd.jax`).

Both modules have the functions of RULES under their own names, with the signatures that they have
in `aiter` (`out`, `..._out` and `stream` apart, which make no sense there). An operator is added
here, in a few lines, and nowhere else.
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

    arrays: names of its parameters that are arrays; each has a gradient.
    forward(*arrays, **options): (results, saved): results is an array or a tuple, saved a tuple of
        arrays (or None) for the backward pass.
    backward(saved, grads, **options): a gradient for each array, or None for one that has none.
        grads has one array for each result.
    """

    signature: inspect.Signature
    arrays: tuple[str, ...]
    forward: Callable
    backward: Callable

    def bind(self, args, kwargs):
        """(arrays, options) of a call."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        options = dict(bound.arguments)
        return [options.pop(name) for name in self.arrays], options


RULES: dict[str, Rule] = {}


def differentiable(function, arrays=1, forward=None):
    """Decorate the backward pass of `function`: it joins RULES under the function's name.

    arrays: as in Rule, or the number of leading parameters.
    forward: as in Rule; by default the function itself, which then saves its arrays.
    """
    signature = inspect.signature(function)
    names = tuple(signature.parameters)[:arrays] if isinstance(arrays, int) else arrays

    def saving_the_arrays(*args, **options):
        return function(**dict(zip(names, args, strict=True)), **options), args

    def register(backward):
        kept = [
            p
            for n, p in signature.parameters.items()
            if n not in ("out", "stream") and not n.endswith("_out")
        ]
        RULES[function.__name__] = Rule(
            signature.replace(parameters=kept), names, forward or saving_the_arrays, backward
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


# ---- norm ---------------------------------------------------------------------------------------


def _gradients(found, *arrays):
    """The gradients for arrays, from those of the ones that are there."""
    found = iter(found if isinstance(found, tuple) else (found,))
    return tuple(None if a is None else next(found) for a in arrays)


@differentiable(aiter.rms_norm, arrays=2)
def _rms_norm(saved, grads, eps, use_model_sensitive_rmsnorm, gemma_norm):
    x, w = saved
    return _gradients(aiter.rms_norm_backward(grads[0], x, w, eps, gemma_norm=gemma_norm), x, w)


def _save_the_sum(function):
    def forward(x, residual_in, *weights, **options):
        y, residual_out = function(x, residual_in, *weights, **options)
        return (y, residual_out), (residual_out, *weights)

    return forward


@differentiable(aiter.rmsnorm2d_fwd_with_add, 3, _save_the_sum(aiter.rmsnorm2d_fwd_with_add))
def _rms_norm_with_add(saved, grads, eps, use_model_sensitive_rmsnorm, gemma_norm):
    (x, w), (dy, dresidual) = saved, grads
    found = aiter.rms_norm_backward(dy, x, w, eps, gemma_norm=gemma_norm, dresidual=dresidual)
    dx, dw = _gradients(found, x, w)
    return dx, dx, dw


def _layer_norm_gradients(saved, dy, eps, dresidual=None):
    x, weight, bias, x_bias = saved
    found = aiter.layer_norm_backward(
        dy, x, weight, bias is not None, eps, x_bias=x_bias is not None, dresidual=dresidual
    )
    return _gradients(found, x, weight, bias, x_bias)


def _save_what_is_normed(x, weight, bias, x_bias, eps):
    v = x if x_bias is None else aiter.add(x, x_bias)
    return aiter.layer_norm(x, weight, bias, eps, x_bias), (v, weight, bias, x_bias)


@differentiable(aiter.layer_norm, ("x", "weight", "bias", "x_bias"), _save_what_is_normed)
def _layer_norm(saved, grads, eps):
    return _layer_norm_gradients(saved, grads[0], eps)


def _save_the_sum_of_three(x, residual_in, weight, bias, x_bias, eps):
    y, residual_out = aiter.layernorm2d_fwd_with_add(x, residual_in, weight, bias, eps, x_bias)
    return (y, residual_out), (residual_out, weight, bias, x_bias)


@differentiable(
    aiter.layernorm2d_fwd_with_add,
    ("x", "residual_in", "weight", "bias", "x_bias"),
    _save_the_sum_of_three,
)
def _layer_norm_with_add(saved, grads, eps):
    dx, *others = _layer_norm_gradients(saved, grads[0], eps, grads[1])
    return dx, dx, *others
