"""NumPy arrays, those of ml_dtypes types too, in and out."""

import aiter
import ml_dtypes
import numpy as np
import pytest

X = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
EXTENDED = [
    "bfloat16",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
]
PLAIN = [
    "float16",
    "float32",
    "float64",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
    "complex64",
    "complex128",
]


def rms_norm(x):
    x = x.astype(np.float64)
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_results_are_numpy(dtype):
    x = X.astype(getattr(ml_dtypes, dtype, dtype))
    y = aiter.rms_norm(x)
    assert type(y) is np.ndarray and y.dtype == x.dtype and y.flags.writeable and y.flags.owndata
    np.testing.assert_allclose(y.astype(np.float64), rms_norm(x), rtol=1e-2)
    out = np.empty_like(x)
    assert aiter.rms_norm(x, out=out) is out
    np.testing.assert_array_equal(out, y)


@pytest.mark.parametrize("dtype", PLAIN + EXTENDED)
def test_every_dtype(dtype):
    """There and back: the name, the bytes, the memory."""
    x = np.arange(24, dtype=np.uint8).view(np.int8) % 2
    x = x.reshape(3, 8).astype(getattr(ml_dtypes, dtype, dtype))
    a = aiter.asarray(x)
    assert a.dtype == dtype and a.shape == (3, 8) and a.strides == (8, 1) and a.kind == "aiter"
    assert a.data_ptr == x.ctypes.data
    back = a.numpy()
    assert back.dtype == x.dtype and back.ctypes.data == x.ctypes.data
    assert back.tobytes() == x.tobytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_every_stride(dtype):
    x = np.arange(60, dtype=np.float32).reshape(3, 4, 5).astype(getattr(ml_dtypes, dtype, dtype))
    for view in (
        x[::2],
        x[:, ::-1],
        x.T,
        x[:, 1:3, ::2],
        x[1, 2, 3],
        x[:0],
        x[..., :0],
        x[None],
        np.broadcast_to(x[0, 0], (2, 5)),
        x.reshape(60)[7:],
    ):
        a = aiter.asarray(view)
        assert a.shape == view.shape and a.dtype == dtype
        assert a.strides == tuple(s // view.itemsize for s in view.strides)
        np.testing.assert_array_equal(a.numpy(), view)
        np.testing.assert_array_equal(a.copy().numpy(), view)


def test_read_only():
    x = X.copy()
    x.flags.writeable = False
    np.testing.assert_array_equal(aiter.rms_norm(x), aiter.rms_norm(X))
    with pytest.raises(ValueError, match="rmsnorm: out is read-only, expected"):
        aiter.rms_norm(X, out=x)
    assert aiter.asarray(x).readonly and not aiter.asarray(x).numpy().flags.writeable
    np.testing.assert_array_equal(x, X)


def record(fields, shape=(2, 4)):
    return np.zeros(shape, dtype=fields)


@pytest.mark.parametrize(
    "x, message",
    [
        (X.astype(">f4"), "x has swapped bytes, expected the machine's byte order"),
        (record([("a", "f4"), ("b", "i1")])["a"], "x is not aligned to its elements of 4 bytes"),
        (
            record([("a", "f4"), ("b", "f2"), ("c", "f2"), ("d", "f2")])["b"],
            "x has a stride of 10 bytes in dimension 0|not a multiple|x has last stride 5",
        ),
        (record([("a", "f4")]), r"x has NumPy dtype \[\('a', '<f4'\)\], expected a number type"),
        (np.array([["a"]]), "x has NumPy dtype <U1, expected a number type"),
        (np.array([[object()]]), "x has NumPy dtype object, expected a number type"),
        (np.zeros((2, 2), "M8[s]"), "x has NumPy dtype datetime64"),
        (np.ones((2, 4), ml_dtypes.int4), "x has NumPy dtype int4, .*pack it first"),
        (np.ones((1,) * 9), "x has rank 9, expected 0 to 8"),
        (np.float32(3), "x has rank 0, expected at least 1"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_refused(x, message):
    with pytest.raises(ValueError, match=f"^rmsnorm: ({message})"):
        aiter.rms_norm(x)


@pytest.mark.parametrize("dtype", ["int4", "uint4", "float4_e2m1fn"])
def test_4_bit_types_are_packed(dtype):
    """NumPy has one element a byte, all others two: the first in the lower half."""
    values = np.array([[0, 1, 2, 3], [4, 6, 1, 0]]).astype(getattr(ml_dtypes, dtype))
    codes = values.view(np.uint8) & 15
    a = aiter.asarray(values)
    assert a.dtype == dtype + "x2" and a.shape == (2, 2)
    np.testing.assert_array_equal(a.numpy(), codes[:, ::2] | codes[:, 1::2] << 4)
    with pytest.raises(ValueError, match="odd"):
        aiter.asarray(values[:, :3])
    with pytest.raises(ValueError, match="holds one element a byte"):
        aiter.asarray(values, copy=False)


def test_subclasses():
    class Mine(np.ndarray):
        pass

    y = aiter.rms_norm(X.view(Mine))
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, aiter.rms_norm(X))


def test_views_of_bytes():
    """uint8 and uint16 arrays with an explicit dtype; the result is of the array's kind."""
    x = X.astype(ml_dtypes.bfloat16)
    y = aiter.rms_norm(aiter.view(x.view(np.uint16), "bfloat16"))
    assert type(y) is np.ndarray and y.dtype == x.dtype
    np.testing.assert_array_equal(y, aiter.rms_norm(x))
    out = np.zeros(x.shape, np.uint16)
    view = aiter.view(out, "bfloat16")
    assert aiter.rms_norm(x, out=view) is view
    np.testing.assert_array_equal(out.view(x.dtype), y)


def test_a_thousand_dtype_objects():
    """Copies of a dtype object are as good as the one."""
    for _ in range(1000):
        dtype = np.dtype(ml_dtypes.bfloat16, copy=True)
        assert aiter.asarray(np.ones(2, dtype)).dtype == "bfloat16"
