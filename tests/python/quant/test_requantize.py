"""requantize: quantize of dequantize, exactly; FNUZ for OCP."""

import aiter
import cases_quantize
import cases_requantize as cases
import ml_dtypes
import numpy as np
import pytest
from aiter.testing import using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("requantize"), ids="-".join)
def row(request):
    with using("requantize", *request.param):
        yield


def bits(x):
    return np.ascontiguousarray(x).view(np.uint8)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact(case, row):
    codes, scale = cases.make(case)
    got, got_scale = aiter.requantize(codes, scale, **cases.options(case))
    if not codes.size:
        assert got.shape == codes.shape
        return
    want, want_scale = cases.reference(case, codes, scale)
    if case.get("to_layout") == "shuffled":
        want_scale, padding = cases_quantize.shuffle(want_scale)
        got_scale = np.where(padding, want_scale, got_scale)
    np.testing.assert_array_equal(bits(got_scale), bits(want_scale.reshape(got_scale.shape)))
    np.testing.assert_array_equal(bits(got), bits(want))


def test_fnuz_and_ocp_share_bits_when_the_scale_is_doubled(row):
    """All 256 codes, there and back."""
    scale = np.full(1, 0.37, np.float32)
    ocp = np.arange(256, dtype=np.uint8)[None].view(ml_dtypes.float8_e4m3fn)
    fnuz = aiter.normalize_fp8(ocp, scale, 2 * scale, "float8_e4m3fnuz")
    want = np.arange(256, dtype=np.uint8)[None].copy()
    want[0, [0x7F, 0xFF]] = 0x80  # NaN
    want[0, 0x80] = 0  # negative zero
    np.testing.assert_array_equal(fnuz.view(np.uint8), want)
    again = aiter.normalize_fp8(fnuz, 2 * scale, scale, "float8_e4m3fn")
    want = np.arange(256, dtype=np.uint8)[None].copy()
    want[0, [0x7F, 0xFF]] = 0x7F
    want[0, 0x80] = 0
    np.testing.assert_array_equal(again.view(np.uint8), want)
    most = np.array([[0x7F, 0xFF]], np.uint8).view(ml_dtypes.float8_e4m3fnuz)  # +-240
    back = aiter.normalize_fp8(most, 2 * scale, scale, "float8_e4m3fn")
    np.testing.assert_array_equal(back.astype(np.float32), [[448, -448]])


def test_global_scales_in_memory(row):
    """Of what is read, and of what is written."""
    x = np.random.default_rng(4).standard_normal((9, 128)).astype(np.float32)
    fp4, e4m3 = cases_quantize.FP4, cases_quantize.E4M3
    codes, scale = cases_quantize.reference(x, (1, 16), fp4, None, e4m3, global_scale=0.37)
    options = dict(group=(1, 16), out_group=(1, 32), quant_dtype=fp4, from_dtype=fp4,
                   from_scale_dtype=e4m3, scale_dtype=e4m3)  # fmt: skip
    want = aiter.requantize(codes, scale, **options, from_global_scale=0.37, global_scale=0.1)
    memory = {
        "from_global_scale": np.array([0.37], np.float32),
        "global_scale": np.array([0.1], np.float32),
    }
    got = aiter.requantize(codes, scale, **options, **memory)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(bits(a), bits(b))
    y = cases_quantize.decode(codes, scale, (1, 16), fp4, np.float32(0.37)).astype(np.float32)
    again = cases_quantize.reference(y, (1, 32), fp4, None, e4m3, global_scale=np.float32(0.1))
    np.testing.assert_array_equal(bits(got[0]), bits(again[0]))


def test_legacy_to_mx(row):
    x = np.random.default_rng(3).standard_normal((4, 256)).astype(np.float32)
    codes, scale = cases_quantize.reference(x, (1, 128), cases.FNUZ)
    got, got_scale = aiter.fp8_legacy_to_mxfp8(codes, scale)
    y = aiter.dequantize(got, got_scale, (1, 32))
    assert got.shape == x.shape and got_scale.shape == (4, 8)
    assert np.abs(y - x).max() < 0.13 * np.abs(x).max()
    same = aiter.fp8_legacy_to_mxfp8(codes.view(np.uint8), scale)  # bytes are taken for e4m3fnuz
    np.testing.assert_array_equal(bits(got), bits(same[0]))


def test_the_comparison_would_notice():
    """Negative control: FNUZ codes taken for OCP ones are twice as large."""
    case = CASES[0]
    codes, scale = cases.make(case)
    wrong = codes.view(np.uint8).view(ml_dtypes.float8_e4m3fn)
    _, got_scale = aiter.requantize(wrong, scale, **cases.options(case))
    assert (bits(got_scale) != bits(cases.reference(case, codes, scale)[1])).any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"scale": np.ones((3, 1), np.float32)}, "scale has extent 3 in dimension 0, expected 2"),
        ({"codes": np.ones((2, 8), np.float32)}, "codes has dtype float32, expected int8"),
        ({"out_scale": np.ones((2, 2), np.float32)}, "out_scale has extent 2 in dimension 1"),
        (
            {"quant_dtype": "float4_e2m1fnx2", "out_group": (1, 3)},
            "group_cols is 3, expected an even",
        ),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    call = {"codes": np.ones((2, 8), np.int8), "scale": np.ones((2, 1), np.float32)} | arguments
    with pytest.raises(ValueError, match="requantize: .*" + message):
        aiter.requantize(**call)
