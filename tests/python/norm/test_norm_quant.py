"""norm_quant: the norm within its bound, and of that norm the codes exactly."""

import mmap

import aiter
import cases_norm_quant as cases
import cases_quantize
import numpy as np
import pytest
from aiter import Quant
from aiter.testing import assert_close, assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("norm_quant"), ids="-".join)
def row(request):
    with using("norm_quant", *request.param):
        yield


def assert_bits(got, want, what):
    assert got.dtype == want.dtype and got.shape == want.shape, what
    got, want = (np.ascontiguousarray(a).view(np.uint8) for a in (got, want))
    np.testing.assert_array_equal(got, want, err_msg=what)


def check_codes(codes, scale, v, smooth, quant):
    """codes and scale are exactly those of the fp32 numbers v (..., columns)."""
    want, want_scale = cases_quantize.reference(
        np.where(np.isnan(v), np.float32(np.nan), v),  # of whatever sign
        (0, 0) if quant.scale is not None and quant.scale.shape == (1,) else (1, quant.group_size),
        quant.quant_dtype,
        quant.scale,
        quant.scale_dtype,
        smooth,
        scale_ub=np.inf if quant.scale_ub is None else quant.scale_ub,
        round_mode=quant.round_mode,
        global_scale=quant.global_scale,
    )
    assert_bits(codes, want.reshape(codes.shape), "codes")
    if quant.scale is not None:
        return
    if quant.scale_layout == "shuffled":
        want_scale, padding = cases_quantize.shuffle(want_scale.reshape(-1, want_scale.shape[-1]))
        scale = np.where(padding, want_scale, scale)
    assert_bits(scale, want_scale.reshape(scale.shape), "scale")


def call(x, options, **more):
    """The results of norm_quant by name."""
    result = list(aiter.norm_quant(x, **options, **more))
    named = {"codes": result.pop(0)}
    named["scale"] = None if options["quant"].scale is not None else result.pop(0)
    if "unquantized" in more or "out_unquantized" in more:
        named["v"] = result.pop(0)
    if "residual_in" in options:
        named["residual_out"] = result.pop(0)
    assert not result
    return named


@pytest.mark.parametrize("case", CASES, ids=str)
def test_norm_quant(case, row):
    x, options = cases.make(case)
    got = call(x, options, unquantized="float32")
    want, scale, residual_out = cases.norm(x, **options)
    if residual_out is not None:
        assert_equal(got["residual_out"], residual_out)
    v = got["v"]
    assert v.dtype == np.float32 and v.shape == x.shape
    if not x.size:
        return
    assert_close(v, want, terms=x.shape[-1], scale=np.where(np.isfinite(scale), scale, 0))
    rows = got["codes"].shape[:-1]
    check_codes(got["codes"], got["scale"], v.reshape(*rows, -1), options.get("smooth"),
                options["quant"])  # fmt: skip
    # Without the copy, other kernels may do it.
    for name, result in call(x, options).items():
        if result is not None and options["quant"].scale_layout != "shuffled":
            assert_bits(result, got[name], f"{name} alone")


@pytest.mark.parametrize("kind", cases.KINDS)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_results_do_not_depend_on_what_else_is_asked_for(kind, dtype, row):
    x, options = cases.make(cases.Case("", shape=(5, 128), kind=kind, dtype=dtype, residual=True))
    all_ = call(x, options, unquantized="float32")
    alone = call(x, options)
    rounded = call(x, options, out_unquantized=np.empty_like(x))
    for name in ("codes", "scale", "residual_out"):
        assert_bits(alone[name], all_[name], name)
        assert_bits(rounded[name], all_[name], name)
    assert_bits(rounded["v"], all_["v"].astype(x.dtype), "v")


def test_in_place_residual_and_given_outputs(row):
    x, options = cases.make(cases.Case("", shape=(5, 96), residual=True))
    want = call(x, options)
    out, out_scale = np.zeros((5, 96), np.int8), np.zeros((5, 1), np.float32)
    residual = options["residual_in"]
    got = call(x, options, out=out, out_scale=out_scale, residual_out=residual)
    assert got["codes"] is out and got["scale"] is out_scale and got["residual_out"] is residual
    for name, result in want.items():
        assert_bits(got[name], result, name)


