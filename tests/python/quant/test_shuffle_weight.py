"""shuffle_weight, shuffle_scale and their inverses: AITER's permutations, exactly; the description."""

import aiter
import cases_quantize
import cases_shuffle_weight as cases
import numpy as np
import pytest
from aiter.testing import gpus, using, variants

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


def test_another_layout_than_the_described_one_writes_nothing():
    """On a GPU the kernel alone sees the description; on the CPU the call is refused."""
    x = cases.make(CASES[0])
    packed = aiter.shuffle_weight(x)
    info = aiter.shuffled_weight_info(packed)
    for place in gpus():
        with using(place=place):
            again = np.full(x.shape, 77, x.dtype)
            aiter.unshuffle_weight(packed, info=info, out=again)
            np.testing.assert_array_equal(again, x)
            for wrong in (info._replace(tile_rows=32), info._replace(pack_elements=32)):
                out = np.full(wrong.shape, 77, x.dtype)
                aiter.unshuffle_weight(packed, info=wrong, out=out)
                assert (out == 77).all()
    with pytest.raises(ValueError, match=r"w has shape \(128, 64\), expected \(64, 128\)"):
        aiter.unshuffle_weight(packed, info=info._replace(shape=(128, 64)))


@pytest.mark.parametrize(
    "x, arguments, message",
    [
        (np.ones((20, 64), np.int8), {}, "w has N = 20, expected a multiple of 16"),
        (np.ones((16, 60), np.int8), {}, "w has K = 60, padded to 60, expected a multiple of 32"),
        (np.ones((16, 64), np.int8), {"layout": (0, 16)}, "tile_rows is 0, expected 1 to 256"),
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
    np.testing.assert_array_equal(shuffled, cases.reference_scale(s, experts, gate_up))
    back = aiter.unshuffle_scale(shuffled, s.shape, experts, gate_up)
    np.testing.assert_array_equal(back, s)


def test_quantize_writes_what_shuffle_scale_makes():
    x = np.random.default_rng(3).standard_normal((40, 320)).astype(np.float32)
    codes, scale = aiter.per_1x32_mx_quant(x)
    same, shuffled = aiter.per_1x32_mx_quant(x, scale_layout="shuffled")
    np.testing.assert_array_equal(same, codes)
    np.testing.assert_array_equal(aiter.unshuffle_scale(shuffled, scale.shape), scale)


@pytest.mark.parametrize("mode", range(5))
@pytest.mark.parametrize("gate_up", [False, True])
def test_quant_mxfp4_is_quantize_and_the_shuffles(gate_up, mode):
    x = np.random.default_rng(4).standard_normal((64, 256)).astype(np.float32)
    codes, scale = aiter.quantize(
        x, (1, 32), cases_quantize.FP4, scale_dtype=cases_quantize.E8M0, round_mode=mode
    )
    plain = aiter.quant_mxfp4_hip(x, 32, mode)
    shuffled = aiter.quant_mxfp4_hip(x, 32, mode, e8m0_shuffle=True, shuffle_weight=True)
    a16w4 = aiter.quant_mxfp4_hip(x, 32, mode, False, True, gate_up, True)
    packed = cases.reference(codes[None], is_guinterleave=True, gate_up=gate_up)
    order, padding = cases_quantize.shuffle(scale)
    for got, want in (
        (plain[0], codes),
        (plain[1], scale),
        (shuffled[0][HEAD:], cases.reference(codes)),
        (np.where(padding, 0, shuffled[1].view(np.uint8)), np.where(padding, 0, order.view("u1"))),
        (a16w4[0][HEAD:], packed),
        (a16w4[1], cases.reference_scale(scale.view(np.uint8), 1, gate_up)),
    ):
        np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))
    np.testing.assert_array_equal(aiter.unshuffle_weight(a16w4[0]), codes)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"e8m0_shuffle": True, "a16w4_shuffle": True}, "exclude each other"),
        ({"shuffle_weight": True}, "shuffle_weight needs e8m0_shuffle or a16w4_shuffle"),
        ({"gate_up": True}, "gate_up needs a16w4_shuffle"),
    ],
    ids=str,
)
def test_flags_that_do_not_go_together(flags, message):
    with pytest.raises(ValueError, match="quant_mxfp4_hip: .*" + message):
        aiter.quant_mxfp4_hip(np.ones((32, 256), np.float32), **flags)


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
