"""CuPy arrays. Without CuPy and a GPU, a stand-in over host memory shows which of its functions are
called and how."""

import sys

import aiter
import numpy as np
import pytest
from test_import import run

STAND_IN = """
import sys, types
import numpy as np

calls = []

class ndarray:
    def __init__(self, array):
        self.array = array
        self.dtype = array.dtype

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, stream=None, max_version=None, dl_device=None, copy=None):
        calls.append(("dlpack", stream))
        return self.array.__dlpack__()

class Device:
    def __init__(self, id):
        calls.append(("device", id))

    def __enter__(self):
        calls.append("enter")

    def __exit__(self, *_):
        calls.append("exit")

def empty(shape, dtype):
    calls.append(("empty", shape, dtype.name))
    if shape == (0, 0):
        raise MemoryError("CuPy is out of memory")
    return ndarray(np.empty(shape, dtype))

cupy, cuda = types.ModuleType("cupy"), types.ModuleType("cupy.cuda")
cupy.ndarray, cupy.empty, cupy.cuda, cuda.Device = ndarray, empty, cuda, Device
sys.modules.update({"cupy": cupy, "cupy.cuda": cuda})

import aiter
x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
y = aiter.rms_norm(ndarray(x))
assert type(y) is ndarray
np.testing.assert_array_equal(y.array, aiter.rms_norm(x))
assert calls == [("dlpack", None), ("device", 0), "enter", ("empty", (3, 8), "float32"), "exit",
                 ("dlpack", None)], calls
assert aiter.view(ndarray(x), "uint8").kind == "cupy"
calls.clear()
try:
    aiter.rms_norm(ndarray(np.ones((0, 0), np.float32)))
    raise SystemExit("no error")
except MemoryError as e:
    assert str(e) == "CuPy is out of memory"
assert calls[-1] == "exit"
"""


def test_stand_in():
    done = run(STAND_IN)
    assert done.returncode == 0, done.stderr


def test_cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        x = cupy.ones((3, 8), cupy.float32)
    except Exception as error:
        pytest.skip(f"CuPy has no GPU: {error}")
    with cupy.cuda.Stream(non_blocking=True):
        y = aiter.rms_norm(x)
    cupy.cuda.Device().synchronize()
    assert type(y) is cupy.ndarray
    np.testing.assert_allclose(cupy.asnumpy(y), 1, rtol=1e-5)
    assert "cupy" in sys.modules