def test_column_major_scales(row):
    for flatten, shape, groups in ((False, (6, 256), 2), (True, (6, 3, 128), 3)):
        case = cases.Case("", shape=shape, quant=Quant(cases.FP8, 128), flatten=flatten)
        x, options = cases.make(case)
        want = call(x, options)
        scale = np.empty((groups, 6), np.float32).T
        got = call(x, options, out_scale=scale)
        assert got["scale"] is scale
        np.testing.assert_array_equal(scale, want["scale"])
        assert_bits(got["codes"], want["codes"], "codes")


def test_strided_rows_and_neighbours(row):
    """Slices of wider arrays; what lies between is neither read nor written."""
    rng = np.random.default_rng(1)
    wide = rng.standard_normal((5, 3, 80)).astype(np.float32)
    codes = np.full((5, 96), 77, np.int8)
    x = wide[:, 1, :64]
    want = call(x.copy(), {"quant": Quant("int8")})
    wide[:, 0], wide[:, 2], wide[:, 1, 64:] = np.nan, np.inf, np.nan
    got = call(x, {"quant": Quant("int8")}, out=codes[:, 16:80])
    assert_bits(got["codes"], want["codes"], "codes")
    assert_bits(got["scale"], want["scale"], "scale")
    assert (codes[:, :16] == 77).all() and (codes[:, 80:] == 77).all()


def test_every_argument_matters(row):
    case = cases.Case("", shape=(4, 64), kind="layer", dtype="fp32", residual=True, gate=True,
                      smooth=True, x_bias=True)  # fmt: skip
    x, options = cases.make(case)
    plain = call(x, options)
    for change in (
        {"w": None},
        {"b": None},
        {"x_bias": None},
        {"residual_in": x},
        {"gate": x},
        {"smooth": None},
        {"eps": 1.0},
        {"quant": Quant("int8", 32)},
        {"quant": Quant("int8", scale_ub=0.01)},
    ):
        got = call(x, options | change)
        assert not np.array_equal(got["codes"], plain["codes"]), change
    options = {"quant": Quant("int8"), "w": options["w"]}
    plain = call(x, options)
    for change in ({"kind": "layer"}, {"gemma_norm": True}):
        assert not np.array_equal(call(x, options | change)["codes"], plain["codes"]), change


def test_rows_do_not_depend_on_batch_or_threads():
    x, options = cases.make(cases.Case("", shape=(64, 96), quant=Quant(cases.FP8, 32)))
    whole = call(x, options)
    alone = call(x[17:18], options)
    assert_bits(alone["codes"], whole["codes"][17:18], "codes")
    with using(threads=3):
        assert_bits(call(x, options)["codes"], whole["codes"], "codes")


@pytest.mark.parametrize("norm", [aiter.rms_norm, aiter.layer_norm, aiter.norm_quant])
def test_rows_beyond_32_bits(norm):
    """Rows that are more than 2^31 elements apart, of sparse memory."""
    stride, width = (1 << 31) + 64, 96
    near = np.random.default_rng(5).standard_normal((3, width)).astype(np.float16)
    size = 2 * (2 * stride + width)
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | 0x4000) as memory:  # NORESERVE
        flat = np.frombuffer(memory, np.float16)
        far = np.lib.stride_tricks.as_strided(flat, near.shape, (2 * stride, 2))
        far[...] = near
        got, want = norm(far), norm(near)
        for g, n in zip(got, want, strict=True) if isinstance(got, tuple) else [(got, want)]:
            assert_bits(g, n, "result")
        if norm is not aiter.norm_quant:
            norm(far, out=far)
            assert_bits(far.copy(), want, "in place")
        del flat, far


