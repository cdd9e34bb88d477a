"""The XLA FFI adapter (aiter/xla_ffi.h) inside jax.jit on the CPU: examples/jax and more."""

import re
import shutil
import sys

import aiter
import numpy as np
import pytest
from tree import ROOT

jax = pytest.importorskip("jax")
jnp = jax.numpy

# What the example does without: optional arguments, buffers of one type, the stage that prepares.
EXTRA = """
#include "handlers.cc"

static ffi::Error maybe(Call call, Array x, std::optional<Array> w, Result y) {
  if (call.device().type != AITER_CPU || call.stream()) return ffi::Error::Internal("not the CPU");
  return call(aiter_rmsnorm, x, w, y, nullptr);
}
HANDLERS(maybe, .Arg<Array>().OptionalArg<Array>().Ret<Array>());

static ffi::Error typed(Call call, ffi::Buffer<ffi::F32> x, ffi::Result<ffi::Buffer<ffi::F32>> y) {
  return call(aiter_rmsnorm, x, nullptr, y, nullptr);
}
HANDLERS(typed, .Arg<ffi::Buffer<ffi::F32>>().Ret<ffi::Buffer<ffi::F32>>());
"""


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    if not shutil.which("c++"):
        pytest.skip("no C++ compiler")
    sys.path.insert(0, str(ROOT / "examples/jax"))
    try:
        import layers
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp("handlers")
    shutil.copy(layers.SOURCE, folder)
    (folder / "extra.cc").write_text(EXTRA)
    layers.SOURCE = folder / "extra.cc"
    layers.NAMES += ("maybe", "typed")
    layers.register(layers.build(folder))
    return layers


def normal(*shape, dtype=jnp.float32, seed=0):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(4, 64), (2, 3, 40), (16,), (0, 8), (1000, 256)], ids=str)
def test_rms_norm(layers, shape, dtype):
    x, w = normal(*shape, dtype=dtype), normal(shape[-1], dtype=dtype, seed=1)
    got = jax.jit(lambda x, w: layers.rms_norm(x, w, eps=0.5))(x, w)
    assert got.dtype == dtype
    want = aiter.rms_norm(np.asarray(x), np.asarray(w), 0.5)
    np.testing.assert_array_equal(np.asarray(got), want)


def test_a_layer(layers):
    x, residual = normal(5, 64), normal(5, 64, seed=1)
    up, down = normal(64, 256, seed=2), normal(128, 64, seed=3)
    y, new_residual = layers.layer(x, residual, jnp.ones(64), up, down)
    h, want_residual = aiter.rmsnorm2d_fwd_with_add(
        np.asarray(x), np.asarray(residual), np.ones(64, np.float32)
    )
    want = aiter.silu_and_mul(h @ np.asarray(up)) @ np.asarray(down)
    np.testing.assert_array_equal(np.asarray(new_residual), want_residual)
    np.testing.assert_allclose(np.asarray(y), want, rtol=1e-4, atol=1e-3)


def cache_problem():
    key, value = normal(3, 2, 8), normal(3, 2, 8, seed=1)
    return key, value, jnp.zeros((4, 16, 2, 8)), jnp.ones((4, 16, 2, 8)), jnp.array([17, -1, 3])


def test_cache_is_updated_in_place_when_donated(layers):
    key, value, key_cache, value_cache, slots = cache_problem()
    before = key_cache.unsafe_buffer_pointer(), value_cache.unsafe_buffer_pointer()
    update = jax.jit(layers.update_cache, donate_argnums=(2, 3))
    key_cache, value_cache = update(key, value, key_cache, value_cache, slots)
    assert (key_cache.unsafe_buffer_pointer(), value_cache.unsafe_buffer_pointer()) == before
    want = np.zeros((64, 2, 8), np.float32)
    want[17], want[3] = key[0], key[2]
    np.testing.assert_array_equal(np.asarray(key_cache).reshape(64, 2, 8), want)
    assert (np.asarray(value_cache).reshape(64, 2, 8)[17] == np.asarray(value)[0]).all()


def test_cache_is_copied_when_still_needed(layers):
    key, value, key_cache, value_cache, slots = cache_problem()
    new_key_cache, _ = jax.jit(layers.update_cache)(key, value, key_cache, value_cache, slots)
    assert not np.asarray(key_cache).any() and np.asarray(new_key_cache).any()


def test_loops_and_threads(layers):
    """Calls in a scan, and in parallel branches."""
    x, w = normal(8, 64), jnp.full(64, 0.9)
    got, _ = jax.jit(
        lambda x: jax.lax.scan(lambda x, _: (layers.rms_norm(x, w), None), x, length=50)
    )(x)
    want = np.asarray(x)
    for _ in range(50):
        want = aiter.rms_norm(want, np.asarray(w))
    np.testing.assert_array_equal(np.asarray(got), want)
    many = jax.jit(lambda x: [layers.rms_norm(x * i, w) for i in range(1, 20)])(x)
    for i, y in enumerate(many, 1):
        want = aiter.rms_norm(np.asarray(x) * i, np.asarray(w))
        np.testing.assert_array_equal(np.asarray(y), want)


def test_optional_arguments(layers):
    x, w = normal(3, 8), normal(8, seed=1)
    call = jax.jit(lambda *a: jax.ffi.ffi_call("aiter_maybe", layers.like(x))(*a))
    np.testing.assert_array_equal(np.asarray(call(x)), aiter.rms_norm(np.asarray(x)))
    np.testing.assert_array_equal(
        np.asarray(call(x, w)), aiter.rms_norm(np.asarray(x), np.asarray(w))
    )


def test_typed_buffers(layers):
    x = normal(3, 8)
    got = jax.jit(lambda x: jax.ffi.ffi_call("aiter_typed", layers.like(x))(x))(x)
    np.testing.assert_array_equal(np.asarray(got), aiter.rms_norm(np.asarray(x)))


def refusal(function, *arguments):
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(jax.jit(function)(*arguments))
    return str(caught.value)


def test_refusals_have_the_c_message(layers):
    text = refusal(layers.rms_norm, normal(3, 8), normal(7))
    assert "INVALID_ARGUMENT" in text and "rmsnorm: w has shape (7,), expected (8,)" in text
    text = refusal(lambda x, w: layers.rms_norm(x, w, eps=-1), normal(3, 8), normal(8))
    assert "rmsnorm: opts.eps is -1, expected at least 0" in text


@pytest.mark.parametrize(
    "dtype",
    [
        "int8",
        "int16",
        "int32",
        "uint8",
        "uint16",
        "uint32",
        "bool",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
    ],
)
def test_dtypes_arrive_by_their_names(layers, dtype):
    x = jnp.ones((2, 8), dtype)
    name = re.search("x has dtype ([^ ,]+),", refusal(layers.rms_norm, x, x[0]))[1]
    assert name == dtype


def test_four_bits_are_refused(layers):
    x = jnp.ones((2, 8), "int4")
    assert "x has dtype dtype code 255" in refusal(layers.rms_norm, x, x[0])
