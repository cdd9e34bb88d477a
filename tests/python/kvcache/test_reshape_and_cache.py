"""reshape_and_cache: every row on every case, exactly, for every instruction set."""

import aiter
import cases_reshape_and_cache as cases
import numpy as np
import paged
import pytest
from aiter.testing import assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
OP = "reshape_and_cache"


@pytest.fixture(params=variants(OP), ids="-".join)
def row(request):
    with using(OP, *request.param):
        yield request.param


def write(key, value, key_cache, value_cache, slot_mapping, k_scale=None, v_scale=None, quant=0,
          **options):  # fmt: skip
    caches = key_cache, value_cache
    if quant:
        return aiter.reshape_and_cache_with_pertoken_quant(
            key, value, *caches, k_scale, v_scale, slot_mapping, **options
        )
    return aiter.reshape_and_cache(
        key, value, *caches, slot_mapping, k_scale=k_scale, v_scale=v_scale, **options
    )


def assert_bits(got, want, what):
    assert got.dtype == want.dtype and got.shape == want.shape
    if got.itemsize == 1:
        got, want = got.view(np.uint8), want.view(np.uint8)
    assert_equal(got, want, what)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reshape_and_cache(case, row):
    arguments = cases.make(case)
    layout = {"qkv": "flash"}.get(case.get("layout"), case.get("layout", "flash"))
    want = cases.reference(**arguments, layout=layout)
    assert write(**arguments) is None
    for name, expected in zip(
        ("key_cache", "value_cache", "k_scale", "v_scale"), want, strict=True
    ):
        if expected is not None:
            assert_bits(arguments[name], expected, name)


@pytest.mark.parametrize("layout", ["flash", "vectorized", "asm"])
def test_more_than_the_machine_caches(layout, row):
    """Whole cache lines go past the caches, and no other bytes than the reference writes."""
    if row[0] != "cpu_simd":
        pytest.skip("of cpu_simd")
    case = cases.Case("edge", tokens=9000, heads=8, head_dim=128, pages=600, block=16, dtype="bf16",
                      layout=layout, slots="prefill")  # fmt: skip
    got, want = cases.make(case), cases.make(case)
    write(**got)
    with using(OP, "cpu_ref", row[1]):
        write(**want)
    for name in ("key_cache", "value_cache"):
        assert_bits(got[name], want[name], name)


def test_codes_are_those_of_quantize(row):
    """What is read back from the cache is what the quantizers give, times the same scales."""
    case = cases.Case("edge", tokens=16, **cases.SMALL, dtype="bf16", cache="float8_e4m3fn",
                      layout="asm", scales="token")  # fmt: skip
    arguments = cases.make(case)
    write(**arguments)
    codes, scales = aiter.pertoken_quant(arguments["key"], quant_dtype="float8_e4m3fn")
    for token, slot in enumerate(arguments["slot_mapping"]):
        stored = paged.read(arguments["key_cache"], "asm", "key", slot)
        assert_bits(stored, np.asarray(codes[token]), "codes")
        np.testing.assert_array_equal(arguments["k_scale"][:, slot], scales[token, :, 0])


def test_nan_payloads_are_copied(row):
    """The copy is of bits: it changes no NaN."""
    key = np.arange(64, dtype=np.uint16).reshape(1, 1, 64).view(np.float16) + np.float16(0)
    key.view(np.uint16)[...] = 0x7C01 + np.arange(64, dtype=np.uint16)
    key_cache, value_cache = (
        np.zeros((2, 2, 1, 64), np.float16),
        np.zeros((2, 2, 1, 64), np.float16),
    )
    aiter.reshape_and_cache(key, key, key_cache, value_cache, np.array([2]))
    np.testing.assert_array_equal(key_cache[1, 0].view(np.uint16), key[0].view(np.uint16))


def test_outside_of_the_cache_nothing_is_written(row):
    """Canaries around the pages, and padding slots at both ends of int64."""
    case = cases.make(cases.CASES[2])
    key, value = case["key"], case["value"]
    around = np.full((5, 4, 2, 64), 7, np.float32)
    key_cache, value_cache = around[1:3], np.zeros((2, 4, 2, 64), np.float32)
    slots = np.array([-1, np.iinfo(np.int64).min, 0, 7, -8])
    aiter.reshape_and_cache(key, value, key_cache, value_cache, slots)
    assert (around[[0, 3, 4]] == 7).all()
    np.testing.assert_array_equal(key_cache[0, 0], key[2])
    np.testing.assert_array_equal(key_cache[1, 3], key[3])
    assert (around == 7).sum() >= around.size - 2 * 128


