"""concat_and_cache_mla and its kin: views of reshape_and_cache's rows, exactly."""

import itertools

import aiter
import ml_dtypes
import numpy as np
import pytest
from aiter.testing import using, variants
from paged import quant

bf16 = ml_dtypes.bfloat16
LATENT, ROPE, PAGES, BLOCK, TOKENS = 64, 16, 4, 4, 9


@pytest.fixture(params=variants("reshape_and_cache"), ids="-".join)
def row(request):
    with using("reshape_and_cache", *request.param):
        yield request.param


def make(dtype, cache_dtype, heads=None, seed=0):
    rng = np.random.default_rng(seed)
    middle = () if heads is None else (heads,)
    kv_c = rng.standard_normal((TOKENS, *middle, LATENT)).astype(dtype)
    k_pe = rng.standard_normal((TOKENS, *middle, ROPE)).astype(dtype)
    shape = (PAGES, BLOCK, *middle, LATENT + ROPE)
    cache = rng.integers(0, 99, shape).astype(np.uint8).astype(cache_dtype)
    slots = rng.permutation(PAGES * BLOCK)[:TOKENS]
    slots[3] = -1
    return kv_c, k_pe, cache, slots


def expected(kv_c, k_pe, cache, slots, scale=None):
    want = cache.copy()
    for token, slot in enumerate(slots):
        if slot < 0:
            continue
        line = np.concatenate([kv_c[token], k_pe[token]], axis=-1)
        if cache.itemsize == 1:
            factor = np.float32(1) / np.float32(1 if scale is None else scale[0])
            line = quant.encode(line.astype(np.float32) * factor, str(cache.dtype))
        want[slot // BLOCK, slot % BLOCK] = line
    return want


@pytest.mark.parametrize("heads", [None, 1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, bf16])
def test_copied(dtype, heads, row):
    kv_c, k_pe, cache, slots = make(dtype, dtype, heads)
    want = expected(kv_c, k_pe, cache, slots)
    assert aiter.concat_and_cache_mla(kv_c, k_pe, cache, slots) is None
    np.testing.assert_array_equal(cache, want)


@pytest.mark.parametrize("code", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "int8"])
@pytest.mark.parametrize("scale", [None, np.array([0.37], np.float32)], ids=["1", "scaled"])
def test_codes(code, scale, row):
    kv_c, k_pe, cache, slots = make(
        bf16, np.dtype(code) if code == "int8" else quant.dtype_of(code)
    )
    want = expected(kv_c, k_pe, cache, slots, scale)
    stored = cache.view(np.uint8)  # as uint8, with the name of what it holds
    aiter.concat_and_cache_mla(kv_c, k_pe, stored, slots, code, scale)
    np.testing.assert_array_equal(stored, want.view(np.uint8))


def test_segments(row):
    """A page's kv_c, then its k_pe; and what is behind them in a row stays."""
    kv_c, k_pe, cache, slots = make(bf16, bf16)
    want = expected(kv_c, k_pe, cache, slots)
    flat = np.concatenate(
        [cache[..., :LATENT].reshape(PAGES, -1), cache[..., LATENT:].reshape(PAGES, -1)], axis=1
    )
    aiter.concat_and_cache_mla_seg(kv_c, k_pe, flat, slots)
    cut = BLOCK * LATENT
    np.testing.assert_array_equal(flat[:, :cut].reshape(PAGES, BLOCK, LATENT), want[..., :LATENT])
    np.testing.assert_array_equal(flat[:, cut:].reshape(PAGES, BLOCK, ROPE), want[..., LATENT:])


def test_cache_without_pages(row):
    kv_c, k_pe, cache, slots = make(bf16, bf16, 3)
    flat = cache.reshape(-1, 3, LATENT + ROPE)
    want = expected(kv_c, k_pe, cache, slots).reshape(flat.shape)
    aiter.cat_and_cache_mla(kv_c, k_pe, flat, slots, np.array([2], np.float32))
    np.testing.assert_array_equal(flat, want)


