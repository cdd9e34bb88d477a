"""renorm_probs under its names: every row on every case; what is kept is compared exactly."""

import aiter
import cases_renorm_probs as cases
import numpy as np
import pytest
from aiter.testing import assert_close, assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("renorm_probs"), ids="-".join)
def row(request):
    with using("renorm_probs", *request.param):
        yield request.param


@pytest.mark.parametrize("case", CASES, ids=str)
def test_renorm(case, row):
    if case.get("place") == "cpu" and (":" in row[1] or row[0] == "cpu_ref"):
        pytest.skip("slow")
    x = cases.make(case)
    got = aiter.top_k_top_p_renorm_probs(x, **cases.options(case))
    want = cases.reference(x, **cases.options(case))
    tiny = want * 2.0**24 < 1 if case.dtype == "fp16" else want < 1e-37
    assert_equal((got != 0) | tiny, (want != 0) | tiny)
    assert_close(got, want, terms=case.vocab)


@pytest.mark.parametrize("filters", [*cases.FILTERS, {"top_k": 3000, "top_p": 0.6}], ids=str)
@pytest.mark.parametrize("batch, vocab, dtype", [(1, 151936, "fp32"), (40, 8200, "bf16")])
@pytest.mark.parametrize("row", [r for r in variants("renorm_probs") if "cuda" in r[1]] or [None])
def test_rows_that_blocks_share(row, batch, vocab, dtype, filters):
    if row is None:
        pytest.skip("for NVIDIA GPUs")
    case = cases._case("", batch=batch, vocab=vocab, dtype=dtype, **filters)
    x = cases.make(case)
    want = aiter.top_k_top_p_renorm_probs(x, **cases.options(case))
    with using("renorm_probs", *row):
        got = aiter.top_k_top_p_renorm_probs(x, **cases.options(case))
        alone = aiter.top_k_top_p_renorm_probs(x[-1:], **cases.options(case))
    assert_equal(got > 0, want > 0)
    assert_close(got, want.astype(np.float64), terms=case.vocab)
    assert_equal(alone, got[-1:])


def test_names(row):
    x = cases.make(cases._case("", batch=3))
    assert_equal(aiter.top_k_renorm_probs(x, 7), aiter.top_k_top_p_renorm_probs(x, 7))
    assert_equal(aiter.top_p_renorm_probs(x, 0.7), aiter.top_k_top_p_renorm_probs(x, 0, 0.7))
    assert_equal(aiter.min_p_renorm_probs(x, 0.2), aiter.top_k_top_p_renorm_probs(x, min_p=0.2))
    kept = [(aiter.top_k_renorm_probs(x, k) > 0).sum(axis=1).tolist() for k in (1, 7, 0)]
    assert kept == [[1] * 3, [7] * 3, [1000] * 3]


def test_options_of_each_row(row):
    x = cases.make(cases._case("", batch=5))
    arrays = {
        "top_k": np.array([0, 1, 5, 999, 5000]),
        "top_p": np.array([1, 0.9, 0.5, 0.1, 0], np.float32),
        "min_p": np.array([0, 0, 0.1, 0.01, 1], np.float32),
    }
    got = aiter.top_k_top_p_renorm_probs(x, **arrays)
    for r in range(5):
        own = {name: values[r].item() for name, values in arrays.items()}
        assert_equal(aiter.top_k_top_p_renorm_probs(x[r : r + 1], **own)[0], got[r])


def test_the_sampler_draws_what_is_kept():
    x = cases.make(cases._case("", batch=4, vocab=200))
    for filters in cases.FILTERS:
        options = cases.options(cases._case("", **filters))
        order = {"filter_apply_order": "top_k_first"} | options
        kept = aiter.top_k_top_p_renorm_probs(x, **order) > 0
        for offset in range(50):
            token = aiter.top_k_top_p_sampling_from_probs(x, offset=offset, **order)
            assert kept[range(4), token].all()


def test_in_place_and_strided(row):
    x = cases.make(cases._case("", batch=4, vocab=300))
    want = aiter.top_k_renorm_probs(x, 9)
    wide = np.full((4, 310), 7, np.float32)
    view = wide[:, 3:303]
    view[:] = x
    assert aiter.top_k_renorm_probs(view, 9, out=view) is view
    assert_equal(view, want)
    view[:] = 7
    assert (wide == 7).all()


def test_threads_and_rows_do_not_matter():
    x = cases.make(cases._case("", batch=16, vocab=5000))
    want = aiter.top_k_top_p_renorm_probs(x, 100, 0.8)
    with using(threads=1):
        assert_equal(aiter.top_k_top_p_renorm_probs(x, 100, 0.8), want)
    assert_equal(aiter.top_k_top_p_renorm_probs(x[5:6], 100, 0.8), want[5:6])


def test_every_option_matters():
    x = cases.make(cases._case("", batch=1))
    want = aiter.top_k_top_p_renorm_probs(x, 50, 0.8)
    for change in ({"top_k": 5}, {"top_p": 0.3}, {"min_p": 0.5}, {"filter_apply_order": "joint"}):
        assert (
            aiter.top_k_top_p_renorm_probs(x, **{"top_k": 50, "top_p": 0.8} | change) != want
        ).any()


F = np.float32


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"probs": np.ones((2, 0), F)}, "probs has vocab 0"),
        ({"probs": np.ones((2, 8))}, "probs has dtype float64"),
        ({"probs": np.ones(8, F)}, "probs has rank 1"),
        ({"probs": np.ones((3, 8), F)}, "out has shape"),
        ({"out": np.ones((2, 8), np.float16)}, "out has dtype float16, expected probs's float32"),
        ({"top_p": 1.5}, "opts.top_p is 1.5, expected 0 to 1"),
        ({"min_p": np.array([0.5, np.nan], F)}, "min_p has nan at flat index 1"),
        ({"top_k": np.ones(3, np.int32)}, r"top_k has shape \(3,\), expected \(2,\)"),
    ],
)
def test_bad_input(arguments, message):
    out = np.full((2, 8), 7, F)
    with pytest.raises(ValueError, match="renorm_probs: " + message):
        aiter.top_k_top_p_renorm_probs(**{"probs": np.ones((2, 8), F), "out": out} | arguments)
    assert (out == 7).all()