@pytest.mark.parametrize("layout", ["flash", "vectorized", "asm"])
@pytest.mark.parametrize("slots", [np.int32, np.int64])
def test_slots_past_the_cache_write_nothing(layout, slots, row):
    """The CPU refuses them; a GPU skips them. Canaries are around the pages and the scales."""
    case = cases.Case("edge", tokens=5, **cases.SMALL, dtype="bf16", cache="int8", layout=layout,
                      scales="pages")  # fmt: skip
    arguments = cases.make(case)
    whole = {}
    for name in ("key_cache", "value_cache", "k_scale", "v_scale"):
        array = arguments[name]
        whole[name] = np.full((case.pages + 2, *array.shape[1:]), 7, array.dtype)
        arguments[name] = whole[name][1:-1]
    capacity = case.pages * case.block
    arguments["slot_mapping"] = np.array([capacity, 3, capacity + 5, -1, 2**31 - 1], slots)
    try:
        write(**arguments)
    except ValueError as e:
        assert f"slot_mapping[0] is {capacity}, expected less than the cache's {capacity}" in str(e)
        assert all((a == 7).all() for a in whole.values())
    else:
        assert all((a[[0, -1]] == 7).all() for a in whole.values())
        key_slots = [s for s in range(capacity)
                     if (paged.read(arguments["key_cache"], layout, "key", s) != 7).any()]  # fmt: skip
        assert key_slots == [3]


def test_offsets_of_64_bits(row):
    """Pages 2^32 elements apart, in memory that is never touched between them."""
    import mmap

    if ":" in row[1]:
        pytest.skip("the copy on the device would be of all the memory between")
    with mmap.mmap(-1, (1 << 34) + 4096, flags=mmap.MAP_PRIVATE | 0x4000) as memory:  # NORESERVE
        far = np.frombuffer(memory, np.float32, 64)
        cache = np.lib.stride_tricks.as_strided(far, (2, 4, 1, 8), (1 << 34, 128, 32, 4))
        near = np.zeros((2, 4, 1, 8), np.float32)
        key = np.arange(16, dtype=np.float32).reshape(2, 1, 8)
        aiter.reshape_and_cache(key, key, cache, near, np.array([4, 1]))
        np.testing.assert_array_equal(cache[1, 0], key[0])
        np.testing.assert_array_equal(cache[0, 1], key[1])
        del far, cache


def test_nan_in_unused_slots_stays_where_it_is(row):
    case = cases.Case("edge", tokens=9, **cases.SMALL, dtype="bf16", cache="float8_e4m3fn",
                      layout="asm", scales="token")  # fmt: skip
    clean, poisoned = cases.make(case), cases.make(case)
    poisoned["key_cache"].view(np.uint8)[...] = 0x7F
    poisoned["k_scale"][...] = np.nan
    write(**clean)
    write(**poisoned)
    for slot in range(case.pages * case.block):
        got = paged.read(poisoned["key_cache"], "asm", "key", slot)
        if slot in clean["slot_mapping"]:
            assert_bits(got, paged.read(clean["key_cache"], "asm", "key", slot), "written")
        else:
            assert (got.view(np.uint8) == 0x7F).all()
    used = clean["slot_mapping"]
    np.testing.assert_array_equal(poisoned["k_scale"][:, used], clean["k_scale"][:, used])


@pytest.mark.parametrize("name", ["key", "value", "slot_mapping", "k_scale", "v_scale"])
def test_every_argument_matters(name, row):
    case = cases.Case("edge", tokens=9, **cases.SMALL, dtype="bf16", cache="float8_e4m3fn",
                      scales="one")  # fmt: skip
    before, after = cases.make(case), cases.make(case)
    after[name] = after[name][::-1].copy() if name == "slot_mapping" else after[name] * 2
    write(**before)
    write(**after)
    cache = "value_cache" if name.startswith("v") else "key_cache"
    assert (before[cache].view(np.uint8) != after[cache].view(np.uint8)).any()


