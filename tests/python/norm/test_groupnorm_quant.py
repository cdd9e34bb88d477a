"""groupnorm_quant: the norm and the moments within their bounds, and of that norm the codes exactly."""

import aiter
import cases_groupnorm
import cases_groupnorm_quant as cases
import numpy as np
import pytest
from aiter import Quant
from aiter.testing import assert_close, assert_equal, using, variants
from test_norm_quant import assert_bits, check_codes

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("groupnorm_quant"), ids="-".join)
def row(request):
    with using("groupnorm_quant", *request.param):
        yield


def call(x, options, **more):
    """The results of groupnorm_quant by name."""
    arguments = options | more
    result = list(aiter.groupnorm_quant(x, **arguments))
    named = {"codes": result.pop(0)}
    named["scale"] = None if arguments["quant"].scale is not None else result.pop(0)
    if "unquantized" in more or "out_unquantized" in more:
        named["v"] = result.pop(0)
    if "residual_in" in arguments:
        named["residual_out"] = result.pop(0)
    if "return_moments" in more or "moments" in more:
        named["moments"] = result.pop(0)
    assert not result
    return named


@pytest.mark.parametrize("case", CASES, ids=str)
def test_groupnorm_quant(case, row):
    x, options = cases.make(case)
    got = call(x, options, unquantized="float32", return_moments=True)
    want, scale, residual_out = cases.norm(x, **options)
    if residual_out is not None:
        assert_equal(got["residual_out"], residual_out)
    v = got["v"]
    assert v.dtype == np.float32 and v.shape == x.shape
    assert got["moments"].shape == (x.shape[0], case.groups, 2)
    if not x.size:
        return
    terms = x.size // len(x) // case.groups
    assert_close(v, want, terms=terms, scale=np.where(np.isfinite(scale), scale, 0))
    names = ("num_groups", "eps", "channels_last")
    numbers = x if residual_out is None else residual_out
    moments, scale = cases.moments(numbers, **{n: options[n] for n in names})
    if np.isfinite(moments).all():
        assert_close(got["moments"], moments, terms=terms, scale=scale)
    smooth = options.get("smooth")
    smoothed = v if smooth is None else v * cases.factors(x, smooth, options["channels_last"])
    check_codes(got["codes"], got["scale"], smoothed, None, options["quant"])
    # Without what else was asked for, other kernels may do it.
    for name, result in call(x, options).items():
        if result is not None and options["quant"].scale_layout != "shuffled":
            assert_bits(result, got[name], f"{name} alone")


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_given_results(dtype, last, row):
    """residual_out may be x or residual_in; the copy is v, rounded."""
    case = cases.Case("", shape=(2, 16, 3, 16), groups=2, dtype=dtype, last=last, residual=True)
    x, options = cases.make(case)
    want = call(x, options, unquantized="float32", return_moments=True)
    moments, copy = np.empty((2, 2, 2), np.float32), np.empty_like(x)
    out, out_scale = np.zeros(x.shape, np.int8), np.zeros((*x.shape[:-1], 1), np.float32)
    for residual_out in ("residual_in", "x"):
        x, options = cases.make(case)
        sums = x if residual_out == "x" else options["residual_in"]
        got = call(x, options, out=out, out_scale=out_scale, residual_out=sums,
                   out_unquantized=copy, moments=moments)  # fmt: skip
        assert got["codes"] is out and got["scale"] is out_scale and got["v"] is copy
        assert got["residual_out"] is sums and got["moments"] is moments
        for name in ("codes", "scale", "residual_out", "moments"):
            assert_bits(got[name], want[name], name)
        assert_bits(copy, want["v"].astype(x.dtype), "v")


def test_a_scale_for_each_channel(row):
    """(batch, channels, places): rows are channels of images; and column-major scales."""
    case = cases.Case("", shape=(2, 8, 48), groups=2, dtype="fp16", last=0)
    x, options = cases.make(case)
    assert call(x, options)["scale"].shape == (2, 8, 1)
    options["quant"] = Quant(cases.FP8, 16)
    want = call(x, options)
    scale = np.empty((3, 2, 8), np.float32).transpose(1, 2, 0)
    got = call(x, options, out_scale=scale)
    np.testing.assert_array_equal(scale, want["scale"])
    assert_bits(got["codes"], want["codes"], "codes")


def test_strided_codes(row):
    x, options = cases.make(cases.Case("", shape=(2, 16, 3, 4), groups=4, dtype="bf16", last=1))
    want = call(x, options)
    wide = np.full((2, 3, 4, 24), 77, np.int8)
    got = call(x, options, out=wide[..., 5:21])
    assert_bits(got["codes"], want["codes"], "codes")
    assert (wide[..., :5] == 77).all() and (wide[..., 21:] == 77).all()


