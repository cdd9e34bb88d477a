"""greedy_sample: every row on every case, for every instruction set, exactly."""

import aiter
import cases_greedy_sample as cases
import numpy as np
import pytest
from aiter.testing import assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("greedy_sample"), ids="-".join)
def row(request):
    with using("greedy_sample", *request.param):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_greedy_sample(case, row):
    logits = cases.make(case)
    assert_equal(aiter.greedy_sample(logits), cases.reference(logits))


def test_every_index_is_found(row):
    """The largest element at each place of a row that spans several blocks."""
    logits = np.zeros((2100, 2100), np.float32)
    np.fill_diagonal(logits, 1)
    assert_equal(aiter.greedy_sample(logits), np.arange(2100, dtype=np.int32))


def test_strides_and_int64(row):
    logits = cases.make(cases.CASES[2])
    wide = np.full((2 * len(logits), logits.shape[1] + 3), 1e9, np.float32)
    wide[::2, : logits.shape[1]] = logits
    out = np.full((len(logits), 2), 7, np.int64)
    aiter.greedy_sample(wide[::2, : logits.shape[1]], out=out[:, 0])
    assert_equal(out[:, 0], cases.reference(logits).astype(np.int64))
    assert (out[:, 1] == 7).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"logits": np.ones((2, 0), np.float32)}, "logits has vocab 0, expected 1 to"),
        ({"logits": np.ones(8, np.float32)}, "logits has rank 1"),
        ({"logits": np.ones((2, 8))}, "logits has dtype float64"),
        ({"logits": np.ones((2, 8), np.float32)[:, ::2]}, "logits has last stride 2, expected 1"),
        ({"logits": np.ones((3, 8), np.float32)}, r"out has shape \(2,\), expected \(3,\)"),
        ({"out": np.zeros(2, np.float32)}, "out has dtype float32, expected int32 or int64"),
    ],
)
def test_bad_input(arguments, message):
    out = np.full(2, 7, np.int32)
    with pytest.raises(ValueError, match="greedy_sample: " + message):
        aiter.greedy_sample(**{"logits": np.ones((2, 8), np.float32), "out": out} | arguments)
    assert (out == 7).all()
