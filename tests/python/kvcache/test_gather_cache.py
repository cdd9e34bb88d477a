"""gather_cache: every row on every case, exactly."""

import aiter
import cases_gather_cache as cases
import numpy as np
import pytest
from aiter.testing import assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
OP = "gather_cache"


@pytest.fixture(params=variants(OP), ids="-".join)
def row(request):
    with using(OP, *request.param):
        yield request.param


def gather(arguments, **options):
    got = aiter.gather_cache(**arguments, **options)
    return got if isinstance(got, tuple) else (got,)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gather_cache(case, row):
    arguments = cases.make(case)
    want = cases.reference(case.get("layout", "flash"), case.get("v_dim"), **arguments)
    got = gather(arguments)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        if g.itemsize == 1:
            g, w = g.view(np.uint8), w.view(np.uint8)
        assert_equal(g, w)


def test_rows_past_the_last_sequence_stay(row):
    arguments = cases.make(CASES[0])
    out = tuple(np.full((45, 2, 32), 7, arguments["key_cache"].dtype) for _ in range(2))
    arguments["tokens"] = 45
    key, value = gather(arguments, out=out)
    assert (key[39:] == 7).all() and (value[39:] == 7).all() and (key[:39] != 7).any()


def test_pages_outside_of_the_cache_are_never_read(row):
    """The CPU refuses them, and a table that is too short; on a GPU such tokens are 0."""
    arguments = cases.make(CASES[0])
    for page, message in ((9, "is 9 at"), (-1, "is -1 at"), (None, "has 1 pages a sequence")):
        call = dict(arguments)
        if page is None:
            call["block_table"] = call["block_table"][:, :1].copy()
        else:
            call["block_table"] = call["block_table"].copy()
            call["block_table"][0, 1] = page
        try:
            key, _ = gather(call)
        except ValueError as e:
            assert f"block_table {message}" in str(e)
        else:
            want, _ = gather(arguments)
            assert (key[16:20] == 0).all()
            np.testing.assert_array_equal(key[:16], want[:16])
            np.testing.assert_array_equal(key[20:], want[20:])


def test_nan_in_other_slots_changes_nothing(row):
    arguments = cases.make(CASES[0])
    want = gather(arguments)
    used = {int(p) for p in arguments["block_table"].ravel() if p >= 0}
    poisoned = dict(arguments)
    for name in ("key_cache", "value_cache"):
        poisoned[name] = arguments[name].copy()
        for page in set(range(9)) - used:
            poisoned[name][page] = np.nan
    poisoned["key_cache"][arguments["block_table"][0, 1], 4:] = np.nan  # behind the sequence
    for g, w in zip(gather(poisoned), want, strict=True):
        assert_equal(g, w)


def test_many_threads_agree():
    case = cases.Case("edge", lengths=(300, 0, 211), heads=2, head_dim=32, pages=40, block=16,
                      dtype="bf16")  # fmt: skip
    arguments = cases.make(case)
    with using(threads=1):
        one = gather(arguments)
    with using(threads=3):
        many = gather(arguments)
    for a, b in zip(one, many, strict=True):
        assert_equal(a, b)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"cu_seq_lens": np.array([1, 5])}, "cu_seqlens begins with 1, expected 0"),
        ({"cu_seq_lens": np.array([0, 6])}, "cu_seqlens is 6 at 1, expected 0 to the 5 tokens"),
        ({"cu_seq_lens": np.array([0, -1])}, "cu_seqlens is -1 at 1"),
        ({"cu_seq_lens": np.array([0])}, r"cu_seqlens has shape \(1,\), expected \(2,\)"),
        ({"block_table": np.zeros((1, 2))}, "block_table has dtype float64"),
        ({"dtype": "float32", "quant": "token"}, "k_scale or v_scale is NULL"),
        ({"dtype": "int8"}, "key has dtype int8|key_cache has dtype float16"),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    cache = np.ones((3, 4, 1, 4), np.int8 if "quant" in arguments else np.float16)
    call = {
        "key_cache": cache,
        "value_cache": cache,
        "block_table": np.array([[2, 0]]),
        "cu_seq_lens": np.array([0, 5]),
        "tokens": 5,
    } | arguments
    with pytest.raises(ValueError, match=f"{OP}: ({message})"):
        aiter.gather_cache(**call)
