"""fused_compress_attn: means beside float64, codes exactly those of the numbers."""

import aiter
import cases_fused_compress_attn as cases
import ml_dtypes
import numpy as np
import pytest
from aiter.testing import Case, assert_close, assert_equal, using, variants
from paged import quant
from test_fused_qk_norm_rope_group_quant import POISON, packed, quantized

CASES = [c for c in cases.CASES if c.tag != "perf"]
OP = "fused_qk_rope_reshape_and_cache"
FP8 = "float8_e4m3fn"


@pytest.fixture(params=variants(OP), ids="-".join)
def row(request):
    with using(OP, *request.param):
        yield request.param


def numbers(case, arguments, pages, dtype=np.float32):
    """The heads that were written; the rest of the cache is as it was."""
    cache = np.full((pages, case.block, case.dim), POISON, dtype)
    aiter.fused_compress_attn(kv_cache=cache, **arguments)
    where = cases.slots(arguments["plan"], arguments["block_tables"], case.ratio, case.block)
    heads = cache[where]
    cache[where] = POISON
    assert (cache == POISON).all()
    return heads


@pytest.mark.parametrize("case", CASES, ids=str)
def test_numbers(case, row):
    arguments, pages = cases.make(case)
    heads = numbers(case, arguments, pages)
    want, size = cases.reference(**arguments)
    assert heads.shape == want.shape
    assert_close(heads, want, terms=case.dim + 2 * case.ratio, scale=8 * size)
    for dtype in (ml_dtypes.bfloat16, np.float16):
        assert_equal(numbers(case, arguments, pages, dtype), heads.astype(dtype))


def test_the_bound_sees_what_is_left_out(row):
    """The first line, the bias, the state, the norm's weight: each shows."""
    case = CASES[0]
    arguments, pages = cases.make(case)
    heads = numbers(case, arguments, pages)
    for change in ({"ape": 0.9}, {"kv_state": 0.9}, {"score_state": 0.9}, {"rms_weight": 0.99}):
        ((name, factor),) = change.items()
        wrong = arguments | {name: arguments[name] * np.float32(factor)}
        want, size = cases.reference(**wrong)
        with pytest.raises(AssertionError):
            assert_close(heads, want, terms=case.dim + 8, scale=8 * size)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_head_does_not_depend_on_its_batch(case, row):
    arguments, pages = cases.make(case)
    plan = arguments["plan"]
    heads = numbers(case, arguments, pages)
    for i in range(0, len(heads), max(len(heads) - 1, 1)):  # the first and the last
        assert_equal(numbers(case, arguments | {"plan": plan[i : i + 1]}, pages), heads[i : i + 1])


@pytest.mark.parametrize("overlap", [False, True])
def test_what_is_not_named_does_not_count(overlap, row):
    """NaN in other rows, states, lines, dims and tables changes nothing; scores of -inf weigh nothing."""
    case = Case("smoke", **(cases.SMALL | {"lengths": ((0, 4), (6, 5))}), dtype="fp32", ratio=4,
                overlap=overlap, lines=19)  # fmt: skip
    arguments, pages = cases.make(case)
    want = numbers(case, arguments, pages)
    used = {
        k: np.full_like(arguments[k], np.nan)
        for k in ("kv_in", "score_in", "kv_state", "score_state")
    }
    count = 8 if overlap else 4
    for r, b, p, window in arguments["plan"][:-1]:
        for k in range(max(0, count - 1 - p), count):
            half = slice(64, None) if k >= 4 else slice(0, 64)
            at = (r - (count - 1 - k), half)
            names = "kv_in", "score_in"
            if k < window:
                at = (arguments["state_slot_mapping"][b], (p - count + 1 + k) % 19, half)
                names = "kv_state", "score_state"
            for name in names:
                used[name][at] = arguments[name][at]
    tables = np.full((2, 9), -7, np.int32)
    tables[:, : arguments["block_tables"].shape[1]] = arguments["block_tables"]
    assert_equal(numbers(case, arguments | used | {"block_tables": tables}, pages), want)
    none = arguments | {"score_in": np.full_like(arguments["score_in"], -np.inf)}
    heads = numbers(case, none, pages)
    ref, size = cases.reference(**(none | {"score_in": np.full_like(none["score_in"], -1e30)}))
    plan = arguments["plan"][:-1]  # lines of a state; heads without have no weight at all: zeros
    there = plan[:, 3] > np.maximum(count - 1 - plan[:, 2], 0)
    assert there.any() and not there.all()
    assert_close(heads[there], ref[there], terms=80, scale=8 * size[there])
    assert not heads[~there].any()


