"""sigmoid, tanh and their kin: every row on every case, for every instruction set."""

import aiter
import cases_unary as cases
import numpy as np
import pytest
from aiter.testing import assert_close, dtype_of, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("unary"), ids="-".join)
def row(request):
    with using("unary", *request.param):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_unary(case, row):
    x = cases.make(case)
    out = case.get("out")
    got = getattr(aiter, case.op)(x, dtype=dtype_of(out).name if out else None)
    assert got.dtype == dtype_of(out or case.dtype)
    want, scale = cases.reference(x, case.op)
    assert_close(got, want, scale=scale)


def test_in_place_and_strided_out(row):
    x = cases.make(cases.Case("", op="tanh", shape=(6, 40), dtype="fp32"))
    want, scale = cases.reference(x, "tanh")
    memory = np.full((40, 9), 7, np.float32)
    assert_close(aiter.tanh(x, out=memory[:, 2:8].T), want, scale=scale)
    assert (memory[:, :2] == 7).all() and (memory[:, 8:] == 7).all()
    assert aiter.tanh(x, out=x) is x
    assert_close(x, want, scale=scale)


def test_broadcast_to_out():
    x = np.arange(4, dtype=np.float32)
    out = np.empty((3, 4), np.float32)
    assert (aiter.relu(x, out=out) == x).all()


def test_the_bound_would_notice():
    x = cases.make(cases.Case("", op="gelu", shape=(4, 256), dtype="fp32"))
    want, scale = cases.reference(x, "gelu")
    for wrong in (want * 1.01, cases.reference(x, "gelu_fast")[0]):
        with pytest.raises(AssertionError):
            assert_close(wrong.astype(np.float32), want, scale=scale)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"x": np.ones((2, 4))}, "x has dtype float64, expected float32, float16 or bfloat16"),
        ({"x": np.ones((2, 3), np.float32)}, "x has extent 3 in dimension 1, expected y's 4 or 1"),
        ({"x": np.ones((1, 2, 4), np.float32)}, "x has rank 3, expected at most y's 2"),
        (
            {"out": np.lib.stride_tricks.as_strided(np.ones(4, np.float32), (2, 4), (0, 4))},
            "y has stride 0 in dimension 0, expected elements that do not overlap",
        ),
    ],
)
def test_bad_input(arguments, message):
    out = np.full((2, 4), 7, np.float32)
    with pytest.raises(ValueError, match="unary: " + message):
        aiter.sigmoid(**{"x": np.ones((2, 4), np.float32), "out": out} | arguments)
    assert (out == 7).all()
