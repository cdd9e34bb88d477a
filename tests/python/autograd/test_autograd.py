"""aiter.autograd: every rule, in torch and in JAX, against differences of the function itself."""

import aiter
import numpy as np
import pytest
from aiter import autograd

# Arrays and options that each function is tried with.
GATED = [np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32) * 2]
ROWS = [np.random.default_rng(i).standard_normal((3, 16)).astype(np.float32) for i in (3, 4)]
COLUMNS = [np.random.default_rng(i).standard_normal(16).astype(np.float32) for i in (5, 6)]
BIAS = np.random.default_rng(7).standard_normal(16).astype(np.float32)
CALLS = {
    "rms_norm": ([ROWS[0], COLUMNS[0]], {"gemma_norm": True}),
    "rmsnorm2d_fwd_with_add": ([*ROWS, COLUMNS[0]], {}),
    "layer_norm": ([ROWS[0], *COLUMNS, BIAS], {}),
    "layernorm2d_fwd_with_add": ([*ROWS, *COLUMNS, BIAS], {}),
    "silu_and_mul": (GATED, {"limit": 3.0}),
    "gelu_and_mul": (GATED, {}),
    "gelu_tanh_and_mul": (GATED, {}),
    "swiglu_and_mul": (GATED, {}),
    "situv2_and_mul": (GATED, {"beta": 2.0}),
}

# The arrays that turn; tables, positions and bounds behind them have no gradient.
X, Y = (np.random.default_rng(h).standard_normal((3, 2, h, 8)).astype(np.float32) for h in (2, 1))
ANGLES = np.random.default_rng(4).uniform(-3, 3, (5, 4)).astype(np.float32)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)
POSITIONS, OFFSETS = np.array([[0, 1], [2, 1], [1, 0]]), np.array([[1, 0], [2, 2], [0, 1]])
STYLE = {"rotate_style": 1, "reuse_freqs_front_part": True, "nope_first": False}
FULL = STYLE | {"reuse_freqs_front_part": False, "nope_first": True, "rotate_style": 0}
TURNED = STYLE | {"transpose_output": True}
ROPE = {
    "rope_fwd": ([X, ANGLES], TURNED),
    "rope_2c_fwd": ([X, Y, ANGLES], FULL),
    "rope_cached_fwd": ([X, COS, SIN], FULL),
    "rope_cached_2c_fwd": ([X, Y, COS, SIN], TURNED),
    "rope_cached_positions_fwd": ([X, COS, SIN, POSITIONS], STYLE),
    "rope_cached_positions_2c_fwd": ([X, Y, COS, SIN, POSITIONS], STYLE),
    "rope_cached_positions_offsets_fwd": ([X, COS, SIN, POSITIONS, OFFSETS], FULL),
    "rope_cached_positions_offsets_2c_fwd": ([X, Y, COS, SIN, POSITIONS, OFFSETS], FULL),
    "rope_thd_fwd": ([X[0], np.array([0, 2]), ANGLES], STYLE),
    "rope_2d_fwd": ([X, *[t[None, :, None, :2] for t in (COS, SIN, COS, SIN)]],
                    {"img_height": 1, "img_width": 2} | STYLE),
}  # fmt: skip
CALLS |= ROPE


def differentiable(name):
    """How many of a function's arrays have gradients."""
    return len(CALLS[name][0]) if name not in ROPE else 2 if "_2c_" in name else 1


RULES = [pytest.param(name, id=name) for name in autograd.RULES]


def test_every_rule_is_tried():
    assert set(CALLS) == set(autograd.RULES)


def results_of(name, arrays, options, module=aiter):
    named = dict(zip(autograd.RULES[name].arrays, arrays, strict=True))
    results = getattr(module, name)(**named, **options)
    return results if isinstance(results, tuple) else (results,)


def weights_for(name):
    """Numbers that the results are multiplied by before they are added up."""
    arrays, options = CALLS[name]
    rng = np.random.default_rng(1)
    return [
        rng.standard_normal(np.shape(r)).astype(np.float32)
        for r in results_of(name, arrays, options)
    ]


