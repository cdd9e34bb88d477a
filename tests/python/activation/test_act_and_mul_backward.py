"""act_and_mul_backward: every row on every case, for every instruction set."""

import aiter
import cases_act_and_mul as forward
import cases_act_and_mul_backward as cases
import numpy as np
import pytest
from aiter.testing import assert_close, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("act_and_mul_backward"), ids="-".join)
def row(request):
    with using("act_and_mul_backward", *request.param):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_act_and_mul_backward(case, row):
    dy, x = cases.make(case)
    options = cases.options(case)
    got = aiter.act_and_mul_backward(dy, x, case.act, **options)
    want, scale = cases.reference(dy, x, case.act, **options)
    assert got.dtype == x.dtype
    assert_close(got, want, scale=scale)


@pytest.mark.parametrize("act", cases.ACTIVATIONS)
@pytest.mark.parametrize("limit", [0.0, 2.0])
def test_reference_is_the_slope(act, limit):
    """The reference agrees with differences of the forward reference."""
    case = cases.Case("", act=act, shape=(6, 64), dtype="fp32")
    dy, x = (a.astype(np.float64) for a in cases.make(case))
    want, _ = cases.reference(dy, x, act, limit, False)
    h = 1e-6
    for i in range(0, 64, 7):
        step = np.zeros_like(x)
        step[:, i] = h
        ahead, back = (forward.reference(x + s, act, limit)[0] for s in (step, -step))
        slope = np.sum(dy * (ahead - back), axis=-1) / (2 * h)
        at_edge = np.abs(np.abs(x[:, i]) - limit) < 2 * h
        np.testing.assert_allclose(np.where(at_edge, want[:, i], slope), want[:, i], atol=1e-6)


def test_in_place_and_strided(row):
    big = np.random.default_rng(1).standard_normal((6, 5, 200)).astype(np.float32)
    dy = np.random.default_rng(2).standard_normal((6, 3, 50)).astype(np.float32)
    before = big.copy()
    x = big[:, 1:4, 7:107]
    want, scale = cases.reference(dy, x, "silu", 0, False)
    assert aiter.act_and_mul_backward(dy, x, out=x) is x
    assert_close(x, want, scale=scale)
    big[:, 1:4, 7:107] = before[:, 1:4, 7:107]
    np.testing.assert_array_equal(big, before)


def test_nan_stays():
    x = np.ones((2, 8), np.float32)
    x[0, 1], x[1, 6] = np.nan, np.nan
    for limit in (0.0, 3.0):
        dx = aiter.act_and_mul_backward(np.ones((2, 4), np.float32), x, limit=limit)
        assert np.isnan(dx[0, [1, 5]]).all() and np.isnan(dx[1, [2]]).all()
        assert np.isnan(dx).sum() <= 4


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_beyond_the_caches(dtype):
    d = 1 << 20
    rows = 20 if dtype == "fp32" else 36
    dy, x = cases.make(cases.Case("", act="silu", shape=(1, 2 * d), dtype=dtype))
    want = aiter.act_and_mul_backward(dy, x)
    dy, x = np.repeat(dy, rows, 0), np.repeat(x, rows, 0)
    with using(threads=2):
        got = aiter.act_and_mul_backward(dy, x)
    assert all(np.array_equal(row, want[0]) for row in got)


def test_the_bound_would_notice():
    dy, x = cases.make(cases.Case("", act="silu", shape=(4, 256), dtype="fp32"))
    want, scale = cases.reference(dy, x, "silu", 0, False)
    for wrong in (want * 1.01, cases.reference(dy, x, "gelu", 0, False)[0]):
        with pytest.raises(AssertionError):
            assert_close(wrong.astype(np.float32), want, scale=scale)


def test_every_option_matters():
    dy, x = cases.make(cases.Case("", act="silu", shape=(4, 256), dtype="fp32"))
    f = aiter.act_and_mul_backward
    results = [f(dy, x, a) for a in cases.ACTIVATIONS]
    results += [f(dy, x, a, limit=1.0) for a in cases.ACTIVATIONS]
    results += [f(dy, x, interleaved=True), f(2 * dy, x)]
    results += [f(dy, x, "situv2", beta=2.0), f(dy, x, "situv2", linear_beta=2.0)]
    for i, a in enumerate(results):
        assert all((a != b).any() for b in results[:i])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"x": np.ones((2, 7), np.float32)}, "x has last extent 7, expected an even one"),
        ({"dy": np.ones((2, 3), np.float32)}, "dy has extent 3 in dimension 1, expected 4"),
        ({"x": np.ones((2, 8), np.float16)}, "dy has dtype float32, expected x's float16"),
        ({"out": np.ones((2, 4), np.float32)}, r"dx has shape \(2, 4\), expected x's \(2, 8\)"),
        ({"limit": -1.0}, "opts.limit is -1, expected at least 0"),
    ],
)
def test_bad_input(arguments, message):
    out = np.full((2, 8), 7, np.float32)
    call = {"dy": np.ones((2, 4), np.float32), "x": np.ones((2, 8), np.float32), "out": out}
    with pytest.raises(ValueError, match="act_and_mul_backward: " + message):
        aiter.act_and_mul_backward(**call | arguments)
    assert (out == 7).all()