def test_named_functions_are_what_they_name():
    x, options = cases.make(cases.Case("", shape=(5, 256), kind="layer", residual=True,
                                       smooth=True, x_bias=True))  # fmt: skip
    w, b, bias, r, s = (options[n] for n in ("w", "b", "x_bias", "residual_in", "smooth"))
    rms = {"w": w, "eps": 1e-5}
    layer = {"w": w, "b": b, "kind": "layer", "eps": 1e-5, "x_bias": bias}
    fp8, mxfp4 = Quant(cases.FP8), cases.MXFP4
    shuffled = mxfp4._replace(scale_layout="shuffled")
    before = np.empty_like(x)
    nq = aiter.norm_quant
    z = x.reshape(5, 2, 128)
    for got, want in [
        (aiter.rmsnorm2d_fwd_with_dynamicquant(x, w, 1e-5), nq(x, **rms)),
        (aiter.rmsnorm2d_fwd_with_smoothquant(x, s, w, 1e-5), nq(x, **rms, smooth=s)),
        (
            aiter.rmsnorm2d_fwd_with_add_dynamicquant(x, r, w, 1e-5, quant_dtype=cases.FP8),
            nq(x, **rms, quant=fp8, residual_in=r),
        ),
        (
            aiter.rmsnorm2d_fwd_with_add_smoothquant(x, r, s, w, 1e-5, before),
            nq(x, **rms, smooth=s, residual_in=r, unquantized="bfloat16"),
        ),
        (
            aiter.rmsnorm_quant(x, w, 1e-5, 32, quant_dtype=cases.FP4),
            nq(x, **rms, quant=mxfp4),
        ),
        (
            aiter.add_rmsnorm_quant(x, r, w, 1e-5, 32, True, True, quant_dtype=cases.FP4),
            nq(x, **rms, quant=shuffled, residual_in=r, gemma_norm=True),
        ),
        (aiter.layernorm2d_fwd_with_dynamicquant(x, w, b, 1e-5, bias), nq(x, **layer)),
        (aiter.layernorm2d_fwd_with_smoothquant(x, s, w, b, 1e-5, bias), nq(x, **layer, smooth=s)),
        (
            aiter.layernorm2d_fwd_with_add_dynamicquant(x, r, w, b, 1e-5, bias),
            nq(x, **layer, residual_in=r),
        ),
        (
            aiter.layernorm2d_fwd_with_add_smoothquant(x, r, s, w, b, 1e-5, bias),
            nq(x, **layer, residual_in=r, smooth=s),
        ),
        (
            aiter.gated_rmsnorm_fp8_group_quant(z, z, w[:128], 1e-5),
            nq(z, w[:128], None, Quant(cases.FP8, 128), eps=1e-5, gate=z, flatten=True),
        ),
        (
            aiter.gated_rmsnorm_fp8_per_token_quant(z, z, w[:128], 1e-5),
            nq(z, w[:128], None, fp8, eps=1e-5, gate=z, flatten=True),
        ),
    ]:
        assert len(got) == len(want)
        for i, (a, b_) in enumerate(zip(got, want, strict=True)):
            if a.shape == (256, 8):  # shuffled scales, whose padding nobody writes
                a, b_ = a.view(np.uint8)[:0], b_.view(np.uint8)[:0]
            assert_bits(a, b_, f"result {i}")


def test_the_comparison_would_notice():
    """Negative control: quantizing the rounded norm gives other codes, and one code is seen."""
    x, options = cases.make(cases.Case("", shape=(16, 256), quant=Quant("int8")))
    got = call(x, options, unquantized="float32")
    with pytest.raises(AssertionError):
        check_codes(got["codes"], got["scale"], got["v"].astype(x.dtype), None, options["quant"])
    got["codes"][3, 5] ^= 1
    with pytest.raises(AssertionError):
        check_codes(got["codes"], got["scale"], got["v"], None, options["quant"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"w": np.ones(7, np.float32)}, r"w has shape \(7,\), expected \(8,\)"),
        ({"b": np.ones(8, np.float32)}, "b is given, expected NULL for an RMS norm"),
        ({"kind": "layer", "gemma_norm": True}, "gemma and model_sensitive are 1 and 0, expected"),
        ({"eps": -1.0}, "opts.eps is -1, expected at least 0"),
        ({"gate": np.ones((2, 4), np.float32)}, r"gate has shape \(2, 4\), expected x's \(2, 8\)"),
        ({"smooth": np.ones(4, np.float32)}, r"smooth has shape \(4,\), expected \(8,\)"),
        ({"residual_in": np.ones((2, 4), np.float32)}, "residual_in has shape"),
        ({"residual_out": np.ones((2, 8), np.float32)}, "residual_in is NULL, expected a tensor"),
        ({"out_unquantized": np.ones((2, 8), np.float16)}, "unquantized has dtype float16"),
        ({"quant": Quant("int8", 7)}, "group_cols is 7, expected 0"),
        ({"quant": Quant("int8", scale_dtype=cases.E8M0)}, "y_scale has dtype float8_e8m0fnu"),
        ({"x": np.ones((2, 8))}, "x has dtype float64, expected float32, float16 or bfloat16"),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    out = np.full((2, 8), 7, np.int8)
    arguments = {"x": np.ones((2, 8), np.float32), "out": out} | arguments
    with pytest.raises(ValueError, match="norm_quant: .*" + message):
        aiter.norm_quant(**arguments)
    assert (out == 7).all()
