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


QUANTS = {
    "token-int8": (aiter.Quant("int8"), (1, 0)),
    "token-fp8": (aiter.Quant("float8_e4m3fnuz"), (1, 0)),
    "group-fp8": (aiter.Quant("float8_e4m3fn", 128), (1, 128)),
    "mxfp4": (
        aiter.Quant("float4_e2m1fnx2", 32, scale_dtype="float8_e8m0fnu", round_mode=2),
        (1, 32),
    ),
    "shuffled": (
        aiter.Quant("float4_e2m1fnx2", 32, scale_dtype="float8_e8m0fnu", scale_layout="shuffled"),
        (1, 32),
    ),
}


@pytest.mark.parametrize("quant, group", QUANTS.values(), ids=QUANTS)
@pytest.mark.parametrize(
    "shape, dtype, options",
    [
        ((5, 512), "bf16", {}),
        ((3, 2 * 1184), "fp32", {"limit": 2.0}),
        ((9, 2 * 72), "fp16", {"interleaved": True}),
        ((2, 3, 256), "bf16", {"experts": True, "weights": True}),
        ((1, 2 * 9216), "bf16", {}),
        ((9, 2 * 72), "fp16", {"activation": "gelu_tanh"}),
        ((3, 2 * 1192), "bf16", {"activation": "swiglu", "limit": 1.0}),
        ((3, 2 * 256), "bf16", {"activation": "gelu"}),
        ((0, 64), "bf16", {}),
    ],
)
def test_quantized(quant, group, shape, dtype, options, row):
    """Codes and scales are those of aiter.quantize on the fp32 result of the same row."""
    x = cases.make(cases.Case("", act="silu", shape=shape, dtype=dtype))
    options = dict(options)
    rng = np.random.default_rng(6)
    if options.pop("experts", False):
        options["bias"] = rng.standard_normal((3, shape[-1])).astype(np.float32)
        options["expert_ids"] = rng.integers(-1, 4, shape[:-1])
    if options.pop("weights", False):
        options["weights"] = rng.standard_normal((*shape[:-1], 1)).astype(np.float32)
    codes, scale = aiter.act_and_mul(x, **options, quant=quant)
    y = aiter.act_and_mul(x.astype(np.float32), **options)
    want, want_scale = aiter.quantize(
        y,
        group,
        quant.quant_dtype,
        scale_dtype=quant.scale_dtype,
        scale_layout=quant.scale_layout,
        round_mode=quant.round_mode,
    )
    np.testing.assert_array_equal(codes.view(np.uint8), want.view(np.uint8))
    if quant.scale_layout == "strided":
        np.testing.assert_array_equal(scale.view(np.uint8), want_scale.view(np.uint8))
    elif x.size:
        options = {"quant_dtype": quant.quant_dtype, "scale_dtype": quant.scale_dtype}
        options["scale_layout"] = "shuffled"
        np.testing.assert_array_equal(
            aiter.dequantize(codes, scale, group, **options),
            aiter.dequantize(want, want_scale, group, **options),
        )


def test_quantized_with_a_given_scale(row):
    x = cases.make(cases.Case("", act="silu", shape=(5, 200), dtype="bf16"))
    scale = np.array([0.05], np.float32)
    y = aiter.silu_and_mul(x.astype(np.float32))
    want = aiter.quantize(y, (0, 0), "float8_e4m3fn", scale=scale)
    for function in (
        aiter.scaled_silu_and_mul,
        aiter.fused_silu_mul_fp8_per_tensor_static_quant,
    ):
        got = function(x, scale)
        np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


def test_names_of_quantizing_functions():
    x = cases.make(cases.Case("", act="silu", shape=(5, 512), dtype="bf16"))

    def same(got, **options):
        want = aiter.act_and_mul(x, **options)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8))

    mx = {"scale_dtype": "float8_e8m0fnu"}
    fp4 = "float4_e2m1fnx2"
    same(aiter.silu_and_mul_quant(x, 64, limit=1), limit=1, quant=aiter.Quant("float8_e4m3fn", 64))
    same(aiter.silu_and_mul_quant(x, 256), quant=aiter.Quant("float8_e4m3fn"))
    same(aiter.silu_and_mul_quant(x, 32, fp4), quant=aiter.Quant(fp4, 32, **mx))
    same(
        aiter.act_mul_and_mxfp4_quant(x, "gelu"),
        activation="gelu",
        quant=aiter.Quant(fp4, 32, **mx, round_mode=2),
    )
    same(
        aiter.act_mul_and_fp8_group_quant(x, "gelu_tanh", 128),
        activation="gelu_tanh",
        quant=aiter.Quant("float8_e4m3fn", 128),
    )
    weights = np.full((5, 1), 2, np.float32)
    same(
        aiter.fused_clamp_act_mul(x, 2.0, weights=weights, dtype_quant="float8_e4m3fn"),
        limit=2.0,
        weights=weights,
        quant=aiter.Quant("float8_e4m3fn", 128),
    )
    same(
        aiter.fused_clamp_act_mul(x, 0, "gelu", None, "float8_e4m3fn", 32, "ue8m0"),
        activation="gelu",
        quant=aiter.Quant("float8_e4m3fn", 32, **mx),
    )
    np.testing.assert_array_equal(
        aiter.fused_clamp_act_mul(x, 1.5, weights=weights),
        aiter.act_and_mul(x, limit=1.5, weights=weights),
    )
    for call, message in (
        (lambda: aiter.silu_and_mul_quant(x, 64, shuffle_scale=True), "is for fp4"),
        (lambda: aiter.act_mul_and_mxfp4_quant(x, "silu", "odd"), "scaling_mode is 'odd'"),
        (lambda: aiter.fused_clamp_act_mul(x, dtype_quant="int8", scale_dtype_fmt="x"), "fmt is"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


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
