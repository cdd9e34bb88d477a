"""Nothing is leaked, kept or freed too early."""

import contextlib
import gc
import sys
import threading
import weakref

import aiter
import numpy as np
import pytest
from producers import LegacyProducer, Producer

X = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
W = np.ones(8, np.float32)


def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


def torch_tensors():
    torch = pytest.importorskip("torch")
    return torch.from_numpy(X), torch.from_numpy(W)


def jax_arrays():
    jax = pytest.importorskip("jax")
    return jax.numpy.asarray(X), jax.numpy.asarray(W)


@pytest.mark.parametrize(
    "make, calls",
    [
        (lambda: (X, W), 10000),
        (lambda: (aiter.asarray(X), aiter.asarray(W)), 10000),
        (torch_tensors, 10000),
        (jax_arrays, 2000),
    ],
    ids=["numpy", "aiter", "torch", "jax"],
)
def test_calls_leave_nothing(make, calls):
    x, w = make()
    bad = np.ones(3, np.float32)

    def work(n):
        for _ in range(n):
            aiter.rms_norm(x, w)
            aiter.rmsnorm2d_fwd_with_add(x, x, w)
            with contextlib.suppress(ValueError):
                aiter.rms_norm(x, bad)

    work(200)
    gc.collect()
    counts = [sys.getrefcount(o) for o in (x, w, bad, type(x), None)][:4]
    before = resident()
    work(calls)
    gc.collect()
    assert [sys.getrefcount(o) for o in (x, w, bad, type(x))] == counts
    assert resident() - before < 8 << 20


@pytest.mark.parametrize("kind", [Producer, LegacyProducer])
def test_dlpack_tensors_are_given_back(kind):
    version = (1, 0) if kind is Producer else None
    x, w, out = kind(X, version=version), kind(W, version=version), kind(X.copy(), version=version)
    for _ in range(100):
        aiter.rms_norm(x, w, out=out)
        x.kept.clear(), w.kept.clear(), out.kept.clear()
    assert x.deleted == w.deleted == out.deleted == 100
    short = kind(np.ones(3, np.float32), version=version)
    with pytest.raises(ValueError):
        aiter.rms_norm(x, short)
    assert x.deleted == 101 and short.deleted == 1


def test_views_keep_their_producer():
    class Weak(Producer):
        pass

    producer = Weak(X.copy())
    gone = weakref.ref(producer)
    a = aiter.asarray(producer)
    view = a[1].view("uint8")
    del producer, a
    gc.collect()
    assert gone() is not None and gone().deleted == 0
    np.testing.assert_array_equal(view.view("float32").numpy(), X[1])
    deleted = gone()
    del view
    gc.collect()
    assert deleted.deleted == 1
    del deleted
    gc.collect()
    assert gone() is None


def test_numpy_views_keep_the_array():
    n = aiter.asarray(np.full((512, 512), 7, np.float32), copy=True)[3:].numpy()
    gc.collect()
    junk = [aiter.zeros((512, 512)) for _ in range(8)]
    assert (n == 7).all()
    del junk


def test_unused_capsules_are_freed():
    a = aiter.zeros(1 << 20)
    before = resident()
    for _ in range(200):
        aiter.zeros(1 << 20).__dlpack__()
        aiter.zeros(1 << 20).__dlpack__(max_version=(1, 0))
        aiter.asarray(a, copy=True)
    assert resident() - before < 64 << 20


def test_freed_on_another_thread():
    holder = [aiter.asarray(Producer(X.copy()))]
    producer_array = holder[0]
    capsule_view = np.from_dlpack(producer_array)
    del producer_array

    def drop():
        holder.clear()

    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()
    np.testing.assert_array_equal(capsule_view, X)


def test_threads():
    """Calls of several threads, small (GIL held) and large (released)."""
    large = np.random.default_rng(1).standard_normal((512, 256)).astype(np.float32)
    want = aiter.rms_norm(X), aiter.rms_norm(large)
    errors = []

    def work():
        try:
            for _ in range(50):
                np.testing.assert_array_equal(aiter.rms_norm(X), want[0])
                np.testing.assert_array_equal(aiter.rms_norm(large), want[1])
                with pytest.raises(ValueError, match=r"w has shape \(3,\)"):
                    aiter.rms_norm(X, np.ones(3, np.float32))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
