"""indexer_qk_rope_quant_and_cache: every row on every case, beside float64 arithmetic.

The norm's sums differ in their order, so codes may be one rounding apart from the reference's; the
bound is half a step of the code, one of the rows' dtype, and what they do to the scale.
"""

import aiter
import cases_indexer_qk_rope_quant_and_cache as cases
import numpy as np
import pytest
from aiter.testing import using, variants
from paged import quant

CASES = [c for c in cases.CASES if c.tag != "perf"]
OP = "indexer_qk_rope_quant_and_cache"
ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-22}


@pytest.fixture(params=variants(OP), ids="-".join)
def row(request):
    with using(OP, *request.param):
        yield request.param


def assert_near(codes, scale, numbers, floor, code, ue8m0, dtype):
    """code * scale is the number, and the scale that of the largest one."""
    slack = 4 * ROUNDOFF[dtype.name]
    want = cases.scales(numbers, floor, code, ue8m0)
    # A power of two may be the next one where the amax is at its edge.
    ratio = scale / want
    assert ((np.abs(ratio - 1) <= slack) | (ue8m0 & np.isin(ratio, (0.5, 2.0)))).all()
    got = codes.view(quant.dtype_of(code)).astype(np.float64) * scale[..., None]
    largest = np.abs(numbers).max(axis=-1, keepdims=True, initial=0)
    step = np.abs(numbers) * 2.0**-4 + scale[..., None] * 2.0**-10
    assert (np.abs(got - numbers) <= step * 1.01 + slack * largest).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_indexer_qk_rope_quant_and_cache(case, row):
    arguments = cases.make(case)
    before = arguments["kv_cache"].copy()
    q64, k64 = cases.reference(**arguments)
    q_out, weights_out = aiter.indexer_qk_rope_quant_and_cache(**arguments)
    code, ue8m0 = arguments["cache_dtype"], case.get("ue8m0", False)
    dtype = arguments["q"].dtype
    weights = arguments["weights"].astype(np.float64) * arguments["weights_scale"]
    assert_near(q_out, weights_out / weights, q64, 1e-10, code, ue8m0, dtype)

    # The cache is read back by the operator that undoes it, one sequence of all pages.
    slots = arguments["slot_mapping"]
    capacity = case.pages * case.block
    codes, scale = aiter.cp_gather_indexer_k_quant_cache(
        arguments["kv_cache"], np.arange(case.pages)[None], np.array([0, capacity]), capacity,
        case.dim, case.dim, arguments["preshuffle"],
    )  # fmt: skip
    used = slots >= 0
    assert_near(codes[slots[used]], scale[slots[used], 0], k64[used], 1e-4, code, ue8m0, dtype)
    codes_before, scale_before = aiter.cp_gather_indexer_k_quant_cache(
        before, np.arange(case.pages)[None], np.array([0, capacity]), capacity,
        case.dim, case.dim, arguments["preshuffle"],
    )  # fmt: skip
    others = np.setdiff1d(np.arange(capacity), slots)
    np.testing.assert_array_equal(codes[others], codes_before[others])
    np.testing.assert_array_equal(scale[others], scale_before[others])


def test_the_comparison_would_notice(row):
    """Negative controls: a gain of 10 %, and a head that is not turned."""
    arguments = cases.make(CASES[0])
    q64, _ = cases.reference(**arguments)
    q_out, weights_out = aiter.indexer_qk_rope_quant_and_cache(**arguments)
    scale = weights_out / (arguments["weights"].astype(np.float64) * 0.25)
    dtype = arguments["q"].dtype
    for wrong in (q64 * 1.1, arguments["q"].astype(np.float64)):
        with pytest.raises(AssertionError):
            assert_near(q_out, scale, wrong, 1e-10, "float8_e4m3fn", False, dtype)


@pytest.mark.parametrize(
    "name", ["q", "weights", "k", "slot_mapping", "norm_weight", "norm_bias", "positions"]
)
def test_every_argument_matters(name, row):
    before, after = cases.make(CASES[0]), cases.make(CASES[0])
    changed = after[name]
    if changed.dtype.kind == "i":
        after[name] = changed[::-1].copy()
    else:
        after[name] = changed + changed.dtype.type(1) * (changed > 0).astype(changed.dtype)
    results = []
    for arguments in (before, after):
        out = aiter.indexer_qk_rope_quant_and_cache(**arguments)
        results.append((*out, arguments["kv_cache"]))
    changes = [(a.view(np.uint8) != b.view(np.uint8)).any() for a, b in zip(*results, strict=True)]
    assert changes == {
        "q": [True, True, False],
        "weights": [False, True, False],
        "positions": [True, True, True],
    }.get(name, [False, False, True])


def test_slots_out_of_range(row):
    arguments = cases.make(CASES[0])
    around = np.full((5, 16, 68), 7, np.uint8)
    arguments["kv_cache"] = around[1:-1]
    arguments["slot_mapping"] = np.array([48, 2**31 - 1, -1, 2**40] + [-1] * 5)
    try:
        aiter.indexer_qk_rope_quant_and_cache(**arguments)
    except ValueError as e:
        assert "slot_mapping[0] is 48" in str(e)
    assert (around == 7).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"k": np.ones((2, 6), np.float32)}, r"k has shape \(2, 6\), expected \(2, 8\)"),
        ({"epsilon": -1.0}, "opts.epsilon is -1, expected at least 0"),
        ({"norm_bias": np.ones(7, np.float32)}, r"norm_bias has shape \(7,\), expected \(8,\)"),
        ({"positions": np.array([0, 9])}, "positions has 9"),
        ({"kv_cache": np.ones((1, 2, 11), np.uint8)}, "kv_cache has 11 bytes a slot, expected at"),
        ({"slot_mapping": np.array([0, 2])}, r"slot_mapping\[1\] is 2, expected less than"),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    ones = np.ones((2, 1, 8), np.float32)
    call = {
        "q": ones,
        "weights": np.ones((2, 1), np.float32),
        "k": ones[:, 0],
        "kv_cache": np.full((1, 2, 12), 7, np.uint8),
        "slot_mapping": np.array([1, 0]),
        "norm_weight": np.ones(8, np.float32),
        "norm_bias": np.ones(8, np.float32),
        "positions": np.array([1, 0]),
        "cos_cache": np.ones((8, 2), np.float32),
        "sin_cache": np.ones((8, 2), np.float32),
    } | arguments
    before = call["kv_cache"].copy()
    with pytest.raises(ValueError, match=f"{OP}: {message}"):
        aiter.indexer_qk_rope_quant_and_cache(**call)
    np.testing.assert_array_equal(call["kv_cache"], before)
