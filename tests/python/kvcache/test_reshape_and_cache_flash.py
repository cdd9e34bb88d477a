"""reshape_and_cache_flash: every row on every case, exactly, for every instruction set."""

import aiter
import cases_reshape_and_cache_flash as cases
import numpy as np
import pytest
from aiter.testing import assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
OP = "reshape_and_cache_flash"


@pytest.fixture(params=variants(OP), ids="-".join)
def row(request):
    with using(OP, *request.param):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reshape_and_cache_flash(case, row):
    key, value, key_cache, value_cache, slots = cases.make(case)
    want = cases.reference(key, value, key_cache, value_cache, slots)
    assert aiter.reshape_and_cache_flash(key, value, key_cache, value_cache, slots) is None
    assert_equal(key_cache, want[0])
    assert_equal(value_cache, want[1])


def test_nan_payloads_are_copied(row):
    """The copy is of bits: it changes no NaN."""
    key = np.arange(64, dtype=np.uint16).reshape(1, 1, 64).view(np.float16) + np.float16(0)
    key.view(np.uint16)[...] = 0x7C01 + np.arange(64, dtype=np.uint16)
    key_cache, value_cache = (
        np.zeros((2, 2, 1, 64), np.float16),
        np.zeros((2, 2, 1, 64), np.float16),
    )
    aiter.reshape_and_cache_flash(key, key, key_cache, value_cache, np.array([2]))
    np.testing.assert_array_equal(key_cache[1, 0].view(np.uint16), key[0].view(np.uint16))


def test_outside_of_the_cache_nothing_is_written(row):
    """Canaries around the pages, and padding slots at both ends of int64."""
    key, value, *_ = cases.make(cases.CASES[2])
    around = np.full((5, 4, 2, 64), 7, np.float32)
    key_cache, value_cache = around[1:3], np.zeros((2, 4, 2, 64), np.float32)
    slots = np.array([-1, np.iinfo(np.int64).min, 0, 7, -8])
    aiter.reshape_and_cache_flash(key, value, key_cache, value_cache, slots)
    assert (around[[0, 3, 4]] == 7).all()
    np.testing.assert_array_equal(key_cache[0, 0], key[2])
    np.testing.assert_array_equal(key_cache[1, 3], key[3])
    assert (around == 7).sum() >= around.size - 2 * 128


def test_many_threads_agree():
    case = cases.Case("edge", tokens=500, heads=4, head_dim=64, pages=100, block=8, dtype="bf16")
    key, value, key_cache, value_cache, slots = cases.make(case)
    want = cases.reference(key, value, key_cache, value_cache, slots)
    with using(threads=3):
        aiter.reshape_and_cache_flash(key, value, key_cache, value_cache, slots)
    assert_equal(key_cache, want[0])
    assert_equal(value_cache, want[1])


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
        ({"k_scale": np.ones(1, np.float32)}, "k_scale or v_scale is given"),
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
        aiter.reshape_and_cache_flash(**call)
    np.testing.assert_array_equal(call["key_cache"], before[0])
    np.testing.assert_array_equal(call["value_cache"], before[1])


def test_half_keys_go_into_no_other_cache():
    key, cache = np.ones((1, 1, 4), np.float16), np.ones((1, 1, 1, 4), np.float32)
    with pytest.raises(ValueError, match="key_cache has dtype float32, expected key's float16"):
        aiter.reshape_and_cache_flash(key, key, cache, cache, np.array([0]))
    cache = np.ones((1, 1, 1, 4), np.float16)
    with pytest.raises(NotImplementedError, match="kv_cache_dtype is 'fp8', expected 'auto'"):
        aiter.reshape_and_cache_flash(key, key, cache, cache, np.array([0]), "fp8")
    cache.flags.writeable = False
    with pytest.raises(ValueError, match="key_cache is read-only"):
        aiter.reshape_and_cache_flash(key, key, cache, cache, np.array([0]))
