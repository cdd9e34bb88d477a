"""gemm_a8w8: every row on every case, for every instruction set."""

import aiter
import cases_gemm_a8w8 as cases
import ml_dtypes
import numpy as np
import pytest
from aiter.testing import assert_close, dtype_of, isas, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("gemm_a8w8"), ids="-".join)
def row(request):
    with using("gemm_a8w8", *request.param):
        yield


def magnitude(want, bias):
    """The scale of the allowed error: a bias may cancel what was rounded before."""
    return np.abs(want) + (0 if bias is None else 2 * np.abs(bias.astype(np.float64)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case, row):
    x, w, x_scale, w_scale, bias = cases.make(case)
    dtype = dtype_of(case.dtype)
    got = aiter.gemm_a8w8(x, w, x_scale, w_scale, bias, dtype.name)
    assert got.dtype == dtype
    want = cases.reference(x, w, x_scale, w_scale, bias)
    # Exact sums: the error is that of a few roundings, whatever K is.
    assert_close(got, want, terms=1, scale=magnitude(want, bias))


def test_sums_are_exact(row):
    """With scales of 1, sums below 2^24 come out of fp32 exactly."""
    rng = np.random.default_rng(1)
    for k in (1, 3, 64, 130, 1000):
        x = rng.integers(-128, 128, (5, k), dtype=np.int8)
        w = rng.integers(-128, 128, (33, k), dtype=np.int8)
        one = np.ones(5, np.float32), np.ones(33, np.float32)
        got = aiter.gemm_a8w8(x, w, *one, dtype="float32")
        np.testing.assert_array_equal(got, x.astype(np.int64) @ w.astype(np.int64).T)


@pytest.mark.parametrize("x_shape", [(6,), (6, 1), (2, 3), (2, 3, 1)])
@pytest.mark.parametrize("w_shape", [(20,), (1, 20), (20, 1)])
def test_shapes_of_scales(x_shape, w_shape):
    x, w, x_scale, w_scale, _ = cases.make(cases.Case("edge", m=6, n=20, k=40))
    want = cases.reference(x, w, x_scale, w_scale).reshape(2, 3, 20)
    got = aiter.gemm_a8w8(
        x.reshape(2, 3, 40), w, x_scale.reshape(x_shape), w_scale.reshape(w_shape), dtype="float32"
    )
    assert_close(got, want)


def test_the_default_is_bf16():
    x, w = np.ones((2, 8), np.int8), np.ones((4, 8), np.int8)
    y = aiter.gemm_a8w8(x, w, np.ones(2, np.float32), np.ones(4, np.float32))
    assert y.dtype == ml_dtypes.bfloat16 and (y == 8).all()


@pytest.mark.parametrize("isa", isas())
def test_threads_agree(isa):
    rng = np.random.default_rng(2)
    for m, n, k in ((1, 500, 300), (40, 200, 576), (270, 30, 2100)):
        x = rng.integers(-128, 128, (m, k), dtype=np.int8)
        w = rng.integers(-128, 128, (n, k), dtype=np.int8)
        scales = rng.random(m, np.float32), rng.random(n, np.float32)
        with using(isa=isa, threads=1):
            one = aiter.gemm_a8w8(x, w, *scales)
        for threads in (2, 5):
            with using(isa=isa, threads=threads):
                np.testing.assert_array_equal(aiter.gemm_a8w8(x, w, *scales), one)


def test_the_bound_would_notice():
    """Negative controls: a gain of 0.1 %, one product missing."""
    x, w, x_scale, w_scale, _ = cases.make(cases.Case("edge", m=4, n=20, k=128))
    want = cases.reference(x, w, x_scale, w_scale)
    assert_close(want.astype(np.float32), want)
    for wrong in (want * 1.001, cases.reference(x[:, 1:], w[:, 1:], x_scale, w_scale)):
        with pytest.raises(AssertionError):
            assert_close(wrong.astype(np.float32), want)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"WQ": np.ones((20, 7), np.int8)}, "w has shape .20, 7., expected .any, 8."),
        ({"WQ": np.ones((20, 8), np.uint8)}, "w has dtype uint8, expected int8"),
        ({"XQ": np.ones((2, 8), np.float32)}, "x has dtype float32, expected int8"),
        ({"XQ": np.ones((2, 16), np.int8)[:, ::2]}, "x has last stride 2, expected 1"),
        ({"x_scale": np.ones(3, np.float32)}, "x_scale has 3 elements in rank 1, expected one per"),
        ({"x_scale": np.ones((1, 2), np.float32)}, "x_scale has 2 elements in rank 2, expected"),
        ({"x_scale": np.ones(2, np.float16)}, "x_scale has dtype float16, expected float32"),
        ({"w_scale": np.ones((1, 19), np.float32)}, "w_scale has shape .1, 19., expected .1, 20."),
        ({"w_scale": np.ones((19, 1), np.float32)}, "w_scale has shape .19, 1., expected .20, 1."),
        ({"bias": np.ones(20, np.float16)}, "bias has dtype float16, expected y's float32"),
        ({"out": np.ones((3, 20), np.float32)}, "y differs from the expected shape"),
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(v),
)
def test_bad_input(arguments, message):
    out = np.full((2, 20), 7, np.float32)
    call = {
        "XQ": np.ones((2, 8), np.int8),
        "WQ": np.ones((20, 8), np.int8),
        "x_scale": np.ones(2, np.float32),
        "w_scale": np.ones(20, np.float32),
        "out": out,
    }
    with pytest.raises(ValueError, match="gemm_a8w8: " + message):
        aiter.gemm_a8w8(**(call | arguments))
    assert (out == 7).all()


def test_k_is_bounded():
    x, w = np.ones((1, 131072), np.int8), np.ones((1, 131072), np.int8)
    one = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="x has K = 131072, expected at most 131071"):
        aiter.gemm_a8w8(x, w, one, one)
