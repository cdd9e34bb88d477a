"""aiter's operators as functions that JAX can differentiate, by jax.custom_vjp.

    from aiter.autograd import jax as ops

    jax.grad(lambda x: ops.silu_and_mul(x).sum())(x)

Outside of jax.jit they work on the arrays where they lie. Inside, XLA calls back into Python, with
the arrays in host memory: for speed on a GPU use XLA FFI there (aiter/xla_ffi.h, examples/jax).
"""

from __future__ import annotations

import functools

import jax as _jax
import numpy as _np

import aiter

from . import RULES, document

__all__ = sorted(RULES)


def _outline(function, arrays):
    """What function(*arrays) returns, found without computing: the tree of its results, and for
    each leaf the index of the array that it is, or else its shape and dtype."""
    results = []
    blank = [a if a is None else aiter.zeros(a.shape, str(a.dtype)) for a in arrays]
    aiter.explain(lambda: results.append(function(*blank)))
    leaves, tree = _jax.tree.flatten(results[0])

    def source(leaf):
        for i, array in enumerate(blank):
            if leaf is array:
                return i
        return _jax.ShapeDtypeStruct(leaf.shape, _np.dtype(str(leaf.dtype)))

    return tree, [source(leaf) for leaf in leaves]


def _call(function, *arrays):
    """function(*arrays), also where the arrays are JAX's tracers."""
    if not any(isinstance(a, _jax.core.Tracer) for a in arrays):
        return function(*arrays)
    tree, sources = _outline(function, arrays)
    fresh = [s for s in sources if not isinstance(s, int)]

    def on_host(*values):
        values = iter(values)
        host = [None if a is None else _np.asarray(next(values)) for a in arrays]
        leaves = _jax.tree.leaves(function(*host))
        return [x for x, s in zip(leaves, sources, strict=True) if not isinstance(s, int)]

    given = [a for a in arrays if a is not None]
    made = iter(_jax.pure_callback(on_host, fresh, *given, vmap_method="sequential"))
    leaves = [arrays[s] if isinstance(s, int) else next(made) for s in sources]
    return _jax.tree.unflatten(tree, leaves)


def _wrap(name):
    rule = RULES[name]

    def forward(options, *arrays):
        return _call(lambda *a: rule.forward(*a, **dict(options)), *arrays)

    def backward(options, saved, grads):
        grads = grads if isinstance(grads, tuple) else (grads,)

        def from_arrays(*values):
            return tuple(rule.backward(values[: len(saved)], values[len(saved) :], **dict(options)))

        return _call(from_arrays, *saved, *grads)

    @functools.partial(_jax.custom_vjp, nondiff_argnums=(0,))
    def operator(options, *arrays):
        return forward(options, *arrays)[0]

    operator.defvjp(forward, backward)

    def wrapper(*args, **kwargs):
        arrays, options = rule.bind(args, kwargs)
        return operator(tuple(options.items()), *arrays)

    return document(wrapper, name)


globals().update({name: _wrap(name) for name in __all__})
