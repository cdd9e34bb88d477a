"""layer_norm and layernorm2d_fwd_with_add: every row on every case, for every instruction set."""

import aiter
import cases_layernorm as cases
import numpy as np
import pytest
from aiter.testing import assert_close, assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("layernorm"), ids="-".join)
def row(request):
    with using("layernorm", *request.param):
        yield


def check(got, want, scale, case):
    assert_close(got, want, terms=case.shape[-1], scale=np.where(np.isfinite(scale), scale, 0))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer_norm(case, row):
    x, _, w, b, x_bias = cases.make(case)
    eps = case.get("eps", 1e-5)
    check(aiter.layer_norm(x, w, b, eps, x_bias), *cases.reference(x, w, b, eps, x_bias), case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer_norm_with_add(case, row):
    x, residual, w, b, x_bias = cases.make(case)
    eps = case.get("eps", 1e-5)
    y, residual_out = aiter.layernorm2d_fwd_with_add(x, residual, w, b, eps, x_bias)
    want, scale, want_residual = cases.reference_add(x, residual, w, b, eps, x_bias)
    assert_equal(residual_out, want_residual)
    check(y, want, scale, case)


def test_in_place(row):
    case = cases.CASES[0]
    x, residual, w, b, x_bias = cases.make(case)
    want, scale, want_residual = cases.reference_add(x, residual, w, b)
    y, residual_out = aiter.layernorm2d_fwd_with_add(
        x, residual, w, b, out=x, residual_out=residual
    )
    assert y is x and residual_out is residual
    assert_equal(residual, want_residual)
    check(x, want, scale, case)


def test_strided_rows_leave_their_neighbours_alone(row):
    rng = np.random.default_rng(1)
    qkv = rng.standard_normal((6, 12, 64)).astype(np.float32)
    before = qkv.copy()
    k = qkv[:, 8:10]
    want, scale = cases.reference(k)
    aiter.layer_norm(k, out=k)
    assert_close(k, want, terms=64, scale=scale)
    np.testing.assert_array_equal(qkv[:, :8], before[:, :8])
    np.testing.assert_array_equal(qkv[:, 10:], before[:, 10:])


def test_rows_do_not_mix(row):
    """NaN in a row, and in the columns beside it, change no other row by one bit."""
    rng = np.random.default_rng(2)
    wide = rng.standard_normal((5, 104)).astype(np.float32)
    clean = aiter.layer_norm(wide[:, :96])
    wide[:, 96:] = np.nan
    wide[2] = np.nan
    got = aiter.layer_norm(wide[:, :96])
    keep = [0, 1, 3, 4]
    np.testing.assert_array_equal(got[keep], clean[keep])
    assert np.isnan(got[2]).all()


def test_every_argument_matters(row):
    rng = np.random.default_rng(3)
    x, residual = (rng.standard_normal((3, 64)).astype(np.float32) for _ in range(2))
    w, b, x_bias = (rng.standard_normal(64).astype(np.float32) for _ in range(3))
    base = {"x": x, "residual_in": residual, "weight": w, "bias": b, "eps": 1e-5, "x_bias": x_bias}
    plain, _ = aiter.layernorm2d_fwd_with_add(**base)
    for change in (
        {"x": 2 * x},
        {"residual_in": x},
        {"weight": None},
        {"bias": None},
        {"eps": 1.0},
        {"x_bias": None},
    ):
        assert not np.array_equal(aiter.layernorm2d_fwd_with_add(**base | change)[0], plain), change


def test_the_bound_would_notice():
    """Negative control: a gain of 1 % and a mean of the wrong length must fail."""
    x = np.random.default_rng(2).standard_normal((4, 256)).astype(np.float32)
    want, scale = cases.reference(x)
    dropped, _ = cases.reference(x[:, :240])
    with pytest.raises(AssertionError):
        assert_close((want * 1.01).astype(np.float32), want, terms=256, scale=scale)
    with pytest.raises(AssertionError):
        assert_close(dropped.astype(np.float32), want[:, :240], terms=256, scale=scale[:, :240])


def test_many_threads_agree():
    x = np.random.default_rng(3).standard_normal((513, 300)).astype(np.float32)
    bias = np.ones(300, np.float32)
    with using(threads=1):
        one = aiter.layer_norm(x, x_bias=bias)
    with using(threads=3):
        np.testing.assert_array_equal(aiter.layer_norm(x, x_bias=bias), one)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"weight": np.ones(7, np.float32)}, r"w has shape \(7,\), expected \(8,\)"),
        ({"bias": np.ones(8, np.float16)}, "b has dtype float16, expected x's float32"),
        ({"x_bias": np.ones(4, np.float32)}, r"x_bias has shape \(4,\), expected \(8,\)"),
        ({"out": np.ones((2, 8), np.float16)}, "y has dtype float16, expected x's float32"),
        ({"out": np.ones((2, 7), np.float32)}, "y has extent 7 in dimension 1, expected x's 8"),
        ({"eps": -1.0}, "opts.eps is -1, expected at least 0"),
        ({"x": np.ones((2, 8))}, "x has dtype float64, expected float32, float16 or bfloat16"),
        ({"x": np.ones((2, 16), np.float32)[:, ::2]}, "x has last stride 2, expected 1"),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    out = np.full((2, 8), 7, np.float32)
    call = {"x": np.ones((2, 8), np.float32), "out": out} | arguments
    with pytest.raises(ValueError, match="layernorm: " + message):
        aiter.layer_norm(**call)
    assert (out == 7).all()


def test_weights_of_unlike_dtypes():
    x = np.ones((2, 8), np.float16)
    with pytest.raises(ValueError, match="layernorm: b has dtype float16, expected w's float32"):
        aiter.layer_norm(x, np.ones(8, np.float32), np.ones(8, np.float16))
