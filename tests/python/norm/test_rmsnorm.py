"""rms_norm and rmsnorm2d_fwd_with_add: every row on every case, for every instruction set."""

import aiter
import cases_rmsnorm as cases
import numpy as np
import pytest
from aiter.testing import assert_close, assert_equal, bound, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("rmsnorm"), ids="-".join)
def row(request):
    with using("rmsnorm", *request.param):
        yield


def check(got, want, case):
    # Model-sensitive rounding happens before the product with w: one more rounding of the result.
    scale = np.abs(want) * (2.5 if case.get("model_sensitive") else 1)
    assert_close(got, want, terms=case.shape[-1], scale=np.where(np.isfinite(scale), scale, 0))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rms_norm(case, row):
    x, _, w = cases.make(case)
    options = cases.options(case)
    check(aiter.rms_norm(x, w, **options), cases.reference(x, w, **options), case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rms_norm_with_add(case, row):
    x, residual, w = cases.make(case)
    options = cases.options(case)
    y, residual_out = aiter.rmsnorm2d_fwd_with_add(x, residual, w, **options)
    want, want_residual = cases.reference_add(x, residual, w, **options)
    assert_equal(residual_out, want_residual)
    check(y, want, case)


def test_in_place(row):
    case = cases.CASES[0]
    x, residual, w = cases.make(case)
    want, want_residual = cases.reference_add(x, residual, w, **cases.options(case))
    y, residual_out = aiter.rmsnorm2d_fwd_with_add(
        x, residual, w, **cases.options(case), out=x, residual_out=residual
    )
    assert y is x and residual_out is residual
    assert_equal(residual, want_residual)
    check(x, want, case)


def test_strided_slice_of_qkv(row):
    """Per-head norms of the k part of a fused (tokens, heads, head_dim) tensor, in place."""
    rng = np.random.default_rng(1)
    qkv = rng.standard_normal((6, 12, 64)).astype(np.float32)
    before = qkv.copy()
    k = qkv[:, 8:10]
    want = cases.reference(k, None, 1e-6, False, 0)
    aiter.rms_norm(k, out=k)
    assert_close(k, want, terms=64)
    np.testing.assert_array_equal(qkv[:, :8], before[:, :8])
    np.testing.assert_array_equal(qkv[:, 10:], before[:, 10:])


@pytest.mark.parametrize("hidden, columns", [(100, 128), (64, 64), (65, 128), (1, 64)])
def test_padding_columns_are_zero(hidden, columns, row):
    x, residual = np.random.default_rng(4).standard_normal((2, 5, hidden)).astype(np.float32)
    out = np.full((5, columns), np.nan, np.float32)
    y = aiter.fused_add_rmsnorm_pad(x, None, 1e-6, None, 64, out=out)
    assert y is out and (y[:, hidden:] == 0).all()
    np.testing.assert_array_equal(y[:, :hidden], aiter.rms_norm(x))
    y, residual_out = aiter.fused_add_rmsnorm_pad(x, None, 1e-6, residual, 64)
    assert y.shape == (5, columns) and (y[:, hidden:] == 0).all()
    want, want_residual = aiter.rmsnorm2d_fwd_with_add(x, residual)
    np.testing.assert_array_equal(y[:, :hidden], want)
    np.testing.assert_array_equal(residual_out, want_residual)


def test_the_bound_would_notice():
    """Negative control: a gain of 1 % and a dropped tail must fail."""
    x = np.random.default_rng(2).standard_normal((4, 256)).astype(np.float32)
    want = cases.reference(x, None, 1e-6, False, 0)
    dropped = cases.reference(x[:, :240], None, 1e-6, False, 0)
    with pytest.raises(AssertionError):
        assert_close((want * 1.01).astype(np.float32), want, terms=256)
    with pytest.raises(AssertionError):
        assert_close(dropped.astype(np.float32), want[:, :240], terms=256)
    assert bound("bfloat16", 256) < 0.01


def test_many_threads_agree():
    x = np.random.default_rng(3).standard_normal((513, 300)).astype(np.float32)
    with using(threads=1):
        one = aiter.rms_norm(x)
    with using(threads=3):
        np.testing.assert_array_equal(aiter.rms_norm(x), one)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"w": np.ones(7, np.float32)}, r"w has shape \(7,\), expected \(8,\)"),
        ({"w": np.ones(8, np.float16)}, "w has dtype float16, expected x's float32"),
        ({"out": np.ones((2, 8), np.float16)}, "y has dtype float16, expected x's float32"),
        ({"eps": -1.0}, "opts.eps is -1, expected at least 0"),
        ({"x": np.ones((2, 8))}, "x has dtype float64, expected float32, float16 or bfloat16"),
        ({"x": np.ones((2, 16), np.float32)[:, ::2]}, "x has last stride 2, expected 1"),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    out = np.full((2, 8), 7, np.float32)
    call = {"x": np.ones((2, 8), np.float32), "out": out} | arguments
    with pytest.raises(ValueError, match="rmsnorm: " + message):
        aiter.rms_norm(**call)
    assert (out == 7).all()


def test_explain():
    text = aiter.explain(aiter.rms_norm, np.ones((2, 8), np.float32))
    assert text.startswith("rmsnorm: cpu_simd on cpu (")
    with using("rmsnorm", "cpu_ref"):
        text = aiter.explain(aiter.rms_norm, np.ones((2, 8), np.float32))
    assert text.startswith("rmsnorm: cpu_ref on cpu (") and text.endswith("forced")
