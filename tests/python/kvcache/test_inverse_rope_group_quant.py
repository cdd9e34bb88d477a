"""inverse_rope_group_quant: the rotation undone within its bound, codes and scales exactly."""

import aiter
import cases_fused_qk_rope_reshape_and_cache as fused
import ml_dtypes
import numpy as np
import pytest
from aiter.testing import assert_close, using, variants
from paged import quant

OP = "fused_qk_rope_reshape_and_cache"
bf16 = ml_dtypes.bfloat16


@pytest.fixture(params=variants(OP), ids="-".join)
def row(request):
    with using(OP, *request.param):
        yield request.param


def make(tokens=5, heads=4, dim=64, width=8, dtype=bf16, seed=0):
    rng = np.random.default_rng(seed)
    angles = rng.random((20, width)) * 6
    o = rng.standard_normal((tokens, heads, dim)).astype(dtype)
    o[: tokens // 2, 0] = 0  # groups of zeros
    return (
        o,
        rng.integers(0, 20, tokens),
        np.cos(angles).astype(dtype),
        np.sin(angles).astype(dtype),
    )


def turned_back(o, positions, cos, sin, row, neox=False):
    """By the library's own rotation, whose result is rounded to o's dtype; one product after the other,
    as the plain row has it."""
    if row[0] != "cpu_ref":
        lead = o.shape[0], 1
        return aiter.rope_cached_positions_bwd(
            o[:, None], cos, sin, positions.reshape(lead), 0 if neox else 1, True, True
        )[:, 0]
    out, x = o.copy(), o.astype(np.float32)
    c, s = (t.astype(np.float32)[positions][:, None] for t in (cos, sin))
    width, first = cos.shape[1], o.shape[2] - 2 * cos.shape[1]
    i = np.arange(width) + first if neox else np.arange(0, 2 * width, 2) + first
    j = i + width if neox else i + 1
    out[..., i] = (x[..., i] * c + x[..., j] * s).astype(o.dtype)
    out[..., j] = (x[..., j] * c - x[..., i] * s).astype(o.dtype)
    return out


def quantized(x, rows, group, code):
    """(codes (tokens, rows, dims), exponents (tokens, rows, columns)) of the contract."""
    x = x.astype(np.float32).reshape(len(x), rows, -1, group)
    amax = np.maximum(np.abs(x).max(-1, initial=0), np.float32(1e-8))
    exponents = np.vectorize(lambda v: quant.mx_scale(v, code, 1) + 127, otypes=[np.uint8])(amax)
    factor = np.ldexp(np.float32(1), 127 - exponents.astype(np.int32))[..., None]
    return quant.encode(x * factor, code).reshape(len(x), rows, -1), exponents


def ordered(exponents, layout, group):
    """(exponents in the order of a layout, where they are and not padding)."""
    tokens, rows, columns = exponents.shape
    if layout == "row":
        return exponents, np.ones(exponents.shape, bool)
    tiles = -(-tokens // 32)
    pad = 4 if layout == "n32k4" else 2 if group == 128 else 8
    padded = -(-columns // pad) * pad
    both = np.zeros((2, tiles * 32, rows, padded), np.uint8)
    both[0, :tokens, :, :columns] = exponents
    both[1, :tokens, :, :columns] = 1
    if layout == "n32k4":
        both = both.reshape(2, tiles, 32, rows, padded // 4, 4).transpose(0, 1, 3, 4, 2, 5)
        both = both.reshape(2, tiles, rows, 32 * padded)
    elif (
        group == 128
    ):  # (token / 16, token % 16, column) of a tile as (token % 16, column, token / 16)
        both = both.reshape(2, tiles, 2, 16, rows, padded // 2, 2).transpose(0, 4, 1, 5, 3, 6, 2)
        both = both.reshape(2, rows, tiles * 32, padded)
    else:  # (column % 4, token % 16, column / 4, token / 16)
        both = both.reshape(2, tiles, 2, 16, rows, padded // 8, 2, 4)
        both = both.transpose(0, 4, 1, 5, 7, 3, 6, 2).reshape(2, rows, tiles * 32, padded)
    return both[0], both[1].astype(bool)


@pytest.mark.parametrize("layout", ["row", "mfma_tile", "n32k4"])
@pytest.mark.parametrize("group, dim", [(32, 64), (64, 128), (128, 256)])
@pytest.mark.parametrize("tokens", [1, 35])
def test_codes_and_scales(tokens, group, dim, layout, row):
    if row[1].startswith(("hip", "cuda")) and tokens > 1 and group != 32:
        tokens = 17
    o, *rope = make(tokens, 4, dim, 8)
    rows = 1 if layout == "n32k4" else 2
    code = "float8_e4m3fn"
    codes, scale = aiter.inverse_rope_group_quant(o, *rope, rows, group, layout)
    want, exponents = quantized(turned_back(o, *rope, row), rows, group, code)
    np.testing.assert_array_equal(codes.view(np.uint8), want.view(np.uint8))
    order, there = ordered(exponents, layout, group)
    assert scale.shape == order.shape
    np.testing.assert_array_equal(scale.view(np.uint8)[there], order[there])


@pytest.mark.parametrize("neox", [True, False])
@pytest.mark.parametrize("dtype", [bf16, np.float16, np.float32])
@pytest.mark.parametrize("code", ["float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"])
def test_dtypes(code, dtype, neox, row):
    o, positions, cos, sin = make(dtype=dtype, width=16)
    codes, scale = aiter.inverse_rope_group_quant(
        o, positions, cos, sin, 2, 32, quant_dtype=code, is_neox=neox
    )
    back = turned_back(o, positions, cos, sin, row, neox)
    want, exponents = quantized(back, 2, 32, code)
    np.testing.assert_array_equal(codes.view(np.uint8), want.view(np.uint8))
    np.testing.assert_array_equal(scale.view(np.uint8), exponents)
    # The rotation itself, beside float64.
    want64, size = fused.turned(o, positions, cos, -sin.astype(np.float64), neox, True)
    assert_close(back, want64, 2, size)


def test_strided_and_given_outputs(row):
    wide, *rope = make(6, 8)
    o = wide[::2, ::2]
    rope[0] = rope[0][::2].copy()
    codes = np.full((3, 2, 160), 7, np.uint8)
    scale = np.full((3, 8), 7, np.uint8)
    got = aiter.inverse_rope_group_quant(
        o, *rope, 2, 32, out=(codes[..., :128].reshape(3, 2, 128).copy(), scale.reshape(3, 2, 4)),
    )  # fmt: skip
    want = aiter.inverse_rope_group_quant(np.ascontiguousarray(o), *rope, 2, 32)
    np.testing.assert_array_equal(got[0].view(np.uint8), want[0].view(np.uint8))
    np.testing.assert_array_equal(got[1].view(np.uint8), want[1].view(np.uint8))


def test_no_tokens(row):
    o, *rope = make(0)
    codes, scale = aiter.inverse_rope_group_quant(o, *rope, 2, 32)
    assert codes.shape == (0, 2, 128) and scale.shape == (0, 2, 4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"quant_group_size": 48}, "opts.group is 48, expected a divisor of o's 64 dims"),
        ({"num_groups": 3}, "codes has 3 rows of 85, expected 256 in all"),
        ({"positions": np.array([0, 1, 20, 0, 0])}, "positions has 20"),
        ({"cos_cache": np.ones((20, 40), bf16), "sin_cache": np.ones((20, 40), bf16)}, "o has 64 dims"),
        ({"scale_layout": "tiles"}, "scale_layout is 'tiles'"),
        ({"quant_dtype": "bfloat16"}, "codes has dtype bfloat16"),
        ({"scale_layout": "n32k4", "quant_group_size": 64, "num_groups": 2}, "codes has 2 groups a row"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_bad_input(change, message):
    o, positions, cos, sin = make()
    arguments = {
        "o": o, "positions": positions, "cos_cache": cos, "sin_cache": sin, "num_groups": 2,
        "quant_group_size": 32,
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"inverse_rope_group_quant: .*{message}"):
        aiter.inverse_rope_group_quant(**(arguments | change))
