"""Arrays of our own on a GPU, and other libraries' streams, before the recording mock driver."""

import os
import subprocess
import sys

import aiter
import numpy as np
import pytest
from aiter.testing import gpus

PROGRAM = """
import ctypes, os
import aiter

mock = ctypes.CDLL(os.environ["AITER_HIP_LIBRARY"])
mock.mock_log.restype = ctypes.c_char_p


def waits(array, stream):
    "The stream recorded and the one that waits, when the array is given to a consumer on `stream`."
    mock.mock_clear()
    array.__dlpack__(stream=stream)
    log = [line.split() for line in mock.mock_log().decode().splitlines() if "event" in line]
    found = [(name, *rest) for name, *rest in log if name in ("event_record", "stream_wait_event")]
    assert len(log) in (0, 4), log  # created and destroyed, too
    return [where for _, _, where in found]


a = aiter.zeros((4, 64), device="hip:0")
assert a.__dlpack_device__() == (10, 0)
assert waits(a, None) == waits(a, 0) == waits(a, -1) == []
assert waits(a, 0x77) == ["(nil)", "0x77"]

# A call on another stream writes it: consumers wait for that one. So do those of a view.
view = a[1:]
aiter.rms_norm(a, out=a, stream=0x55)
for array in (a, view):
    assert waits(array, 0x55) == waits(array, -1) == []
    assert waits(array, 0) == waits(array, None) == ["0x55", "(nil)"]
    assert waits(array, 0x77) == ["0x55", "0x77"]

aiter.explain(aiter.rms_norm, a, out=a, stream=0x66)  # writes nothing
assert waits(a, 0x55) == []
y = aiter.rms_norm(a, stream=0x99)
assert y.device == "hip:0" and waits(y, 0x99) == [] and waits(y, 0x55) == ["0x99", "0x55"]
assert waits(a, 0x55) == []  # was read alone
cuda = aiter.zeros(3, device="cuda:1")
assert waits(cuda, 1) == waits(cuda, None) == [] and waits(cuda, 2) == ["(nil)", "0x2"]
"""


def test_consumers_wait_for_the_last_writer(build_dir, package):
    mock = build_dir / "tests/cpp/libaiter_mock_driver.so"
    if not mock.exists():
        pytest.skip("built without AITER_BUILD_TESTS")
    if not (package / "lib/aiter_kernels/gfx942").is_dir():
        pytest.skip("no kernels were built for gfx942")
    environment = os.environ | {"AITER_HIP_LIBRARY": str(mock), "AITER_CUDA_LIBRARY": str(mock)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("device", gpus())
def test_a_graph_runs_again_with_other_contents(device):
    x, y = aiter.zeros((2, 64), device=device), aiter.zeros((2, 64), device=device)
    stream = aiter.Stream(device)
    assert stream.device == device
    aiter.prepare(device, "act_and_mul,rmsnorm")
    with aiter.capture(stream) as recording:
        aiter.rms_norm(x, out=y, stream=stream)
        aiter.rms_norm(y, out=y, eps=1.0, stream=stream)
    for seed in range(3):
        values = np.random.default_rng(seed).standard_normal((2, 64)).astype(np.float32)
        x[:] = values
        recording.graph.launch(stream)
        stream.synchronize()
        want = aiter.rms_norm(aiter.rms_norm(values), eps=1.0)
        np.testing.assert_allclose(aiter.to_device(y, "cpu").numpy(), want, rtol=1e-5)


@pytest.mark.parametrize("device", gpus())
def test_a_capture_ends_with_an_error_inside(device):
    x, stream = aiter.zeros((2, 64), device=device), aiter.Stream(device)
    aiter.rms_norm(x, out=x)
    with pytest.raises(ValueError), aiter.capture(stream):
        aiter.rms_norm(x, eps=-1.0, out=x, stream=stream)
    with aiter.capture(stream) as recording:
        aiter.rms_norm(x, out=x, stream=stream)
    recording.graph.launch(stream)
    stream.synchronize()
