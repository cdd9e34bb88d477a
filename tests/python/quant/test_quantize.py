"""quantize: codes and scales equal the reference bit by bit, for every row and instruction set."""

import aiter
import cases_quantize as cases
import ml_dtypes
import numpy as np
import pytest
from aiter.testing import using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("quantize"), ids="-".join)
def row(request):
    with using("quantize", *request.param):
        yield


def assert_bits(got, want, what):
    assert got.dtype == want.dtype and got.shape == want.shape, what
    np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8), err_msg=what)


def unpack(result, options):
    return (result, options["scale"]) if "scale" in options else result


@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact(case, row):
    x, options = cases.make(case)
    codes, scale = unpack(aiter.quantize(x, **options), options)
    want_codes, want_scale = cases.reference(x, **options)
    n = case.get("num_rows")
    if case.get("layout") == "shuffled":
        want_scale, padding = cases.shuffle(want_scale.reshape(-1, want_scale.shape[-1]))
        scale = np.where(padding, want_scale, scale)
    if n is not None:
        n *= case.get("factor", 1)
        codes = codes[:n]
        scale = scale[:n] if scale.shape != (1,) else scale
        want_scale = want_scale.reshape(scale.shape) if n else scale
    if x.size:
        assert_bits(scale, want_scale.reshape(scale.shape), "scale")
    assert_bits(np.ascontiguousarray(codes), want_codes, "codes")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["fp16", "bf16"])
def test_mxfp4_of_all_numbers_of_16_bits(dtype, row):
    """Numbers of 16 bits times powers of two may be encoded two at a time: all are, by many scales."""
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    x = np.where(np.isnan(x.astype(np.float32)), np.abs(x), x).reshape(-1, 128)  # NaN has no sign
    rng = np.random.default_rng(0)
    scales = [rng.permutation(512).reshape(512, 1) % 255 for _ in range(2)]
    near_one = [np.full((512, 1), 127 + e) for e in (-2, 0, 1)]
    for scale in (*scales, *near_one):
        scale = scale.astype(np.uint8).view(ml_dtypes.float8_e8m0fnu)
        options = {"group": (1, 0), "quant_dtype": cases.FP4, "scale": scale}
        options["scale_dtype"] = cases.E8M0
        want, _ = cases.reference(x, **options)
        assert_bits(aiter.quantize(x, **options), want, "a row a scale")
        groups = np.repeat(scale, 4, axis=1)
        got = aiter.quantize(x, **options | {"group": (1, 32), "scale": groups})
        assert_bits(got, want, "a group a scale")


def test_padding_rows_are_neither_read_nor_written(row):
    x = np.ones((4, 8), np.float32)
    x[2:] = np.nan
    out, scale = np.full((4, 8), 77, np.int8), np.full((4, 1), 7, np.float32)
    aiter.quantize(x, num_rows=np.array([2], np.int32), out=out, out_scale=scale)
    assert (out[:2] == 127).all() and (out[2:] == 77).all() and (scale[2:] == 7).all()
    codes, _ = aiter.quantize(x, (0, 0), num_rows=np.array([2], np.int32), out=out)
    assert codes is out and (out[2:] == 77).all()


def test_a_map_chooses_the_smooth_scale_of_a_row(row):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((7, 48)).astype(np.float32)
    smooth = rng.random((3, 48)).astype(np.float32)
    which = np.array([2, 0, -1, 1, 3, 2, 0], np.int32)
    out, scale = np.full((7, 48), 77, np.int8), np.full((7, 1), 7, np.float32)
    aiter.smoothquant(x, smooth, smooth_scale_map=which, out=out, out_scale=scale)
    for r, expert in enumerate(which):
        if 0 <= expert < 3:
            codes, one = cases.reference(x[r : r + 1], (1, 0), "int8", smooth=smooth[expert])
            np.testing.assert_array_equal(out[r], codes[0])
            assert scale[r] == one[0]
        else:
            assert (out[r] == 77).all() and scale[r] == 7  # passed over


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn"])
def test_moe_smoothquant(dtype, row):
    rng = np.random.default_rng(6)
    x = rng.standard_normal((5, 32)).astype(ml_dtypes.bfloat16)
    smooth = rng.random((4, 32)).astype(np.float32)
    ids = rng.integers(0, 4, (5, 2)).astype(np.int32)
    codes, scale = aiter.moe_smoothquant(x, smooth, ids, dtype)
    assert codes.shape == (2, 5, 32) and scale.shape == (2, 5, 1)
    for k in range(2):
        for t in range(5):
            want = cases.reference(x[t : t + 1], (1, 0), dtype, smooth=smooth[ids[t, k]])
            assert_bits(codes[k, t : t + 1], want[0], "codes")
            assert scale[k, t] == want[1][0]


@pytest.mark.parametrize("shape", [(1,), ()])
def test_a_global_scale_in_memory_is_read_by_the_kernel(shape, row):
    """NVFP4: a number, or an array of one, which may change between calls."""
    x = np.random.default_rng(4).standard_normal((9, 128)).astype(np.float32)
    at = np.empty(shape, np.float32)
    for value in (0.01, 0.37, 2.0):
        at[...] = value
        got = aiter.dynamic_nvfp4_quant(x, at)
        want = cases.reference(x, (1, 16), cases.FP4, None, cases.E4M3, global_scale=value)
        for a, b in zip(got, want, strict=True):
            assert_bits(a, b, str(value))
    for value in (0.0, np.nan):  # means nothing, and does no harm
        at[...] = value
        codes, _ = aiter.dynamic_nvfp4_quant(x, at)
        assert (codes & 0x77 == 0).all()


