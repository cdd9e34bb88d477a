"""aiter.Array: what empty, zeros, asarray, view and to_device make."""

import ctypes

import aiter
import ml_dtypes
import numpy as np
import pytest
from producers import DLTensor, Exchange, exchange_of


def test_new():
    a = aiter.empty((2, 3), "bfloat16")
    assert (a.shape, a.strides, a.ndim, a.size) == ((2, 3), (3, 1), 2, 6)
    assert (a.dtype, a.itemsize, a.nbytes, a.device) == ("bfloat16", 2, 12, "cpu")
    assert a.data_ptr % 64 == 0 and not a.readonly and len(a) == 2
    assert repr(a) == "aiter.Array(shape=(2, 3), dtype=bfloat16, device=cpu)"
    assert type(a).__module__ == "aiter"
    assert not aiter.zeros(100000).numpy().any()
    assert aiter.empty(3).shape == (3,) and aiter.empty(()).shape == ()
    assert aiter.empty([2, 2]).dtype == "float32" and aiter.empty((0, 5)).nbytes == 0
    assert aiter.empty((2, 3), "float4_e2m1fnx2").nbytes == 6


@pytest.mark.parametrize("dtype", [np.float16, np.dtype("float16"), "float16", np.dtype("<f2")])
def test_dtype_objects(dtype):
    assert aiter.empty(2, dtype).dtype == "float16"
    assert aiter.empty(2, ml_dtypes.bfloat16).dtype == "bfloat16"
    assert aiter.empty(2, np.dtype(ml_dtypes.float8_e4m3fnuz)).dtype == "float8_e4m3fnuz"


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"shape": -1}, ValueError, r"the shape \(-1,\) is negative"),
        ({"shape": 2**62}, MemoryError, "no memory for float32 of shape"),
        ({"shape": (2**40, 2**40)}, MemoryError, "no memory for float32 of shape"),
        ({"shape": (1,) * 9}, ValueError, "at most 8 dimensions"),
        ({"shape": (2, 3), "dtype": "float8"}, ValueError, "unknown dtype float8"),
        ({"shape": 2, "dtype": ""}, ValueError, "unknown dtype"),
        ({"shape": 2, "dtype": np.dtype(">f4")}, ValueError, "unknown dtype >f4"),
        ({"shape": 2, "device": "tpu"}, ValueError, "unknown device tpu, expected cpu, cuda:N or"),
        ({"shape": 2, "device": "cuda:x"}, ValueError, "unknown device cuda:x"),
        ({"shape": 2, "device": "cpu:1"}, ValueError, "unknown device cpu:1"),
        ({"shape": 2, "device": "cuda:"}, ValueError, "unknown device cuda:"),
        ({"shape": "ab"}, ValueError, "invalid literal for int"),
        ({"shape": 2.5}, TypeError, "not iterable"),
    ],
    ids=str,
)
def test_new_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        aiter.empty(**arguments)


def test_indexing():
    n = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    a = aiter.asarray(n)
    for key in (
        0,
        -1,
        slice(1, None),
        slice(None, None, -1),
        slice(5, 9),
        (1, 2),
        (1, 2, 3),
        ...,
        (..., 2),
        (0, ...),
        (slice(None), slice(0, 4, 2)),
        (-1, ..., slice(4, 0, -2)),
        np.int64(2),
        (),
        (slice(2, 1),),
    ):
        assert n[key].size < 2 or a[key].data_ptr == n[key].ctypes.data
        np.testing.assert_array_equal(a[key].numpy(), n[key])
    assert [x.shape for x in a] == [(4, 5)] * 3
    for key in (3, -4, (0, 0, 0, 0), (0, 4), (..., ...)):
        with pytest.raises(IndexError):
            a[key]
    for key in ("x", 1.0, None, [0]):
        with pytest.raises(TypeError, match="indexed by integers, slices"):
            a[key]
    with pytest.raises(TypeError, match="rank 0"):
        len(a[0, 0, 0])


