"""partial_transpose: the valid rows, transposed and dense; nothing else is read or written."""

import aiter
import cases_partial_transpose as cases
import numpy as np
import pytest
from aiter.testing import using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("partial_transpose"), ids="-".join)
def row(request):
    with using("partial_transpose", *request.param):
        yield


def check(x, num_rows, n):
    rows, cols = x.shape
    out = np.full((cols, rows), 101, x.dtype)
    assert aiter.partial_transpose(x, num_rows, out=out) is out
    flat = out.ravel()
    np.testing.assert_array_equal(flat[: cols * n].reshape(cols, n), x[:n].T)
    assert (flat[cols * n :] == 101).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact(case, row):
    check(*cases.make(case), cases.valid_rows(case))


def test_strides_and_poison(row):
    """Columns first, or every other row and column; rows beyond the valid ones are not looked at."""
    x, num_rows = cases.make(cases.Case("", shape=(40, 70), valid=30, dtype="fp32"))
    x[30:] = np.nan
    check(np.asfortranarray(x), num_rows, 30)
    check(x[:, ::2], num_rows, 30)
    check(np.repeat(x, 2, 0)[::2, 3:], num_rows, 30)


def test_a_new_result():
    x, num_rows = cases.make(CASES[0])
    out = aiter.partial_transpose(x, num_rows)
    assert out.shape == x.shape[::-1] and out.dtype == x.dtype


def test_scales_of_valid_rows():
    """Its purpose: column-major scales for a kernel that knows how many rows are valid."""
    x = np.random.default_rng(1).standard_normal((16, 256)).astype(np.float32)
    _, scale = aiter.per_group_quant(x, "float8_e4m3fn", 64)
    got = aiter.partial_transpose(scale, np.array([5], np.int32)).ravel()[: 4 * 5]
    np.testing.assert_array_equal(got.reshape(4, 5), scale[:5].T)


def test_the_comparison_would_notice():
    """Negative control: a transposition of all rows has another stride."""
    x, num_rows = cases.make(CASES[0])
    got = aiter.partial_transpose(x, num_rows).ravel()
    assert (got[: 130 * 65].reshape(130, 65) != x.T.ravel()[: 130 * 65].reshape(130, 65)).any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"x": np.ones(4, np.float32)}, "x has rank 1"),
        ({"x": np.ones((2, 3))}, "x has dtype float64, expected float32"),
        ({"num_rows": np.ones(2, np.int32)}, r"num_rows has shape \(2,\), expected \(1,\)"),
        ({"num_rows": np.ones(1, np.int64)}, "num_rows has dtype int64, expected int32"),
        ({"out": np.ones((2, 3), np.float32)}, r"y has shape \(2, 3\), expected \(3, 2\)"),
        ({"out": np.ones((3, 2), np.float16)}, "y has dtype float16, expected x's float32"),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    call = {"x": np.ones((2, 3), np.float32), "num_rows": np.ones(1, np.int32)} | arguments
    with pytest.raises(ValueError, match="partial_transpose: " + message):
        aiter.partial_transpose(**call)