def check_gradients(name, gradients):
    """Against differences of the sum, in some direction for each array."""
    arrays, options = CALLS[name]
    weights = weights_for(name)

    def total(*arrays):
        results = results_of(name, arrays, options)
        return sum(np.sum(w.astype(np.float64) * r) for w, r in zip(weights, results, strict=True))

    assert len(gradients) == differentiable(name)
    for i, (array, gradient) in enumerate(zip(arrays, gradients, strict=False)):
        direction = np.random.default_rng(2).standard_normal(array.shape).astype(np.float32)
        sides = []
        for step in (1e-2, -1e-2):
            moved = list(arrays)
            moved[i] = (array + step * direction).astype(array.dtype)
            sides.append((total(*moved), moved[i].astype(np.float64)))
        distance = np.linalg.norm(sides[0][1] - sides[1][1]) / np.linalg.norm(direction)
        slope = (sides[0][0] - sides[1][0]) / distance
        got = np.sum(np.asarray(gradient, np.float64) * direction)
        size = np.linalg.norm(np.asarray(gradient, np.float64)) * np.linalg.norm(direction)
        assert abs(got - slope) < 2e-3 * size, f"{name}: array {i}"
        assert size > 0


@pytest.mark.parametrize("name", RULES)
def test_torch(name):
    torch = pytest.importorskip("torch")
    from aiter.autograd import torch as ops

    arrays, options = CALLS[name]
    tensors = [torch.from_numpy(a.copy()) for a in arrays]
    for tensor in tensors[: differentiable(name)]:
        tensor.requires_grad_()
    results = results_of(name, tensors, options, ops)
    want = results_of(name, arrays, options)
    for got, plain in zip(results, want, strict=True):
        assert got.requires_grad
        np.testing.assert_array_equal(got.detach().numpy(), plain)
    weighted = zip(weights_for(name), results, strict=True)
    sum((torch.from_numpy(w) * r).sum() for w, r in weighted).backward()
    check_gradients(name, [t.grad.numpy() for t in tensors if t.grad is not None])


def test_torch_gradients_of_a_sum_have_no_strides():
    torch = pytest.importorskip("torch")
    from aiter.autograd import torch as ops

    x = torch.ones(2, 8, dtype=torch.bfloat16, requires_grad=True)
    ops.silu_and_mul(x).sum().backward()
    assert x.grad.dtype == torch.bfloat16 and x.grad.shape == (2, 8)
    with pytest.raises(ValueError, match="x has last extent 7"):
        ops.silu_and_mul(torch.ones(2, 7, requires_grad=True))


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", RULES)
def test_jax(name, jit):
    jax = pytest.importorskip("jax")
    from aiter.autograd import jax as ops

    arrays, options = CALLS[name]
    weights = weights_for(name)

    def total(*arrays):
        results = results_of(name, arrays, options, ops)
        weighted = zip(weights, results, strict=True)
        return sum((w * r).sum() for w, r in weighted), results

    f = jax.value_and_grad(total, argnums=tuple(range(differentiable(name))), has_aux=True)
    (_, results), gradients = (jax.jit(f) if jit else f)(*map(jax.numpy.asarray, arrays))
    want = results_of(name, arrays, options)
    for got, plain in zip(results, want, strict=True):
        np.testing.assert_array_equal(np.asarray(got), plain)
    check_gradients(name, [np.asarray(g) for g in gradients])


def test_jax_without_gradients():
    jax = pytest.importorskip("jax")
    from aiter.autograd import jax as ops

    x = jax.numpy.ones((2, 3, 8), jax.numpy.bfloat16)
    want = np.asarray(aiter.silu_and_mul(x), np.float32)
    for f in (ops.silu_and_mul, jax.jit(ops.silu_and_mul), jax.vmap(ops.silu_and_mul)):
        assert f(x).dtype == x.dtype
        np.testing.assert_array_equal(np.asarray(f(x), np.float32), want)


def test_functions_look_like_aiter():
    pytest.importorskip("torch")
    import inspect

    from aiter.autograd import torch as ops

    assert ops.__all__ == sorted(autograd.RULES)
    assert list(inspect.signature(ops.silu_and_mul).parameters) == ["x", "limit", "dtype"]
    assert ops.silu_and_mul.__doc__ == aiter.silu_and_mul.__doc__