def test_assignment():
    a = aiter.zeros((4, 6))
    n = np.zeros((4, 6), np.float32)
    for key, value in (
        (1, np.arange(6, dtype=np.float32)),
        ((slice(None), slice(0, 6, 2)), np.arange(12, dtype=np.float32).reshape(4, 3)[::-1]),
        ((2, 3), np.float32(7)),
        (..., np.arange(24, dtype=np.float32).reshape(6, 4).T),
    ):
        a[key] = value
        n[key] = value
        np.testing.assert_array_equal(a.numpy(), n)
    a[...] = a  # itself
    np.testing.assert_array_equal(a.numpy(), n)
    for value in (np.zeros(5, np.float32), np.zeros(6), np.zeros((1, 6), np.float32)):
        with pytest.raises(ValueError, match=r"assignment of .* to \(6,\) float32"):
            a[0] = value
    with pytest.raises(TypeError, match="assignment: x is a int"):
        a[0] = 3
    np.testing.assert_array_equal(a.numpy(), n)


def test_overlapping_assignment():
    for to, source in (
        (slice(1, 9), slice(0, 8)),
        (slice(0, 8), slice(1, 9)),
        (slice(0, 10), slice(None, None, -1)),
    ):
        n = np.arange(10, dtype=np.float32)
        a = aiter.asarray(n, copy=True)
        a[to] = a[source]
        n[to] = n[source].copy()
        np.testing.assert_array_equal(a.numpy(), n)


def test_reshape():
    n = np.arange(24, dtype=np.int32)
    a = aiter.asarray(n)
    for shape in ((4, 6), (2, -1), (-1,), (1, 24, 1), (2, 3, 4)):
        np.testing.assert_array_equal(a.reshape(shape).numpy(), n.reshape(shape))
        np.testing.assert_array_equal(a.reshape(*shape).numpy(), n.reshape(shape))
    assert aiter.empty((0, 3)).reshape(-1, 7).shape == (0, 7)
    for shape in ((5, 5), (-1, -1), (7, -1), (-2, 12), (2**33, 2**33)):
        with pytest.raises(ValueError, match="reshape"):
            a.reshape(shape)
    with pytest.raises(ValueError, match="reshape"):
        a[:4].reshape(2**33, 2**33)  # 4 elements, modulo 2^64
    with pytest.raises(ValueError, match="not contiguous"):
        a.reshape(4, 6)[:, :3].reshape(12)


def test_view():
    n = np.arange(24, dtype=np.uint8).reshape(2, 12)
    a = aiter.asarray(n)
    for dtype in ("uint32", "int16", "uint8", "int64"):
        if dtype == "int64":
            with pytest.raises(ValueError, match="no whole elements of int64"):
                a.view(dtype)
        else:
            np.testing.assert_array_equal(a.view(dtype).numpy(), n.view(dtype))
            np.testing.assert_array_equal(a.view(dtype).view("uint8").numpy(), n)
    assert a.view("float8_e4m3fn").numpy().dtype == ml_dtypes.float8_e4m3fn
    assert aiter.view(n, "float4_e2m1fnx2").shape == (2, 12)
    with pytest.raises(ValueError, match="side by side"):
        a[:, ::2].view("uint16")
    with pytest.raises(ValueError, match="rows do not begin at whole elements"):
        aiter.asarray(np.zeros((2, 15), np.uint8))[:, :8].view("uint16")


def test_asarray():
    n = np.arange(8, dtype=np.uint8)
    assert aiter.asarray(n).data_ptr == n.ctypes.data
    assert aiter.asarray(n, copy=False).data_ptr == n.ctypes.data
    copy = aiter.asarray(n, copy=True)
    n[0] = 99
    assert copy.numpy()[0] == 0
    assert aiter.asarray(n, "float8_e8m0fnu").dtype == "float8_e8m0fnu"
    assert aiter.asarray(n, "uint8").dtype == "uint8"
    with pytest.raises(ValueError, match="asarray: x has dtype float32, expected float16"):
        aiter.asarray(np.ones(3, np.float32), "float16")
    with pytest.raises(TypeError, match="asarray: x is a list, expected an array"):
        aiter.asarray([1, 2])
    a = aiter.empty(3)
    assert aiter.asarray(a).data_ptr == a.data_ptr


def test_to_device():
    n = np.ones(3, np.float32)
    assert aiter.to_device(n, "cpu").data_ptr == n.ctypes.data
    assert aiter.to_device(n, (1, 0)).device == "cpu"


def test_numpy_protocols():
    a = aiter.asarray(np.arange(6, dtype=np.float32).reshape(2, 3), copy=True)
    assert np.asarray(a).ctypes.data == a.data_ptr
    assert np.from_dlpack(a).ctypes.data == a.data_ptr
    assert np.array(a).ctypes.data != a.data_ptr
    assert np.asarray(a, dtype=np.float64).dtype == np.float64
    a = aiter.asarray(np.ones((2, 3), ml_dtypes.bfloat16))
    assert np.asarray(a).dtype == ml_dtypes.bfloat16
    assert np.array(a, copy=True).ctypes.data != a.data_ptr
    assert not hasattr(a, "__array_interface__")


