"""fused_mul_add: every row on every case, for every instruction set."""

import aiter
import cases_fused_mul_add as cases
import numpy as np
import pytest
from aiter.testing import assert_close, assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("fused_mul_add"), ids="-".join)
def row(request):
    with using("fused_mul_add", *request.param):
        yield


def check(got, want, isa):
    if isa == "portable":  # which has no fma instruction: two roundings
        assert_close(got, want, scale=np.abs(want) + 4)
    else:
        assert_equal(got, want.astype(got.dtype))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fused_mul_add(case, row, request):
    x, a, b = cases.make(case)
    got = aiter.fused_mul_add(x, a, b)
    assert got.dtype == x.dtype
    check(got, cases.reference(x, a, b), request.node.callspec.params["row"][1])


def test_in_place_and_other_dtype(row, request):
    x, a, b = cases.make(cases.CASES[0])
    isa = request.node.callspec.params["row"][1]
    want = cases.reference(x, a, b)
    got = aiter.fused_mul_add(x, a, b, dtype="float32")
    assert got.dtype == np.float32
    check(got, want, isa)
    assert aiter.fused_mul_add(x, a, b, out=x) is x
    check(x, want, isa)


def test_one_rounding():
    x = np.float32([1 + 2**-12])
    if aiter.explain(aiter.fused_mul_add, x, 1.0, 0.0).find("portable") < 0:
        assert aiter.fused_mul_add(x, x, np.float32([-1 - 2**-11]))[0] == 2**-24


def test_every_argument_matters():
    x = np.arange(1, 9, dtype=np.float32)
    results = [aiter.fused_mul_add(x, a, b) for a, b in ((1, 0), (3, 0), (1, 1), (x, 0), (1, x))]
    for i, a in enumerate(results):
        assert all((a != b).any() for b in results[:i])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"x": np.ones((2, 4))}, "x has dtype float64, expected float32, float16 or bfloat16"),
        ({"a": np.ones(3, np.float32)}, "a has extent 3 in dimension 0, expected y's 4 or 1"),
        ({"b": np.ones(4, np.int32)}, "b has dtype int32, expected float32, float16 or bfloat16"),
    ],
)
def test_bad_input(arguments, message):
    out = np.full((2, 4), 7, np.float32)
    call = {"x": np.ones((2, 4), np.float32), "a": 1.0, "b": 2.0, "out": out}
    with pytest.raises(ValueError, match="fused_mul_add: " + message):
        aiter.fused_mul_add(**call | arguments)
    assert (out == 7).all()
