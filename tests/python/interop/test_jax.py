"""JAX arrays on the CPU, in and out, outside of jax.jit (test_xla_ffi.py is about the inside)."""

import gc

import aiter
import numpy as np
import pytest

jax = pytest.importorskip("jax")
jnp = jax.numpy
X = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
DTYPES = [
    "float32",
    "float16",
    "bfloat16",
    "int8",
    "uint8",
    "int32",
    "bool",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_results_are_jax_arrays(dtype):
    x = jnp.asarray(X, dtype)
    y = aiter.rms_norm(x)
    assert isinstance(y, jax.Array) and y.dtype == dtype
    np.testing.assert_array_equal(np.asarray(y), aiter.rms_norm(np.asarray(x)))
    two = aiter.rmsnorm2d_fwd_with_add(x, x)
    assert all(isinstance(y, jax.Array) for y in two)
    jax.block_until_ready(jax.jit(lambda a: a + 1)(y))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    x = jnp.asarray(X > 0, dtype)
    a = aiter.asarray(x)
    assert a.dtype == dtype and a.shape == (3, 8) and a.readonly
    assert a.data_ptr == x.unsafe_buffer_pointer()
    assert np.asarray(x).tobytes() == a.numpy().tobytes()
    mine = a.copy()
    back = jax.dlpack.from_dlpack(mine)
    assert back.dtype == x.dtype and back.unsafe_buffer_pointer() == mine.data_ptr


def test_packed_fp4():
    x = jnp.asarray([[0, 0.5, 1, -6]], "float4_e2m1fn")
    a = aiter.asarray(x)
    assert a.dtype == "float4_e2m1fnx2" and a.shape == (1, 2)
    assert a.numpy().tolist() == [[0x10, 0xF2]]


def test_shapes():
    for shape in ((0, 8), (2, 3, 4), (5,), (4, 0)):
        x = jnp.ones(shape, jnp.float32)
        y = aiter.rms_norm(x)
        assert y.shape == shape
        np.testing.assert_array_equal(np.asarray(y), aiter.rms_norm(np.asarray(x)))


def test_work_in_flight_is_waited_for():
    @jax.jit
    def slow(a):
        return jax.lax.fori_loop(0, 40, lambda i, m: jnp.tanh(m @ m) + i, a)

    x = jnp.ones((600, 600)) * 0.01
    jax.block_until_ready(slow(x))
    for _ in range(3):
        y = slow(x)
        got = aiter.rms_norm(y)
        np.testing.assert_array_equal(np.asarray(got), aiter.rms_norm(np.asarray(y)))


def test_jax_arrays_are_never_written():
    x = jnp.asarray(X)
    with pytest.raises(ValueError, match="rmsnorm: out is a JAX array, which is immutable.*leave"):
        aiter.rms_norm(X, out=x)
    cache = jnp.zeros((2, 16, 1, 8))
    key = np.ones((1, 1, 8), np.float32)
    with pytest.raises(ValueError, match="key_cache is a JAX array, .*keep .* aiter.Array"):
        aiter.reshape_and_cache_flash(key, key, cache, cache, np.zeros(1, np.int64))
    for view in (aiter.view(x, "float32"), aiter.asarray(x)):
        with pytest.raises(ValueError, match="out is read-only"):
            aiter.rms_norm(X, out=view)
    with pytest.raises(ValueError, match="read-only"):
        aiter.asarray(x)[0] = X[1]
    np.testing.assert_array_equal(np.asarray(x), X)
    kept = aiter.asarray(x, copy=True)
    aiter.rms_norm(x, out=kept)
    np.testing.assert_array_equal(kept.numpy(), aiter.rms_norm(X))


def test_tracers():
    for function in (jax.jit(aiter.rms_norm), jax.grad(lambda x: aiter.rms_norm(x).sum())):
        with pytest.raises(TypeError, match="rmsnorm: x is traced by JAX: inside jax.jit, call"):
            function(jnp.asarray(X))


def test_results_outlive_all_else():
    y = aiter.rms_norm(jnp.ones((512, 512)))
    gc.collect()
    junk = [aiter.zeros((512, 512)) for _ in range(8)]
    np.testing.assert_allclose(np.asarray(y), 1, rtol=1e-5)
    del junk


def test_donated_arrays():
    """An array that a call has seen can still be donated to a jitted function."""
    x = jnp.asarray(X)
    aiter.rms_norm(x)
    jax.jit(lambda a: a * 2, donate_argnums=0)(x)
    with pytest.raises(ValueError, match="rmsnorm: x cannot be taken from its jaxlib") as caught:
        aiter.rms_norm(x)
    assert caught.value.__cause__ is not None