@pytest.mark.parametrize("ue8m0", [False, True])
@pytest.mark.parametrize("tiles", [False, True])
def test_fp8(tiles, ue8m0, row):
    case = CASES[1]
    arguments, pages = cases.make(case)
    heads = numbers(case, arguments, pages)
    codes, scale = quantized(heads, 64, FP8, ue8m0, 1e-4)
    if ue8m0:
        scale = np.ldexp(np.float32(1), scale.astype(np.int32) - 127)
    cache = np.full((pages, 16, 64), POISON, np.uint8)
    scales = np.full((pages, 16), POISON, np.float32)
    aiter.fused_compress_attn(
        kv_cache=cache, cache_scale=scales, use_ue8m0=ue8m0, preshuffle=tiles, quant_mode="fp8",
        cache_dtype=FP8, **arguments,
    )  # fmt: skip
    page, slot = cases.slots(arguments["plan"], arguments["block_tables"], 4, 16)
    if tiles:
        cache = cache.reshape(pages, 1, 4, 16, 16).transpose(0, 1, 3, 2, 4).reshape(pages, 16, 64)
    assert_equal(cache[page, slot], codes)
    assert_equal(scales[page, slot], scale[:, 0])
    cache[page, slot], scales[page, slot] = POISON, POISON
    assert (cache == POISON).all() and (scales == POISON).all()


def test_group_fp8(row):
    case = Case(
        "smoke", **(cases.SMALL | {"dim": 192, "width": 32}), dtype="bf16", ratio=4, overlap=True
    )
    arguments, pages = cases.make(case)
    heads = numbers(case, arguments, pages)
    want, turned = packed(heads, 64, 64, FP8)
    cache = np.full((pages, 16, 192), POISON, ml_dtypes.float8_e4m3fn)
    rope = np.full((pages, 16, 64), POISON, ml_dtypes.bfloat16)
    aiter.fused_compress_attn(kv_cache=cache, quant_mode="group_fp8", k_rope_buff=rope, **arguments)
    where = cases.slots(arguments["plan"], arguments["block_tables"], 4, 16)
    got = cache.view(np.uint8)[where]
    assert_equal(got[:, :132], want)
    assert_equal(rope[where], turned.astype(rope.dtype))
    rest = np.full(1, POISON, cache.dtype).view(np.uint8)
    assert (got[:, 132:] == rest).all()


@pytest.mark.parametrize("tiles", [False, True])
def test_fp4(tiles, row):
    case = Case(
        "smoke", **(cases.SMALL | {"dim": 128, "block": 64}), dtype="bf16", ratio=4, overlap=True
    )
    arguments, pages = cases.make(case)
    heads = numbers(case, arguments, pages)
    codes, scale = quantized(heads, 32, quant.FP4, True, 6 * 2.0**-126)
    shapes = (
        ((pages, 1, 4, 64, 16), (pages, 1, 4, 64)) if tiles else ((pages, 64, 64), (pages, 64, 4))
    )
    cache, scales = (np.full(s, POISON, np.uint8) for s in shapes)
    aiter.fused_compress_attn(
        kv_cache=cache, cache_scale=scales, preshuffle=tiles, quant_mode="fp4", **arguments
    )
    page, slot = cases.slots(arguments["plan"], arguments["block_tables"], 4, 64)
    if tiles:
        cache = cache.transpose(0, 3, 1, 2, 4).reshape(pages, 64, 64)
        scales = scales.reshape(pages, 4, 16, 4).transpose(0, 3, 2, 1).reshape(pages, 64, 4)
    assert_equal(cache[page, slot], codes)
    assert_equal(scales[page, slot], scale)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"ratio": 0}, "opts.ratio is 0"),
        ({"kv_in": np.zeros((19, 127), ml_dtypes.bfloat16)}, "kv has 127 dims"),
        ({"score_in": np.zeros((19, 128), np.float32)}, "score has dtype float32"),
        ({"ape": np.zeros((3, 128), np.float32)}, "ape has"),
        ({"plan": np.array([[0, 9, 3, 0]], np.int32)}, "the sequence 9, expected 0 to less than 4"),
        ({"plan": np.array([[1, 0, 11, 0]], np.int32)}, "has line 0, expected one that is in kv"),
        ({"plan": np.array([[8, 0, 400, 8]], np.int32)}, "the position 400"),
        ({"state_slot_mapping": np.full(4, 5, np.int32)}, "state_slot_mapping has 5"),
        ({"block_tables": np.full((4, 3), 99, np.int32)}, "block_tables has 99 for token 0"),
        ({"rms_weight": np.zeros(64, ml_dtypes.bfloat16)}, "rms_weight has dtype bfloat16"),
        ({"quant_mode": "int8"}, "quant_mode is 'int8'"),
        ({"cache_scale": np.zeros((9, 16), np.float32)}, "kv_cache has dtype float32 with scales"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_bad_input(change, message):
    arguments, pages = cases.make(CASES[1])
    cache = np.zeros((pages, 16, 64), np.float32)
    with pytest.raises(ValueError, match=message):
        aiter.fused_compress_attn(**(arguments | {"kv_cache": cache} | change))
    assert not cache.any()
