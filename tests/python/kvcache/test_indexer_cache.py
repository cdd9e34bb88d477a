"""indexer_k_quant_and_cache and cp_gather_indexer_k_quant_cache: codes, scales, layouts."""

import aiter
import ml_dtypes
import numpy as np
import pytest
from aiter.testing import using, variants
from paged import quant

PAGES, BLOCK, DIM = 4, 16, 32
TILE = 16


@pytest.fixture(params=variants("reshape_and_cache"), ids="-".join)
def row(request):
    with using("reshape_and_cache", *request.param):
        yield request.param


def codes_of(k, group, code, ue8m0):
    """(codes, scales (tokens, groups)) of the contract."""
    f32 = np.float32
    v = k.astype(f32).reshape(len(k), -1, group)
    amax = np.minimum(np.nanmax(np.abs(v), axis=2, initial=0), quant.FLOAT_MAX)
    amax = np.maximum(amax, f32(1e-4)).astype(f32)
    if ue8m0:
        scale = np.array([[2.0 ** quant.mx_scale(a, code, 1) for a in line] for line in amax], f32)
    else:
        scale = amax / f32(quant.MAX[code])
    with np.errstate(over="ignore"):
        codes = quant.encode(v * (f32(1) / scale)[..., None], code)
    return codes.reshape(k.shape), scale


def place_of(at, preshuffle):
    """Bytes of a slot's codes in its page."""
    d = np.arange(DIM)
    if not preshuffle:
        return at * DIM + d
    return at // TILE * TILE * DIM + d // TILE * TILE * TILE + at % TILE * TILE + d % TILE


def make(group, spare=0, seed=0, dtype=ml_dtypes.bfloat16, tokens=23):
    rng = np.random.default_rng(seed)
    k = rng.standard_normal((tokens, DIM)).astype(dtype)
    k[1] = 0
    cache = rng.integers(0, 99, (PAGES, BLOCK, DIM + DIM // group * 4 + spare)).astype(np.uint8)
    slots = rng.permutation(PAGES * BLOCK)[:tokens]
    slots[4] = -1
    return k, cache, slots


def expected(k, cache, slots, group, code, ue8m0, preshuffle):
    codes, scales = codes_of(k, group, code, ue8m0)
    want = cache.copy()
    pages = want.reshape(PAGES, -1)
    for token, slot in enumerate(slots):
        if slot < 0:
            continue
        page, at = divmod(slot, BLOCK)
        pages[page, place_of(at, preshuffle)] = codes[token].view(np.uint8)
        begin = BLOCK * DIM + at * scales.shape[1] * 4
        pages[page, begin : begin + scales.shape[1] * 4] = scales[token].view(np.uint8)
    return want


@pytest.mark.parametrize("code", ["float8_e4m3fn", "float8_e4m3fnuz"])
@pytest.mark.parametrize("scale_fmt", ["", "ue8m0"])
@pytest.mark.parametrize("preshuffle", [False, True])
@pytest.mark.parametrize("group, spare", [(DIM, 0), (DIM, 12), (8, 0)])
def test_write(code, scale_fmt, preshuffle, group, spare, row):
    k, cache, slots = make(group, spare)
    want = expected(k, cache, slots, group, code, scale_fmt == "ue8m0", preshuffle)
    aiter.indexer_k_quant_and_cache(k, cache, slots, group, scale_fmt, preshuffle, cache_dtype=code)
    np.testing.assert_array_equal(cache, want)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_cache_of_fp8_arrays_and_other_keys(dtype, row):
    k, cache, slots = make(DIM, dtype=dtype)
    want = expected(k, cache, slots, DIM, "float8_e4m3fn", False, False)
    aiter.indexer_k_quant_and_cache(k, cache.view(ml_dtypes.float8_e4m3fn), slots, DIM)
    np.testing.assert_array_equal(cache, want)


def test_nan_and_infinity(row):
    k, cache, slots = make(DIM, dtype=np.float32)
    k[0, 3], k[2, 5], k[3] = np.nan, np.inf, np.nan
    with np.errstate(all="ignore"):
        want = expected(k, cache, slots, DIM, "float8_e4m3fn", False, False)
    aiter.indexer_k_quant_and_cache(k, cache, slots, DIM)
    np.testing.assert_array_equal(cache, want)


@pytest.mark.parametrize("place", variants("gather_cache"), ids="-".join)
@pytest.mark.parametrize("preshuffle", [False, True])
@pytest.mark.parametrize("group", [DIM, 8])
def test_gather_gives_back_what_was_written(group, preshuffle, place):
    lengths = np.array([0, 20, 20, 23], np.int32)
    table = np.array([[2, 0], [9, 9], [3, -7]], np.int32)  # what is not needed may be anything
    slots = np.concatenate([np.arange(32, 48), np.arange(0, 4), np.arange(48, 51)])
    k, cache, _ = make(group)
    aiter.indexer_k_quant_and_cache(k, cache, slots, group, "ue8m0", preshuffle)
    codes, scales = codes_of(k, group, "float8_e4m3fn", True)
    out = np.full((25, DIM), 7, np.uint8), np.full((25, DIM // group), 7, np.float32)
    with using("gather_cache", *place):
        got = aiter.cp_gather_indexer_k_quant_cache(
            cache, table, lengths, 25, DIM, group, preshuffle, out=out
        )
    np.testing.assert_array_equal(got[0][:23], codes.view(np.uint8))
    np.testing.assert_array_equal(got[1][:23], scales)
    assert (got[0][23:] == 7).all() and (got[1][23:] == 7).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"quant_block_size": 12},
            "opts.quant_block_size is 12, expected a divisor of k's 32 dims",
        ),
        ({"kv_cache": np.ones((4, 16, 35), np.uint8)}, "kv_cache has 35 bytes a slot, expected at"),
        (
            {"kv_cache": np.ones((4, 8, 36), np.uint8), "preshuffle": True},
            "kv_cache has pages of 8",
        ),
        ({"kv_cache": np.ones((4, 16, 36), np.float32)}, "kv_cache has dtype float32, expected"),
        ({"slot_mapping": np.array([64, 0])}, r"slot_mapping\[0\] is 64, expected less"),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    call = {
        "k": np.ones((2, 32), np.float32),
        "kv_cache": np.full((4, 16, 36), 7, np.uint8),
        "slot_mapping": np.array([1, 0]),
        "quant_block_size": 32,
    } | arguments
    before = call["kv_cache"].copy()
    with pytest.raises(ValueError, match=f"indexer_k_quant_and_cache: {message}"):
        aiter.indexer_k_quant_and_cache(**call)
    np.testing.assert_array_equal(call["kv_cache"], before)
