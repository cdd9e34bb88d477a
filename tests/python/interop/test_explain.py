"""aiter.explain: everything but the computation."""

import threading

import aiter
import numpy as np
import pytest

X = np.ones((2, 8), np.float32)


def test_nothing_is_written():
    out = np.full_like(X, 7)
    text = aiter.explain(aiter.rms_norm, X, out=out)
    assert text.startswith("rmsnorm: ") and " on cpu (" in text
    assert (out == 7).all()


def test_raises_what_the_call_raises_and_recovers():
    with pytest.raises(ValueError, match=r"rmsnorm: w has shape \(3,\), expected \(8,\)"):
        aiter.explain(aiter.rms_norm, X, np.ones(3, np.float32))
    with pytest.raises(ZeroDivisionError):
        aiter.explain(lambda: 1 / 0)
    np.testing.assert_allclose(aiter.rms_norm(X), 1, rtol=1e-5)


def test_several_calls_and_nesting():
    def model():
        aiter.rms_norm(X)
        inner = aiter.explain(aiter.rms_norm, X)
        assert inner.count("rmsnorm: ") == 1
        aiter.rmsnorm2d_fwd_with_add(X, X)

    assert aiter.explain(model).count("rmsnorm: ") == 2
    assert aiter.explain(lambda: None) == ""


def test_other_threads_compute():
    results = []

    def outer():
        thread = threading.Thread(target=lambda: results.append(aiter.rms_norm(X)))
        thread.start()
        thread.join()

    assert aiter.explain(outer) == ""
    np.testing.assert_allclose(results[0], 1, rtol=1e-5)


def test_every_operator():
    """The names in AITER's style reach operators that explain themselves."""
    table = aiter._aiter.dispatch_table()
    assert {line.split("\t")[0] for line in table.splitlines()} >= {"norm"}
    cache = np.zeros((2, 16, 1, 8), np.float32)
    key = np.ones((1, 1, 8), np.float32)
    text = aiter.explain(
        aiter.reshape_and_cache_flash, key, key, cache, cache.copy(), np.zeros(1, np.int64)
    )
    assert text.startswith("reshape_and_cache: ")
    assert not cache.any()
