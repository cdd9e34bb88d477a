"""reshape_and_cache_with_block_quant: every row on every case, exactly."""

import aiter
import cases_reshape_and_cache_with_block_quant as cases
import numpy as np
import pytest
from aiter.testing import Case, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
OP = "reshape_and_cache_with_block_quant"


@pytest.fixture(params=variants(OP), ids="-".join)
def row(request):
    with using(OP, *request.param):
        yield request.param


def write(state, key, value, slots, **options):
    return aiter.reshape_and_cache_with_block_quant(
        key,
        value,
        state["key_cache"],
        state["value_cache"],
        state["k_scale"],
        state["v_scale"],
        slots,
        **options,
    )


def assert_states(got, want):
    for name in want:
        bits = np.uint8 if got[name].itemsize == 1 else np.uint32
        np.testing.assert_array_equal(
            np.ascontiguousarray(got[name]).view(bits),
            np.ascontiguousarray(want[name]).view(bits),
            err_msg=name,
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reshape_and_cache_with_block_quant(case, row):
    state, calls = cases.make(case)
    page_slots = case.get("page_slots", case.block)
    for key, value, slots in calls:
        want = cases.reference(
            state, key, value, slots, case.code, case.get("layout", "flash"), page_slots
        )
        assert write(state, key, value, slots, page_slots=case.get("page_slots", 0)) is None
        assert_states(state, want)


def test_what_is_read_back_is_near(row):
    """After pages whose scale grew from call to call, numbers are within two roundings."""
    state, _ = cases.make(CASES[0])
    rng = np.random.default_rng(1)
    numbers = (rng.standard_normal((16, 2, 32)) * np.arange(1, 17)[:, None, None]).astype(
        np.float32
    )
    for t in range(16):
        write(state, numbers[t : t + 1], numbers[t : t + 1], np.array([t]))
    table, lengths = np.zeros((1, 1), np.int32), np.array([0, 16], np.int32)
    key, _ = aiter.gather_cache(
        state["key_cache"], state["value_cache"], table, lengths, 16,
        state["k_scale"], state["v_scale"], "float32", quant="page",
    )  # fmt: skip
    scale = state["k_scale"][:, 0]
    np.testing.assert_allclose(scale, np.abs(numbers).max((0, 2)) / 127, rtol=1e-6)
    error = np.abs(key - numbers).max((0, 2))
    assert (error <= 16 * scale).all() and (error >= scale / 4).all()


@pytest.mark.parametrize("slots", [np.int32, np.int64])
def test_slots_past_the_cache_write_nothing(slots, row):
    state, _ = cases.make(CASES[0])
    capacity = 6 * 16
    whole = {}
    for name in ("key_cache", "value_cache"):
        whole[name] = np.full((8, *state[name].shape[1:]), 7, np.int8)
        state[name] = whole[name][1:-1]
    for name in ("k_scale", "v_scale"):
        whole[name] = np.full((4, 6), 7, np.float32)
        state[name] = whole[name][1:-1]
    rows = np.ones((4, 2, 32), np.float32)
    try:
        write(state, rows, rows, np.array([capacity, 3, -1, 2**31 - 1], slots))
    except ValueError as e:
        assert "slot_mapping[0] is 96, expected less than the cache's 96 slots" in str(e)
        assert all((a == 7).all() for a in whole.values())
    else:
        assert all((a[[0, -1]] == 7).all() for a in whole.values())
        # slot 3 alone: 7 is larger than the scale that its ones need
        assert (whole["k_scale"] == 7).all()
        assert (state["key_cache"] != 7).sum() == 64


def test_nan_in_other_pages_and_in_stale_scales_changes_nothing(row):
    case = CASES[0]
    (clean, calls), (poisoned, _) = cases.make(case), cases.make(case)
    key, value, slots = calls[0]
    used = np.unique(slots // 16)
    for name in ("key_cache", "value_cache", "k_scale", "v_scale"):
        if name.endswith("scale"):
            poisoned[name][...] = np.nan
        else:
            poisoned[name][np.setdiff1d(np.arange(6), used)] = 99
    write(clean, key, value, slots)
    write(poisoned, key, value, slots)
    for name in ("k_scale", "v_scale"):
        np.testing.assert_array_equal(poisoned[name][:, used], clean[name][:, used])
    np.testing.assert_array_equal(poisoned["key_cache"][used], clean["key_cache"][used])


def test_page_of_the_largest_size(row):
    case = Case("edge", lengths=((8190,), (2,)), heads=1, head_dim=4, pages=1, block=8192,
                dtype="fp32", code="int8")  # fmt: skip
    if ":" in row[1]:
        pytest.skip("too much for the emulator")
    state, calls = cases.make(case)
    for key, value, slots in calls:
        want = cases.reference(state, key, value, slots, "int8", "flash", 8192)
        write(state, key, value, slots)
        assert_states(state, want)


def test_many_threads_agree():
    case = cases.CASES[0]
    (one, calls), (many, _) = cases.make(case), cases.make(case)
    for call in calls:
        with using(threads=1):
            write(one, *call)
        with using(threads=3):
            write(many, *call)
    assert_states(many, one)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"page_slots": 6}, "opts.page_slots is 6, expected a multiple of the page's 4 slots"),
        ({"page_slots": 12}, "key_cache has 2 pages, expected a multiple of the 3 that share"),
        ({"page_slots": 1 << 20}, "opts.page_slots is 1048576, expected"),
        (
            {"k_scale": np.ones((1, 3), np.float32)},
            r"k_scale has shape \(1, 3\), expected \(1, 2\)",
        ),
        ({"v_scale": np.ones((1, 2), np.float16)}, "v_scale has dtype float16, expected float32"),
        ({"key_cache": np.ones((2, 4, 1, 4), np.float32)}, "key_cache has dtype float32, expected"),
        ({"slots": np.array([0, 8])}, r"slot_mapping\[1\] is 8, expected less than the cache's 8"),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    call = {
        "key": np.ones((2, 1, 4), np.float32),
        "value": np.ones((2, 1, 4), np.float32),
        "slots": np.array([1, 0]),
    }
    state = {
        "key_cache": np.full((2, 4, 1, 4), 7, np.int8),
        "value_cache": np.full((2, 4, 1, 4), 7, np.int8),
        "k_scale": np.full((1, 2), 7, np.float32),
        "v_scale": np.full((1, 2), 7, np.float32),
    }
    for name, value in arguments.items():
        (state if name in state else call)[name] = value
    before = {name: array.copy() for name, array in state.items()}
    with pytest.raises(ValueError, match=f"{OP}: {message}"):
        write(state, **call)
    for name in before:
        np.testing.assert_array_equal(state[name], before[name])
