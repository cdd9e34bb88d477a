"""softmax: every row on every case, for every instruction set."""

import aiter
import cases_softmax as cases
import numpy as np
import pytest
from aiter.testing import assert_close, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("softmax"), ids="-".join)
def row(request):
    with using("softmax", *request.param):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_softmax(case, row):
    x = cases.make(case)
    got = aiter.softmax(x)
    assert got.dtype == x.dtype
    want, scale = cases.reference(x)
    assert_close(got, want, terms=case.shape[-1], scale=scale)


def test_in_place_and_strided(row):
    big = np.random.default_rng(1).standard_normal((6, 5, 200)).astype(np.float32)
    before = big.copy()
    x = big[:, 1:4, 7:107]
    want, scale = cases.reference(x)
    assert aiter.softmax(x, out=x) is x
    assert_close(x, want, terms=100, scale=scale)
    big[:, 1:4, 7:107] = before[:, 1:4, 7:107]
    np.testing.assert_array_equal(big, before)


def test_batch_does_not_matter(row):
    x = cases.make(cases.Case("", shape=(9, 500), dtype="fp32"))
    np.testing.assert_array_equal(aiter.softmax(x)[4:5], aiter.softmax(x[4:5]))


def test_many_threads_agree():
    x = cases.make(cases.Case("", shape=(513, 300), dtype="fp32"))
    with using(threads=1):
        one = aiter.softmax(x)
    with using(threads=3):
        np.testing.assert_array_equal(aiter.softmax(x), one)


def test_the_bound_would_notice():
    x = cases.make(cases.Case("", shape=(4, 256), dtype="fp32"))
    want, scale = cases.reference(x)
    dropped = cases.reference(x[:, :240])[0]
    with pytest.raises(AssertionError):
        assert_close((want * 1.01).astype(np.float32), want, terms=256, scale=scale)
    with pytest.raises(AssertionError):
        assert_close(dropped.astype(np.float32), want[:, :240], terms=256, scale=scale[:, :240])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"x": np.ones((2, 8))}, "x has dtype float64, expected float32, float16 or bfloat16"),
        ({"x": np.float32(1).reshape(())}, "x has rank 0, expected at least 1"),
        ({"x": np.ones((2, 16), np.float32)[:, ::2]}, "x has last stride 2, expected 1"),
        ({"x": np.ones((2, 7), np.float32)}, r"y has shape \(2, 8\), expected x's \(2, 7\)"),
        ({"x": np.ones((2, 8), np.float16)}, "y has dtype float32, expected x's float16"),
    ],
)
def test_bad_input(arguments, message):
    out = np.full((2, 8), 7, np.float32)
    with pytest.raises(ValueError, match="softmax: " + message):
        aiter.softmax(**{"x": np.ones((2, 8), np.float32), "out": out} | arguments)
    assert (out == 7).all()
