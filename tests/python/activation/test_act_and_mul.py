"""silu_and_mul and its kin: every row on every case, for every instruction set."""

import aiter
import cases_act_and_mul as cases
import numpy as np
import pytest
from aiter.testing import assert_close, dtype_of, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
FUNCTIONS = {
    "silu": aiter.silu_and_mul,
    "gelu": aiter.gelu_and_mul,
    "gelu_tanh": aiter.gelu_tanh_and_mul,
    "swiglu": aiter.swiglu_and_mul,
    "situv2": aiter.situv2_and_mul,
}


@pytest.fixture(params=variants("act_and_mul"), ids="-".join)
def row(request):
    with using("act_and_mul", *request.param):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_act_and_mul(case, row):
    x, options = cases.make(case), cases.options(case)
    out = case.get("out")
    got = aiter.act_and_mul(x, case.act, **options, dtype=dtype_of(out).name if out else None)
    assert got.dtype == dtype_of(out or case.dtype)
    want, scale = cases.reference(x, case.act, **options)
    assert_close(got, want, scale=scale)


def test_names():
    """The functions with AITER's names are act_and_mul."""
    x = cases.make(cases.CASES[2])
    bias = np.random.default_rng(4).standard_normal((3, 256)).astype(np.float32)
    ids = np.array([0, 2, 1, 7, 0])
    for name, function in FUNCTIONS.items():
        limit = 7.0 if name == "swiglu" else 0.0
        np.testing.assert_array_equal(function(x), aiter.act_and_mul(x, name, limit=limit))
        if name in ("silu", "gelu", "swiglu"):
            got = getattr(aiter, f"{name}_and_mul_bias")(x, ids, bias)
            want = aiter.act_and_mul(x, name, limit=limit, bias=bias, expert_ids=ids)
            np.testing.assert_array_equal(got, want)
            assert (got[3] == 0).all() and (got[0] != 0).any()


@pytest.mark.parametrize("half", ["gate", "up"])
def test_in_place(half, row):
    case = cases.CASES[0]
    x = cases.make(case)
    want, scale = cases.reference(x, case.act, 0.0)
    d = x.shape[-1] // 2
    other = x[:, d:] if half == "gate" else x[:, :d]
    before = other.copy()
    out = x[:, :d] if half == "gate" else x[:, d:]
    assert aiter.silu_and_mul(x, out=out) is out
    assert_close(out, want, scale=scale)
    np.testing.assert_array_equal(other, before)


def test_strided_rows(row):
    big = np.random.default_rng(1).standard_normal((6, 5, 200)).astype(np.float32)
    x = big[:, 1:4, 7:107]
    out = np.full((6, 4, 64), 7, np.float32)
    aiter.silu_and_mul(x, out=out[:, :3, 5:55])
    want, scale = cases.reference(x, "silu", 0)
    assert_close(out[:, :3, 5:55], want, scale=scale)
    assert (out[:, 3] == 7).all() and (out[:, :, :5] == 7).all() and (out[:, :, 55:] == 7).all()


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_beyond_the_caches(dtype):
    """Outputs that are written past the caches, at every alignment of their rows."""
    d = (1 << 20) + 3
    x = np.empty((20 if dtype == "fp32" else 36, 2 * d), dtype_of(dtype))
    x[...] = np.random.default_rng(2).standard_normal((1, 2 * d)).astype(x.dtype)
    with using(threads=2):
        got = aiter.silu_and_mul(x)
    small = aiter.silu_and_mul(x[:1])  # not beyond
    for row in got:
        np.testing.assert_array_equal(row, small[0])


def test_the_bound_would_notice():
    """Negative control: a gain of 1 %, and SiLU for GELU, must fail."""
    x = cases.make(cases.Case("", act="silu", shape=(4, 256), dtype="fp32"))
    want, scale = cases.reference(x, "silu", 0)
    for wrong in (want * 1.01, cases.reference(x, "gelu", 0)[0]):
        with pytest.raises(AssertionError):
            assert_close(wrong.astype(np.float32), want, scale=scale)