def test_column_major_scales_and_strided_input(row):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 3, 128)).astype(np.float32)[:, 1]
    scale = np.empty((4, 6), np.float32).T
    codes, returned = aiter.quantize(x, (1, 32), "float8_e4m3fn", out_scale=scale)
    want_codes, want_scale = cases.reference(x, (1, 32), "float8_e4m3fn")
    assert returned is scale
    np.testing.assert_array_equal(scale, want_scale)
    assert_bits(codes, want_codes, "codes")


def test_a_row_does_not_depend_on_its_batch():
    x = np.random.default_rng(1).standard_normal((64, 96)).astype(np.float32)
    codes, scale = aiter.pertoken_quant(x)
    alone, scale_alone = aiter.pertoken_quant(x[17:18])
    np.testing.assert_array_equal(alone, codes[17:18])
    np.testing.assert_array_equal(scale_alone, scale[17:18])
    with using(threads=3):
        np.testing.assert_array_equal(aiter.pertoken_quant(x)[0], codes)


def test_named_quantizers_are_the_groups_they_name():
    x = np.random.default_rng(2).standard_normal((256, 256)).astype(ml_dtypes.bfloat16)
    fp8 = "float8_e4m3fn"
    for got, want in [
        (aiter.per_tensor_quant(x), aiter.quantize(x, (0, 0))),
        (aiter.pertoken_quant(x, quant_dtype=fp8), aiter.quantize(x, (1, 0), fp8)),
        (aiter.per_group_quant(x), aiter.quantize(x, (1, 128), fp8)),
        (aiter.per_block_quant(x), aiter.quantize(x, (128, 128), fp8)),
        (aiter.get_quant(aiter.QuantType.per_1x128)(x), aiter.quantize(x, (1, 128))),
        (aiter.per_1x32_mx_quant(x), cases.reference(x, (1, 32), cases.FP4, None, cases.E8M0)),
        (
            aiter.dynamic_mxfp4_quant(x),
            cases.reference(x, (1, 32), cases.FP4, None, cases.E8M0, round_mode=2),
        ),
        (
            aiter.dynamic_nvfp4_quant(x, 0.5),
            cases.reference(x, (1, 16), cases.FP4, None, cases.E4M3, global_scale=0.5),
        ),
    ]:
        for a, b in zip(got, want, strict=True):
            assert_bits(a, b, "named")


def test_the_comparison_would_notice():
    """Negative control: one code of a large array off by one."""
    x = np.random.default_rng(3).standard_normal((64, 64)).astype(np.float32)
    codes, _ = aiter.quantize(x)
    want, _ = cases.reference(x, (1, 0), "int8")
    want[5, 7] += 1
    with pytest.raises(AssertionError):
        assert_bits(codes, want, "codes")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"group": (-1, 0)}, "group_rows and group_cols are -1 and 0"),
        ({"scale_ub": 0.0}, "amax_bound is 0, expected more than 0"),
        ({"round_mode": 9}, "mx_round is 9, expected 0 to 4"),
        ({"scale_dtype": "float8_e8m0fnu"}, "scale has dtype float8_e8m0fnu, expected float32"),
        ({"smooth": np.ones(3, np.float32)}, r"smooth has shape \(3,\), expected \(8,\)"),
        ({"smooth_map": np.zeros(2, np.int32)}, "smooth_map is given, expected smooth with it"),
        (
            {"smooth": np.ones((3, 8), np.float32), "smooth_map": np.zeros(3, np.int32)},
            "smooth_map has extent 3 in dimension 0, expected x's 2",
        ),
        ({"global_scale": 0.5}, "global_scale is given, expected scales of float8_e4m3fn with it"),
        ({"global_scale": np.ones(1, np.float32)}, "global_scale is given, expected scales of"),
        # Bytes are what their name says, and as many; other arrays have a dtype of their own.
        (
            {"out_scale": np.ones((2, 1), np.uint8)},
            "scale has dtype uint8, expected float32, which opts.scale_dtype names",
        ),
        (
            {"out_scale": np.ones((2, 1), ml_dtypes.bfloat16)},
            "scale has dtype bfloat16, expected float32, which opts.scale_dtype names",
        ),
        (
            {"quant_dtype": "float8_e4m3fn"},
            "codes has dtype int8, expected float8_e4m3fn, which opts.code_dtype names",
        ),
        ({"num_rows_factor": 0}, "num_rows_factor is 0, expected more than 0"),
        ({"num_rows": np.ones(2, np.int32)}, r"num_rows has shape \(2,\), expected \(1,\)"),
        ({"scale": np.ones((2, 2), np.float32)}, "scale has extent 2 in dimension 1, expected 1"),
        ({"x": np.ones((2, 8))}, "x has dtype float64, expected float32, float16 or bfloat16"),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    out = np.full((2, 8), 7, np.int8)
    call = {"x": np.ones((2, 8), np.float32), "out": out} | arguments
    with pytest.raises(ValueError, match="quantize: .*" + message):
        aiter.quantize(**call)
    assert (out == 7).all()


def test_odd_columns_cannot_be_packed():
    with pytest.raises(ValueError, match="x has 7 columns, expected an even number"):
        aiter.quantize(np.ones((2, 7), np.float32), (1, 0), "float4_e2m1fnx2")
