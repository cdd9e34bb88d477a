"""Arrays of any library through __dlpack__ and the C exchange API, by producers made by hand."""

import contextlib
import gc

import aiter
import numpy as np
import pytest
from producers import (
    COPIED,
    CUDA,
    READ_ONLY,
    ROCM,
    LegacyProducer,
    Producer,
    capsule_name,
    exchange_producer,
)

X = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: Producer(x),
        lambda x: Producer(x, version=None),
        lambda x: LegacyProducer(x, version=None),
        lambda x: Producer(x, version=(1, 99)),
        lambda x: Producer(x, strides=False),
        lambda x: Producer(x, offset=40),
        lambda x: Producer(x, flags=READ_ONLY),
        lambda x: exchange_producer((1, 0), None)(x),
    ],
    ids=[
        "versioned",
        "legacy capsule",
        "legacy signature",
        "newer minor",
        "no strides",
        "byte offset",
        "read-only",
        "exchange",
    ],
)
def test_inputs(make):
    for _ in range(2):  # the second time the type is known
        producer = make(X)
        got = aiter.rms_norm(producer)
        assert type(got) is aiter.Array
        np.testing.assert_array_equal(got.numpy(), aiter.rms_norm(X))
        if not hasattr(producer, "borrowed"):
            assert producer.deleted == 1
            assert capsule_name(producer.capsule).startswith(b"used_dltensor")
        else:
            assert producer.borrowed and not producer.calls


def test_arguments_of_dlpack():
    producer = Producer(X)
    aiter.rms_norm(producer)
    assert producer.calls == [{"max_version": (1, 3), "copy": False}]
    producer = LegacyProducer(X)
    aiter.rms_norm(producer)
    aiter.rms_norm(producer)
    assert producer.calls == [{}, {}]


def test_strides():
    wide = np.random.default_rng(1).standard_normal((6, 2, 16)).astype(np.float32)
    for x in (wide[:, 1, 4:12], wide[::-2, 0], wide[1:1], wide[:, :, :0], wide[2, 1]):
        np.testing.assert_array_equal(aiter.rms_norm(Producer(x)).numpy(), aiter.rms_norm(x.copy()))
    with pytest.raises(ValueError, match="last stride 2, expected 1"):
        aiter.rms_norm(Producer(wide[..., ::2]))
    with pytest.raises(ValueError, match="rank 0, expected at least 1"):
        aiter.rms_norm(Producer(wide[0, 0, 0:1].reshape(())))


def test_extents_that_overflow():
    huge = (2**40, 2**40)
    assert aiter.asarray(Producer(X, shape=huge)).nbytes == 2**63 - 1
    with pytest.raises(ValueError, match="rmsnorm: x has shape .*expected at most"):
        aiter.rms_norm(Producer(X, shape=huge), out=X.copy())
    with pytest.raises(MemoryError, match="no memory for float32"):
        aiter.rms_norm(Producer(X, shape=huge))
    nothing = (0, 2**40, 2**40, 2**40)
    assert aiter.asarray(Producer(X, shape=nothing, strides=False)).size == 0


def test_written_where_it_is():
    out = np.zeros_like(X)
    producer = Producer(out)
    assert aiter.rms_norm(X, out=producer) is producer
    np.testing.assert_array_equal(out, aiter.rms_norm(X))


@pytest.mark.parametrize("flag", [READ_ONLY, COPIED])
def test_read_only_output(flag):
    out = np.zeros_like(X)
    producer = Producer(out, flags=flag)
    with pytest.raises(ValueError, match="rmsnorm: out is read-only"):
        aiter.rms_norm(X, out=producer)
    assert producer.deleted == 1 and not out.any()


def test_producers_error_is_chained():
    error = RuntimeError("the moon is wrong\nand more")
    with pytest.raises(
        ValueError, match="^rmsnorm: x cannot be taken from its .*Producer: the moon is wrong$"
    ) as caught:
        aiter.rms_norm(Producer(X, raises=error))
    assert caught.value.__cause__ is error
    with pytest.raises(KeyboardInterrupt):
        aiter.rms_norm(Producer(X, raises=KeyboardInterrupt()))
    error = TypeError("no such thing")
    with pytest.raises(ValueError) as caught:
        aiter.rms_norm(Producer(X, raises=error))
    assert caught.value.__cause__ is error


def test_newer_major_version_is_refused():
    producer = Producer(X, version=(2, 0))
    with pytest.raises(ValueError, match=r"rmsnorm: x comes as DLPack 2.0, expected 1.x"):
        aiter.rms_norm(producer)
    assert capsule_name(producer.capsule) == b"dltensor_versioned"  # still the producer's


def test_what_is_no_array():
    class Empty:
        pass

    class Odd:
        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **_):
            return "text"

    for x in ([1.0], "text", 3, Empty(), object):
        with pytest.raises(TypeError, match=r"rmsnorm: x is a \w+.*, expected an array"):
            aiter.rms_norm(x)
    with pytest.raises(TypeError, match="rmsnorm: x gave a str from __dlpack__, expected"):
        aiter.rms_norm(Odd())
    with pytest.raises(ValueError, match="rmsnorm: x has rank 9, expected 0 to 8"):
        aiter.rms_norm(Producer(X.reshape((1,) * 7 + X.shape)))
    with pytest.raises(ValueError, match="rmsnorm: x is on device type 8, expected CPU"):
        aiter.rms_norm(Producer(X, device=(8, 0)))