def test_large_writes_go_past_the_caches():
    """Bits and order are those of small ones."""
    key = np.arange(16384 * 1024, dtype=np.uint32).view(np.float32).reshape(16384, 8, 128)
    value = np.zeros((16384, 8, 0), np.float32)
    memory = np.zeros(key.size + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    key_cache = memory[start : start + key.size].reshape(1024, 16, 8, 128)
    slots = np.random.default_rng(0).permutation(16384)
    aiter.reshape_and_cache(key, value, key_cache, np.zeros((1024, 16, 8, 0), np.float32), slots)
    got = key_cache.view(np.uint32).reshape(16384, 8, 128)[slots]
    assert (got == key.view(np.uint32)).all()


def test_many_threads_agree():
    case = cases.Case("edge", tokens=500, heads=4, head_dim=64, pages=100, block=8, dtype="bf16")
    arguments = cases.make(case)
    want = cases.reference(**arguments)
    with using(threads=3):
        write(**arguments)
    assert_equal(arguments["key_cache"], want[0])
    assert_equal(arguments["value_cache"], want[1])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"slot_mapping": np.array([0, 8])},
            r"slot_mapping\[1\] is 8, expected less than the cache's 8",
        ),
        (
            {"slot_mapping": np.array([0, 2**40])},
            r"slot_mapping\[1\] is 1099511627776, expected less",
        ),
        ({"slot_mapping": np.zeros(3, np.int64)}, "slot_mapping has 3 entries, key has 2 tokens"),
        (
            {"slot_mapping": np.zeros(2, np.int16)},
            "slot_mapping has dtype int16, expected int64 or int32",
        ),
        (
            {"value": np.ones((2, 3, 4), np.float32)},
            r"value has shape \(2, 3, 4\), expected \(2, 1, any\)",
        ),
        ({"key_cache": np.ones((2, 4, 1, 5), np.float32)}, "key_cache has shape"),
        (
            {"value_cache": np.ones((3, 4, 1, 4), np.float32)},
            r"value_cache has shape \(3, 4, 1, 4\)",
        ),
        ({"value_cache": np.ones((2, 4, 1, 4), np.float16)}, "value_cache has dtype float16"),
        ({"key_cache": np.ones((2, 4, 1, 8), np.float32)[..., ::2]}, "key_cache has last stride 2"),
        (
            {"k_scale": np.ones(1, np.float32)},
            "key_cache has dtype float32, expected int8 or an 8-bit float where scales are given",
        ),
        ({"key_cache": np.ones((2, 1, 1, 4, 3), np.float32)}, "key_cache has x = 3 in dimension 4"),
        (
            {"key_cache": np.ones((2, 1, 1, 4, 8), np.float32)},
            "key_cache has x = 8, expected a div",
        ),
        (
            {"key_cache": np.ones((2, 1, 1, 4, 4), np.float32)},
            r"value_cache has shape \(2, 4, 1, 4\), expected \(2, 1, 4, 4\)",
        ),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    call = {
        "key": np.ones((2, 1, 4), np.float32),
        "value": np.ones((2, 1, 4), np.float32),
        "key_cache": np.full((2, 4, 1, 4), 7, np.float32),
        "value_cache": np.full((2, 4, 1, 4), 7, np.float32),
        "slot_mapping": np.array([1, 0]),
    } | arguments
    before = call["key_cache"].copy(), call["value_cache"].copy()
    with pytest.raises(ValueError, match=f"{OP}: {message}"):
        aiter.reshape_and_cache(**call)
    np.testing.assert_array_equal(call["key_cache"], before[0])
    np.testing.assert_array_equal(call["value_cache"], before[1])


def test_half_keys_go_into_no_other_cache():
    key, cache = np.ones((1, 1, 4), np.float16), np.ones((1, 1, 1, 4), np.float32)
    with pytest.raises(ValueError, match="key_cache has dtype float32, expected key's float16"):
        aiter.reshape_and_cache(key, key, cache, cache, np.array([0]))
    cache = np.ones((1, 1, 1, 4), np.float16)
    with pytest.raises(ValueError, match="kv_cache_dtype is 'fp8', expected 'auto'"):
        aiter.reshape_and_cache_flash(key, key, cache, cache, np.array([0]), "fp8")
    cache.flags.writeable = False
    with pytest.raises(ValueError, match="key_cache is read-only"):
        aiter.reshape_and_cache(key, key, cache, cache, np.array([0]))


@pytest.mark.parametrize(
    "scale, message",
    [
        (None, "k_scale or v_scale is NULL, expected arrays of scales"),
        (np.ones((1, 7), np.float32), "k_scale has 7 tokens, expected at least the cache's 8"),
        (np.ones((2, 8), np.float32), r"k_scale has shape \(2, 8\), expected \(1, any\)"),
        (np.ones((2, 1, 5), np.float32), r"k_scale has shape \(2, 1, 5\), expected \(2, 1, 4\)"),
        (np.ones((1, 8), np.float16), "k_scale has dtype float16, expected float32"),
    ],
)
def test_bad_scales_per_token(scale, message):
    key, cache = np.ones((2, 1, 4), np.float32), np.full((2, 4, 1, 4), 7, np.int8)
    with pytest.raises(ValueError, match=f"{OP}: {message}"):
        aiter.reshape_and_cache_with_pertoken_quant(
            key, key, cache, cache.copy(), scale, scale, np.array([1, 0])
        )
    assert (cache == 7).all()