def test_every_option_matters():
    x = cases.make(cases.Case("", act="silu", shape=(4, 256), dtype="fp32"))
    bias = np.random.default_rng(5).standard_normal((2, 256)).astype(np.float32)
    results = [f(x) for f in FUNCTIONS.values()]
    results += [aiter.act_and_mul(x, a, limit=1.0) for a in FUNCTIONS]
    results += [
        aiter.swiglu_and_mul(x, limit=0),
        aiter.situv2_and_mul(x, beta=2),
        aiter.situv2_and_mul(x, linear_beta=2),
        aiter.act_and_mul(x, interleaved=True),
        aiter.act_and_mul(x, bias=bias[:1]),
        aiter.act_and_mul(x, bias=bias, expert_ids=np.array([0, 1, 1, 0])),
        aiter.act_and_mul(x, weights=np.full((4, 1), 2, np.float32)),
        aiter.act_and_mul(x, weights=bias[[0, 1, 0, 1], :128]),
    ]
    for i, a in enumerate(results):
        assert all((a != b).any() for b in results[:i])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"x": np.ones((2, 7), np.float32)}, "x has last extent 7, expected an even one"),
        ({"x": np.ones((2, 8))}, "x has dtype float64, expected float32, float16 or bfloat16"),
        ({"x": np.float32(1).reshape(())}, "x has rank 0, expected at least 1"),
        ({"x": np.ones((2, 16), np.float32)[:, ::2]}, "x has last stride 2, expected 1"),
        ({"x": np.ones((3, 8), np.float32)}, "y has extent 2 in dimension 0, expected 3"),
        ({"x": np.ones((2, 8), np.float16)}, "y has dtype float32, expected x's float16"),
        ({"limit": -1.0}, "opts.limit is -1, expected at least 0"),
        ({"limit": float("nan")}, "opts.limit is nan, expected at least 0"),
        ({"beta": 0.0}, "opts.beta is 0, expected a number above 0"),
        ({"linear_beta": float("inf")}, "opts.linear_beta is inf, expected a number above 0"),
        ({"bias": np.ones((3, 8), np.float32)}, "expert_ids is NULL, expected a tensor, as bias"),
        ({"bias": np.ones((1, 7), np.float32)}, r"bias has shape \(1, 7\), expected \(any, 8\)"),
        ({"bias": np.ones((1, 8), np.float16)}, "bias has dtype float16, expected float32"),
        ({"expert_ids": np.zeros(2, np.int32)}, "bias is NULL, expected a tensor"),
        (
            {"bias": np.ones((1, 8), np.float32), "expert_ids": np.zeros(3, np.int32)},
            "expert_ids has extent 3 in dimension 0, expected x's 2",
        ),
        (
            {"bias": np.ones((1, 8), np.float32), "expert_ids": np.zeros(2, np.int8)},
            "expert_ids has dtype int8, expected int32 or int64",
        ),
        ({"weights": np.ones((2, 3), np.float32)}, "weights has extent 3 in dimension 1, expected"),
        ({"weights": np.ones((2, 4), np.float16)}, "weights has dtype float16, expected x's"),
    ],
)
def test_bad_input(arguments, message):
    out = np.full((2, 4), 7, np.float32)
    call = {"x": np.ones((2, 8), np.float32), "out": out} | arguments
    with pytest.raises(ValueError, match="act_and_mul: " + message):
        aiter.act_and_mul(**call)
    assert (out == 7).all()


def test_unknown_activation():
    with pytest.raises(ValueError, match="activation is 'relu', expected one of silu, gelu"):
        aiter.act_and_mul(np.ones((2, 8), np.float32), "relu")


def test_explain():
    text = aiter.explain(aiter.gelu_and_mul, np.ones((2, 8), np.float32))
    assert text.startswith("act_and_mul: cpu_simd on cpu (")