@pytest.mark.parametrize("code, name", [(17, "float4_e2m1fnx2"), (0, "int4x2"), (1, "uint4x2")])
def test_packed_4_bit_elements(code, name):
    """One lane with twice the extent is the same memory as two lanes."""
    raw = np.arange(24, dtype=np.uint8).reshape(3, 8)
    double = np.lib.stride_tricks.as_strided(raw, (3, 16), (16, 1))
    one = aiter.asarray(Producer(double, dtype=(code, 4, 1)))
    two = aiter.asarray(Producer(raw, dtype=(code, 4, 2)))
    for array in (one, two):
        assert array.dtype == name and array.shape == (3, 8) and array.strides == (8, 1)
        np.testing.assert_array_equal(array.numpy(), raw)
    with pytest.raises(ValueError, match="an even number of neighbours"):
        aiter.asarray(Producer(double[:, :15], dtype=(code, 4, 1)))


# ---- streams: the memory is not really on a GPU, so nothing may run. Where there is none, the
# explanation fails, but only after the arrays were taken in ----


def explain(*arguments, **keywords):
    with contextlib.suppress(RuntimeError, NotImplementedError):
        aiter.explain(aiter.rms_norm, *arguments, **keywords)


def streams_asked(producer, **arguments):
    explain(producer, out=producer, **arguments)
    return [call["stream"] for call in producer.calls]


class WithHandle:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class WithProtocol:
    def __cuda_stream__(self):
        return (0, 77)


@pytest.mark.parametrize(
    "stream, number",
    [
        (None, 1),
        (0, 1),
        (1, 1),
        (2, 2),
        (77, 77),
        (WithHandle(cuda_stream=77), 77),
        (WithHandle(ptr=77), 77),
        (WithProtocol(), 77),
    ],
    ids=str,
)
def test_streams_on_cuda(stream, number):
    assert streams_asked(Producer(X.copy(), device=(CUDA, 0)), stream=stream) == [number] * 2


@pytest.mark.parametrize("stream, number", [(None, 0), (0, 0), (77, 77)])
def test_streams_on_rocm(stream, number):
    assert streams_asked(Producer(X.copy(), device=(ROCM, 1)), stream=stream) == [number] * 2


@pytest.mark.parametrize("stream", [1, 2])
def test_cuda_stream_numbers_on_rocm(stream):
    producer = Producer(X, device=(ROCM, 0))
    with pytest.raises(ValueError, match="on ROCm the default stream is 0"):
        aiter.rms_norm(producer, stream=stream)
    assert not producer.calls


@pytest.mark.parametrize(
    "stream, error, message",
    [
        ("x", TypeError, "stream is a str, expected an int"),
        (True, TypeError, "stream is a bool"),
        (1.5, TypeError, "stream is a float"),
        (-1, ValueError, "stream is negative or too large"),
        (2**70, ValueError, "stream is negative or too large"),
    ],
)
@pytest.mark.parametrize("device", [(1, 0), (CUDA, 0)])
def test_bad_streams(stream, error, message, device):
    with pytest.raises(error, match=message):
        aiter.rms_norm(Producer(X, device=device), stream=stream)


def test_exchange_on_the_producers_stream():
    """Nothing is asked of Python, and so nothing can wait."""
    kind = exchange_producer((CUDA, 0), 55)
    producer = kind(X.copy(), device=(CUDA, 0))
    assert streams_asked(producer) == [] and producer.borrowed == 2
    assert streams_asked(producer, stream=55) == []


def test_exchange_on_another_stream():
    """The producer is asked to let that stream wait for its own."""
    producer = exchange_producer((CUDA, 0), 55)(X.copy(), device=(CUDA, 0))
    assert streams_asked(producer, stream=66) == [66, 66]


def test_the_first_gpu_array_gives_the_stream():
    first = exchange_producer((CUDA, 0), 55)(X.copy(), device=(CUDA, 0))
    second = Producer(np.ones(8, np.float32), device=(CUDA, 0))
    explain(first, second, out=first)
    assert [call["stream"] for call in second.calls] == [55]


def test_cpu_arrays_are_asked_for_without_a_stream():
    producer = Producer(X.copy())
    aiter.rms_norm(producer, stream=77)
    assert "stream" not in producer.calls[0]


def test_exchange_that_fails_without_a_reason():
    producer = exchange_producer((1, 0), None)(X)
    producer.status = -1
    with pytest.raises(ValueError, match="rmsnorm: x cannot be taken from its") as caught:
        aiter.rms_norm(producer)
    assert isinstance(caught.value.__cause__, SystemError)


def test_types_come_and_go():
    """More types than are remembered, some of them freed."""
    for _ in range(3):
        for i in range(40):
            kind = type(f"Producer{i}", (Producer,), {})
            np.testing.assert_array_equal(aiter.rms_norm(kind(X)).numpy(), aiter.rms_norm(X))
        gc.collect()
