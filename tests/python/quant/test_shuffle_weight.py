"""shuffle_weight, shuffle_scale and their inverses: AITER's permutations, exactly; the description."""

import aiter
import cases_quantize
import cases_shuffle_weight as cases
import numpy as np
import pytest
from aiter.testing import using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
HEAD = 64


@pytest.fixture(params=variants("shuffle_weight"), ids="-".join)
def row(request):
    with using("shuffle_weight", *request.param):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact_and_back(case, row):
    x = cases.make(case)
    packed = aiter.shuffle_weight(x, **cases.options(case))
    if x.size:
        want = cases.reference(x, **cases.options(case))
        np.testing.assert_array_equal(packed[HEAD:], want.view(np.uint8))
    again = aiter.unshuffle_weight(packed)
    assert again.dtype == x.dtype and again.shape == x.shape
    np.testing.assert_array_equal(again.view(np.uint8), x.view(np.uint8))


def test_description():
    x = cases.make(cases.Case("", shape=(2, 64, 100), dtype="bf16"))
    info = aiter.shuffled_weight_info(aiter.shuffle_weight(x, (32, 16), pad_k_to=64))
    assert info == ((2, 64, 100), "bfloat16", 128, 32, 32, 8, False)


def test_a_wrong_description_is_refused():
    x = cases.make(CASES[0])
    packed = aiter.shuffle_weight(x)
    fails = [
        (packed[:40], "has 40 bytes, expected shuffled weights"),
        (packed[1:], "does not begin with the description"),
        (packed[:-1], "has 8255 bytes, expected 8256 by its description"),
        (packed[:-1].copy(), "has 8255 bytes"),
    ]
    for at, value, message in [
        (8, 9, "is in layout version 9, expected 1"),
        (52, 17, "has a damaged description"),
        (13, 3, "has a damaged description"),
        (31, 255, "has a damaged description"),
    ]:
        wrong = packed.copy()
        wrong[at] = value
        fails.append((wrong, message))
    for wrong, message in fails:
        with pytest.raises(ValueError, match="packed " + message):
            aiter.unshuffle_weight(wrong)
    with pytest.raises(ValueError, match=r"w has shape \(128, 64\), expected \(64, 128\)"):
        aiter.unshuffle_weight(packed, out=np.empty((128, 64), x.dtype))
    with pytest.raises(ValueError, match="w has dtype uint8, expected int8, which was packed"):
        aiter.unshuffle_weight(packed, out=np.empty((64, 128), np.uint8))
    gemm = aiter.gemm_a16w8_pack(np.ones((16, 32), np.int8), np.ones((16, 1), np.float32))
    with pytest.raises(ValueError, match="does not begin with the description"):
        aiter.unshuffle_weight(gemm)


@pytest.mark.parametrize(
    "x, arguments, message",
    [
        (np.ones((20, 64), np.int8), {}, "w has N = 20, expected a multiple of 16"),
        (np.ones((16, 60), np.int8), {}, "w has K = 60, padded to 60, expected a multiple of 32"),
        (np.ones((16, 64), np.int8), {"layout": (8, 16)}, "tile_rows is 8, expected 16 or 32"),
        (np.ones((16, 64)), {}, "elements of 64 bits, expected 8, 16 or 32"),
        (np.ones(64, np.int8), {}, "w has rank 1"),
        (np.ones((64, 16), np.int8).T, {}, "w has stride 16 in dimension 1"),
        (np.ones((16, 64), np.int8), {"pad_k_to": -1}, "pad_k_to is -1, expected 0 to 2"),
    ],
    ids=str,
)
def test_bad_input(x, arguments, message):
    with pytest.raises(ValueError, match=message):
        aiter.shuffle_weight(x, **arguments)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (256, 8), (300, 20)], ids=str)
def test_scales_and_back(shape, row):
    s = np.random.default_rng(1).integers(1, 256, shape, np.uint8)
    shuffled = aiter.shuffle_scale(s)
    want, padding = cases_quantize.shuffle(s)
    np.testing.assert_array_equal(shuffled, want)
    assert (shuffled[padding] == 0).all()
    np.testing.assert_array_equal(aiter.unshuffle_scale(shuffled, shape), s)
    np.testing.assert_array_equal(aiter.e8m0_shuffle(s), shuffled)


@pytest.mark.parametrize("gate_up", [False, True])
@pytest.mark.parametrize("experts", [1, 3])
def test_scales_of_experts(experts, gate_up, row):
    s = np.random.default_rng(2).integers(0, 256, (experts * 64, 16), np.uint8)
    shuffled = aiter.shuffle_scale_a16w4(s, experts, gate_up)
    if experts > 1 or gate_up:
        np.testing.assert_array_equal(shuffled, cases.reference_scale(s, experts, gate_up))
        back = aiter.unshuffle_scale(shuffled, s.shape, experts, gate_up)
        np.testing.assert_array_equal(back, s)


def test_quantize_writes_what_shuffle_scale_makes():
    x = np.random.default_rng(3).standard_normal((40, 320)).astype(np.float32)
    codes, scale = aiter.per_1x32_mx_quant(x)
    same, shuffled = aiter.per_1x32_mx_quant(x, scale_layout="shuffled")
    np.testing.assert_array_equal(same, codes)
    np.testing.assert_array_equal(aiter.unshuffle_scale(shuffled, scale.shape), scale)


def test_bad_scales():
    with pytest.raises(
        ValueError, match="scale has 40 rows, expected a multiple of 32 for each of 2"
    ):
        aiter.shuffle_scale(np.ones((40, 8), np.uint8), 2, True)
    with pytest.raises(ValueError, match="scale has dtype float32, expected uint8"):
        aiter.shuffle_scale(np.ones((40, 8), np.float32))
    with pytest.raises(ValueError, match=r"shuffled has shape \(256, 4\), expected \(256, 8\)"):
        aiter.unshuffle_scale(np.ones((256, 4), np.uint8), (256, 4))


def test_the_comparison_would_notice():
    """Negative control: gate and up not interleaved."""
    case = next(c for c in CASES if c.get("gate_up"))
    x = cases.make(case)
    other = aiter.shuffle_weight(x, is_guinterleave=True)
    assert (other[HEAD:] != cases.reference(x, **cases.options(case))).any()