@pytest.mark.parametrize("last", [False, True])
def test_groups_and_images_do_not_mix(last, row):
    x = np.random.default_rng(0).standard_normal((2, 16, 8, 16)).astype(np.float32)
    options = {"num_groups": 2, "channels_last": last, "quant": Quant(cases.FP8, 16)}
    clean = call(x, options, return_moments=True)
    x[(0, 3, 3, 0) if last else (0, 0, 3, 3)] = np.nan
    got = call(x, options, return_moments=True)
    assert_bits(got["codes"][1], clean["codes"][1], "the other image")
    others = np.s_[0, ..., 8:] if last else np.s_[0, 8:]
    if not last:  # where scales are of both groups' channels
        assert_bits(got["codes"][others], clean["codes"][others], "the other group")
    assert_bits(got["moments"][0, 1], clean["moments"][0, 1], "the other group's moments")
    assert np.isnan(got["moments"][0, 0]).all()
    nan = got["codes"][0, ..., :8] if last else got["codes"][0, :8]
    assert np.isnan(nan.astype(np.float32)).all()


def test_images_do_not_depend_on_batch(row):
    """Nor on how many rows a thread takes: of many, threads take several, across images."""
    x = np.random.default_rng(2).standard_normal((3, 3301, 520)).astype(np.float16)
    options = {"num_groups": 4, "channels_last": True, "quant": Quant(cases.FP8)}
    whole = call(x, options)
    for i in range(3):
        alone = call(x[i : i + 1], options)
        for name in ("codes", "scale"):
            assert_bits(alone[name][0], whole[name][i], name)


def test_every_argument_matters(row):
    case = cases.Case("", shape=(2, 16, 16, 4), groups=2, dtype="fp32", last=1, residual=True,
                      smooth=True)  # fmt: skip
    x, options = cases.make(case)
    plain = call(x, options)
    for change in (
        {"num_groups": 4},
        {"weight": None},
        {"bias": None},
        {"residual_in": x},
        {"smooth": None},
        {"eps": 1.0},
        {"silu": True},
        {"channels_last": False},
        {"quant": Quant("int8", 16, scale_ub=0.01)},
        {"quant": Quant("int8", scale_ub=0.01)},
    ):
        got = call(x, options | change)
        assert not np.array_equal(got["codes"], plain["codes"]), change


@pytest.mark.parametrize("last", [False, True])
def test_many_threads_agree(last):
    x = np.random.default_rng(3).standard_normal((2, 64, 32, 64)).astype(np.float32)
    options = {"num_groups": 4, "channels_last": last, "quant": Quant(cases.FP8, 32)}
    with using(threads=1):
        one = call(x, options, return_moments=True)
    with using(threads=3):
        for name, result in call(x, options, return_moments=True).items():
            assert_bits(result, one[name], name)


def test_the_comparison_would_notice():
    """Negative control: quantizing the rounded norm gives other codes, and a gain of 1 % is seen."""
    case = cases.Case("", shape=(1, 16, 16, 16), groups=4, dtype="bf16", last=1)
    x, options = cases.make(case)
    got = call(x, options, unquantized="float32")
    with pytest.raises(AssertionError):
        check_codes(got["codes"], got["scale"], got["v"].astype(x.dtype), None, options["quant"])
    want, scale, _ = cases.norm(x, **options)
    with pytest.raises(AssertionError):
        assert_close((got["v"] * 1.01).astype(np.float32), want, terms=1024, scale=scale)


X = np.ones((2, 8, 4), np.float32)


@pytest.mark.parametrize(
    "arguments, message",
    [
        *cases_groupnorm.BAD_INPUT,
        ({"smooth": np.ones(4, np.float32)}, r"smooth has shape \(4,\), expected \(8,\)"),
        ({"residual_in": np.ones((2, 4), np.float32)}, "residual_in has shape"),
        ({"residual_out": np.ones_like(X)}, "residual_in is NULL, expected a tensor"),
        ({"out_unquantized": np.ones((2, 8, 4), np.float16)}, "unquantized has dtype float16"),
        ({"out_unquantized": X}, "unquantized is in the memory of x or a residual"),
        ({"moments": np.ones((2, 2), np.float32)}, r"moments has shape \(2, 2\)"),
        ({"quant": Quant("int8", 7)}, "group_cols is 7, expected 0"),
        ({"quant": Quant("int8", scale_dtype="float8_e8m0fnu")}, "y_scale has dtype float8_e8m0fnu"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_input(arguments, message):
    out = np.full((2, 8, 4), 7, np.int8)
    arguments = {"x": X, "num_groups": 2, "out": out} | arguments
    with pytest.raises(ValueError, match="groupnorm_quant: .*" + message):
        aiter.groupnorm_quant(**arguments)
    assert (out == 7).all()