def test_dlpack_export():
    a = aiter.zeros((2, 3))
    assert a.__dlpack_device__() == (1, 0)
    assert '"dltensor"' in repr(a.__dlpack__())
    assert '"dltensor_versioned"' in repr(a.__dlpack__(max_version=(1, 0)))
    assert '"dltensor"' in repr(a.__dlpack__(max_version=(0, 8)))
    assert aiter.asarray(np.from_dlpack(a)).data_ptr == a.data_ptr
    with pytest.raises(BufferError, match="not on cuda:0"):
        a.__dlpack__(dl_device=(2, 0))
    n = np.zeros(3)
    n.flags.writeable = False
    with pytest.raises(BufferError, match="read-only"):
        aiter.asarray(n).__dlpack__()
    assert not np.from_dlpack(aiter.asarray(n)).flags.writeable

    class Copy:
        def __dlpack_device__(self):
            return a.__dlpack_device__()

        def __dlpack__(self, **arguments):
            return a.__dlpack__(**arguments | {"copy": True})

    assert aiter.asarray(Copy()).data_ptr != a.data_ptr
    with pytest.raises(ValueError, match="out is read-only"):
        aiter.rms_norm(a, out=Copy())


def test_arrays_as_arguments():
    x = np.random.default_rng(0).standard_normal((4, 16)).astype(ml_dtypes.bfloat16)
    y = aiter.rms_norm(aiter.asarray(x))
    assert type(y) is aiter.Array and y.dtype == "bfloat16"
    np.testing.assert_array_equal(y.numpy(), aiter.rms_norm(x))
    out = aiter.empty((4, 16), "bfloat16")
    assert aiter.rms_norm(x, out=out) is out
    np.testing.assert_array_equal(out.numpy(), y.numpy())


def test_exchange_api():
    """aiter.Array by the DLPack C exchange API, as tvm-ffi would use it."""
    api = exchange_of(aiter.Array)
    assert (api.major, api.minor, api.previous) == (1, 3, None)
    x = aiter.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))[:, 1:3]

    tensor = DLTensor()
    assert api.borrow(x, ctypes.byref(tensor)) == 0
    assert (tensor.data, tensor.ndim, tensor.code, tensor.bits) == (x.data_ptr, 2, 2, 32)
    assert tensor.shape[:2] == [3, 2] and tensor.strides[:2] == [4, 1]
    stream = ctypes.c_void_p(1)
    assert api.current_stream(1, 0, ctypes.byref(stream)) == 0 and not stream.value

    managed = Exchange.Managed()
    assert api.export_managed(x, ctypes.byref(managed)) == 0
    slot = ctypes.py_object()
    assert api.import_managed(managed, ctypes.byref(slot)) == 0
    back = slot.value
    ctypes.pythonapi.Py_DecRef(slot)  # the slot's own reference
    assert back.data_ptr == x.data_ptr and back.strides == (4, 1)
    np.testing.assert_array_equal(back.numpy(), x.numpy())

    errors = []
    error = Exchange.Error(lambda _, kind, text: errors.append((kind, text)))
    assert api.allocate(ctypes.byref(tensor), ctypes.byref(managed), None, error) == 0
    made = managed.contents
    assert made.tensor.data % 64 == 0 and made.tensor.shape[:2] == [3, 2]
    made.deleter(ctypes.addressof(made))
    tensor.shape[0] = -1
    assert api.allocate(ctypes.byref(tensor), ctypes.byref(managed), None, error) == -1
    tensor.shape[0] = 3
    assert errors == [(b"ValueError", b"the shape (-1, 2) is negative")]

    with pytest.raises(TypeError, match="no aiter.Array"):
        api.borrow("text", ctypes.byref(tensor))
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    with pytest.raises(BufferError, match="read-only"):
        api.borrow(aiter.asarray(frozen), ctypes.byref(tensor))


def test_tvm_ffi():
    tvm_ffi = pytest.importorskip("tvm_ffi")
    x = aiter.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    tensor = tvm_ffi.from_dlpack(x)
    assert tuple(tensor.shape) == (2, 3)
    np.testing.assert_array_equal(aiter.rms_norm(tensor).numpy(), aiter.rms_norm(x).numpy())
