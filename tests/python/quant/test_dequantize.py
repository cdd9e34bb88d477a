"""dequantize: the exact product of code and scale, rounded once."""

import aiter
import cases_dequantize as cases
import ml_dtypes
import numpy as np
import pytest
from aiter.testing import assert_close, assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf" and c.get("values") != "huge"]


@pytest.fixture(params=variants("dequantize"), ids="-".join)
def row(request):
    with using("dequantize", *request.param):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_product_of_code_and_scale(case, row):
    x, options = cases.make(case)
    group, code = options["group"], options["quant_dtype"]
    codes, scale = cases.reference(x, **options)
    if not x.size:
        codes, scale = aiter.quantize(x, **options)
    scale = scale.reshape(cases.scale_shape(x.shape, group))
    want = cases.decode(codes, scale, group, code, np.float32(options.get("global_scale", 1.0)))
    if case.get("layout") == "shuffled":
        scale, padding = cases.shuffle(scale.reshape(-1, scale.shape[-1]))
        scale[padding] = np.nan  # never read
    factor = options.get("global_scale", 1.0)
    for dtype in ("float32", "bfloat16"):
        y = aiter.dequantize(
            codes,
            scale,
            group,
            dtype,
            quant_dtype=code if codes.dtype == np.uint8 else None,
            global_scale=factor,
            scale_layout=case.get("layout", "strided"),
        )
        assert y.shape == x.shape
        assert_close(y, want)


def test_a_global_scale_in_memory(row):
    x = np.random.default_rng(4).standard_normal((9, 128)).astype(np.float32)
    codes, scale = cases.reference(x, (1, 16), cases.FP4, None, cases.E4M3, global_scale=0.37)
    options = {"group": (1, 16), "quant_dtype": cases.FP4}
    for value in (0.37, 2.0):
        got = aiter.dequantize(codes, scale, **options, global_scale=np.array([value], np.float32))
        assert_equal(got, aiter.dequantize(codes, scale, **options, global_scale=value))
        assert_close(got, cases.decode(codes, scale, (1, 16), cases.FP4, np.float32(value)))


@pytest.mark.parametrize("code", ["int8", *cases.FP8])
def test_all_256_codes_are_those_of_ml_dtypes(code, row):
    codes = np.arange(256, dtype=np.uint8)[None]
    dtype = np.int8 if code == "int8" else getattr(ml_dtypes, code)
    one = np.ones((1, 1), np.float32)
    want = codes.view(dtype).astype(np.float32)
    assert_equal(aiter.dequantize(codes, one, quant_dtype=code), want)
    if code != "int8":  # and back: every number is its own nearest
        finite = np.isfinite(want)
        again = aiter.quantize(np.where(finite, want, np.nan), (0, 0), code, scale=one[0])
        np.testing.assert_array_equal(again.view(np.uint8)[finite], codes[finite])
        assert np.isnan(again.astype(np.float32)[~finite]).all()


def test_uint8_needs_its_dtype(row):
    codes, one = np.zeros((1, 4), np.uint8), np.ones((1, 1), np.float32)
    with pytest.raises(ValueError, match="dequantize: codes has dtype uint8, expected int8"):
        aiter.dequantize(codes, one)
