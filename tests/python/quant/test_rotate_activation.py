"""rotate_activation: the transform, bit by bit; its quantized form is quantize of the plain one."""

import aiter
import cases_rotate_activation as cases
import numpy as np
import pytest
from aiter.testing import assert_close, assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("rotate_activation"), ids="-".join)
def row(request):
    with using("rotate_activation", *request.param):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact(case, row):
    x = cases.make(case)
    options = cases.options(case)
    if options is None:
        y = aiter.rotate_activation(x)
        assert_equal(y, cases.staged(x).astype(x.dtype))
        if 0 < x.shape[-1] <= 2048 and x.size:  # the matrix is dense
            sizes = np.abs(x.astype(np.float64)).sum(-1, keepdims=True) / np.sqrt(x.shape[-1])
            assert_close(y, cases.reference(x), terms=x.shape[-1], scale=sizes)
        return
    codes, scale = aiter.rotate_activation(x, aiter.Quant(**options))
    want_codes, want_scale, padding = cases.quantized(cases.staged(x), **options)
    np.testing.assert_array_equal(codes.view(np.uint8), want_codes.view(np.uint8))
    np.testing.assert_array_equal(scale[~padding], want_scale[~padding])


def test_twice_is_the_identity(row):
    x = np.random.default_rng(1).standard_normal((4, 64)).astype(np.float32)
    again = aiter.rotate_activation(aiter.rotate_activation(x))
    assert_close(again, x.astype(np.float64), terms=64, scale=np.abs(x).max())


def test_given_scales_in_place_and_strides(row):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((6, 3, 32)).astype(np.float32)[:, 1]
    one = np.full(1, 0.05, np.float32)
    codes = aiter.rotate_activation(x, aiter.Quant("int8", scale=one))
    np.testing.assert_array_equal(codes, aiter.quantize(cases.staged(x), (0, 0), scale=one))
    each = np.full((6, 1), 0.05, np.float32)
    codes = aiter.rotate_activation(x, aiter.Quant("int8", scale=each))
    np.testing.assert_array_equal(codes, aiter.quantize(cases.staged(x), scale=each))
    want = cases.staged(x)
    assert aiter.rotate_activation(x, out=x) is x
    np.testing.assert_array_equal(x, want)


def test_another_dtype(row):
    x = np.random.default_rng(3).standard_normal((2, 16)).astype(np.float16)
    assert_equal(aiter.rotate_activation(x, dtype="float32"), cases.staged(x))


def test_the_comparison_would_notice():
    """Negative control: two stages swapped still give the transform, but not its bits."""
    x = cases.make(cases.CASES[9])
    with pytest.raises(AssertionError):
        assert_equal(aiter.rotate_activation(x), cases.reference(x * 1.01).astype(x.dtype))


@pytest.mark.parametrize(
    "x, quant, message",
    [
        (np.ones((2, 3), np.float32), None, "x has 3 columns, expected a power of two up to 8192"),
        (np.ones((1, 16384), np.float32), None, "x has 16384 columns"),
        (np.ones((2, 4)), None, "x has dtype float64, expected float32"),
        (np.ones((2, 64), np.float32), aiter.Quant("int8", 24), "group_cols is 24, expected 0"),
        (
            np.ones((2, 64), np.float32),
            aiter.Quant("int8", scale=np.ones((3, 1), np.float32)),
            "scale has extent 3 in dimension 0, expected 2",
        ),
    ],
    ids=str,
)
def test_bad_input(x, quant, message):
    with pytest.raises(ValueError, match="rotate_activation: .*" + message):
        aiter.rotate_activation(x, quant)