def test_slices_of_wider_rows(row):
    """kv_c and k_pe as they come out of one projection, slots that are padded rows."""
    rng = np.random.default_rng(1)
    fused = rng.standard_normal((TOKENS, LATENT + ROPE + 7)).astype(bf16)
    padded = np.full((PAGES, BLOCK, 128), 7, bf16)
    aiter.concat_and_cache_mla(
        fused[:, :LATENT], fused[:, LATENT:-7], padded[..., : LATENT + ROPE], np.arange(TOKENS)
    )
    got = padded.reshape(-1, 128)
    np.testing.assert_array_equal(got[:TOKENS, : LATENT + ROPE], fused[:, :-7])
    assert (got[:, LATENT + ROPE :] == 7).all() and (got[TOKENS:] == 7).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kv_cache": np.ones((2, 4, 9), np.float32)}, r"kv_cache has shape \(2, 4, 9\), expected"),
        ({"kv_cache": np.ones((2, 41), np.float32)}, r"kv_cache has shape \(2, 41\), expected"),
        ({"k_pe": np.ones((3, 2), np.float32)}, r"k_pe has shape \(3, 2\), expected \(2, any\)"),
        ({"k_pe": np.ones((2, 2), np.float16)}, "k_pe has dtype float16, expected kv_c's float32"),
        ({"slot_mapping": np.array([0, 8])}, r"slot_mapping\[1\] is 8, expected less than"),
        (
            {"scale": np.ones(1, np.float32)},
            "kv_cache has dtype float32, expected int8 or an 8-bit",
        ),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    call = {
        "kv_c": np.ones((2, 8), np.float32),
        "k_pe": np.ones((2, 2), np.float32),
        "kv_cache": np.full((2, 4, 10), 7, np.float32),
        "slot_mapping": np.array([1, 0]),
    } | arguments
    before = call["kv_cache"].copy()
    with pytest.raises(ValueError, match=f"concat_and_cache_mla: {message}"):
        aiter.concat_and_cache_mla(**call)
    np.testing.assert_array_equal(call["kv_cache"], before)


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("code", [None, "float8_e4m3fn", "int8"])
def test_shuffled(code, heads, row):
    """cat_and_cache_mla in tiles of 16 slots by 16 bytes, first of latents, then of what turns."""
    block = 32
    kv_c, k_pe, _, _ = make(bf16, bf16, heads)
    dtype = (
        np.dtype(bf16)
        if code is None
        else np.dtype(code if code == "int8" else quant.dtype_of(code))
    )
    slots = np.random.default_rng(1).permutation(2 * block)[:TOKENS]
    slots[3] = -1
    cache = np.zeros((2, heads, block, LATENT + ROPE), dtype)
    scale = np.array([0.37], np.float32) if code == "float8_e4m3fn" else None
    aiter.cat_and_cache_mla(kv_c, k_pe, cache, slots, scale, shuffled_kv_cache=True)
    x = 16 // dtype.itemsize
    flat = cache.reshape(2, heads, -1)
    cut = block * LATENT
    parts = []
    for part, dim in ((flat[..., :cut], LATENT), (flat[..., cut:], ROPE)):
        tiles = part.reshape(2, heads, block // 16, dim // x, 16, x).swapaxes(3, 4)
        parts.append(tiles.reshape(2, heads, block, dim))
    got = np.concatenate(parts, -1).transpose(0, 2, 1, 3).reshape(2 * block, heads, -1)
    want = np.zeros_like(got)
    for token, slot in enumerate(slots):
        if slot >= 0:
            line = np.concatenate([kv_c[token], k_pe[token]], axis=-1)
            if code:
                factor = np.float32(1) / np.float32(1 if scale is None else scale[0])
                line = quant.encode(line.astype(np.float32) * factor, code)
            want[slot] = line
    np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


@pytest.mark.parametrize("heads, latent, rope", [(1, 512, 64), (2, 32, 128), (1, 256, 64)])
@pytest.mark.parametrize("dtype", [bf16, np.float16, np.float32])
@pytest.mark.parametrize("scale", [None, np.array([0.02], np.float32)], ids=["1", "scaled"])
def test_nvfp4(heads, latent, rope, dtype, scale, row):
    """Pages of 4-bit codes and their scales, of latents, then of what turns; the rest stays."""
    block, pages, tokens = 256, 2, 7
    rng = np.random.default_rng(2)
    parts = [rng.standard_normal((tokens, heads, dim)).astype(dtype) for dim in (latent, rope)]
    parts[0][2, 0, :16] = 0
    parts[1][5, -1, 3:5] = np.inf, np.nan
    slots = rng.permutation(pages * block)[:tokens]
    slots[1] = -1
    cache = rng.integers(0, 256, (pages, heads, block, (latent + rope) // 16 * 9), np.uint8)
    was = cache.copy()
    aiter.cat_and_cache_mla(
        *parts, cache, slots, scale, shuffled_kv_cache=True, cache_dtype="float4_e2m1fnx2"
    )
    want = was.reshape(pages, heads, -1)
    begin = 0
    for part in parts:
        codes, scales = quant.reference(
            part, (1, 16), quant.FP4, scale_dtype=quant.E4M3,
            global_scale=np.float32(1) if scale is None else scale[0],
        )  # fmt: skip
        groups = part.shape[-1] // 16
        width = min(16, groups)  # scales that lie together
        for (t, slot), h in itertools.product(enumerate(slots), range(heads)):
            if slot < 0:
                continue
            page, slot = divmod(slot, block)
            line = want[page, h, begin:]
            for tile in range(groups // 2):
                at = slot // 16 * 16 * 8 * groups + tile * 256 + slot % 16 * 16
                line[at : at + 16] = codes[t, h, 16 * tile : 16 * tile + 16]
            line = line[block * groups * 8 :]
            for g in range(groups):
                at = slot // 128 * 128 * groups + g // width * 128 * width
                at += slot % 32 * 4 * width + slot // 32 % 4 * width + g % width
                line[at] = scales.view(np.uint8)[t, h, g]
        begin += block * groups * 9
    np.testing.assert_array_equal(cache, want.reshape(cache.shape))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"block": 64}, "kv_cache has 64 slots, expected a multiple of 128"),
        ({"bytes": 28}, r"kv_cache has shape \(1, 1, 128, 28\), expected \(any, 1, any, 36\)"),
        ({"rope": 24}, "k_pe has 24 dims, expected a multiple of 32"),
        ({"rope": 96}, "k_pe has 96 dims, expected a power of two or a multiple of 256"),
        ({"scale": np.ones(2, np.float32)}, "scale has shape"),
        ({"dtype": np.int8}, "kv_c has dtype int8, expected float32"),
    ],
    ids=str,
)
def test_nvfp4_bad_input(changes, message):
    latent, rope, block = 32, changes.get("rope", 32), changes.get("block", 128)
    dtype = changes.get("dtype", bf16)
    shape = (1, 1, block, changes.get("bytes", (latent + rope) // 16 * 9))
    cache = np.full(shape, 7, np.uint8)
    with pytest.raises(ValueError, match=f"concat_and_cache_mla: {message}"):
        aiter.cat_and_cache_mla(
            np.ones((2, 1, latent), dtype),
            np.ones((2, 1, rope), dtype),
            cache,
            np.array([0, 1]),
            changes.get("scale"),
            shuffled_kv_cache=True,
            cache_dtype="float4_e2m1fnx2",
        )
    assert (cache == 7).all()


@pytest.mark.parametrize(
    "shape, message",
    [
        ((2, 1, 24, 80), "kv_cache has 24 slots of 64 and 16 dims, expected multiples of 16 and 8"),
        ((2, 3, 16, 80), r"kv_cache has shape \(2, 3, 16, 80\)"),
        ((2, 16, 80), r"kv_cache has shape"),
    ],
    ids=str,
)
def test_shuffled_bad_input(shape, message):
    kv_c, k_pe, _, slots = make(bf16, bf16, 1)
    cache = np.full(shape, 7, bf16)
    with pytest.raises(ValueError, match=message):
        aiter.cat_and_cache_mla(kv_c, k_pe, cache, slots, shuffled_kv_cache=True)
    assert (cache == 7).all()
