"""What operators ask of a driver, seen by the recording mock driver (tests/cpp/launch)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def environment(build_dir):
    mock = build_dir / "tests/cpp/libaiter_mock_driver.so"
    if not mock.exists():
        pytest.skip("built without AITER_BUILD_TESTS")
    return {
        **os.environ,
        "AITER_HIP_LIBRARY": str(mock),
        "AITER_CUDA_LIBRARY": str(mock),
    }


def run(environment, *command):
    result = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("kind", ["hip", "cuda"])
def test_every_operator_launches_and_does_nothing_else(
    environment, package, build_dir, tmp_path, kind
):
    """On the caller's stream and the tensors' device; no allocation, copy, wait or load."""
    if kind == "hip" and not (package / "lib/aiter_kernels/gfx942").is_dir():
        pytest.skip("no kernels were built for gfx942")
    clang = re.search(r"clang: (.+)\)", (build_dir / "kernels.txt").read_text())
    environment = {
        **environment,
        **({"AITER_CLANG": clang[1]} if clang else {}),
        "AITER_CACHE_DIR": str(tmp_path),
    }
    mock = environment["AITER_HIP_LIBRARY"]
    assert run(environment, HERE / "mock_calls.py", mock, f"{kind}:1") == ""


def test_devices_of_both_kinds(environment):
    code = "import aiter; print(aiter.devices())"
    assert run(environment, "-c", code) == "['cpu', 'cuda:0', 'cuda:1', 'hip:0', 'hip:1']\n"


def test_import_opens_no_driver(environment):
    """Not even a driver that is there."""
    code = (
        "import aiter, numpy; aiter.rms_norm(numpy.ones((2, 8), 'f4'));"
        "print('libaiter_mock' in open('/proc/self/maps').read())"
    )
    assert run(environment, "-c", code) == "False\n"


def test_a_global_decoy_is_never_called(environment, tmp_path):
    """Functions of a HIP look-alike that is preloaded for everyone."""
    source = tmp_path / "decoy.c"
    source.write_text(
        "#include <stdlib.h>\nint hipInit(unsigned f) { abort(); }\n"
        "int hipGetDeviceCount(int* n) { abort(); }\n"
        "int hipGetDevicePropertiesR0600(void* p, int d) { abort(); }\n"
    )
    decoy = tmp_path / "libdecoy.so"
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", decoy], check=True)
    code = "import aiter; print(aiter.device_info('hip:0')['name'])"
    out = run({**environment, "LD_PRELOAD": str(decoy)}, "-c", code)
    assert out == "Mock Instinct\n"


def test_no_driver(environment):
    code = (
        "import aiter\n"
        "assert aiter.devices() == ['cpu']\n"
        "try: aiter.empty(3, device='cuda:0')\n"
        "except RuntimeError as e: print(e)"
    )
    missing = {"AITER_HIP_LIBRARY": "/none", "AITER_CUDA_LIBRARY": "/none/libcuda.so.1"}
    out = run({**environment, **missing}, "-c", code)
    assert out.startswith("malloc: no CUDA driver on this machine:\n  /none/libcuda.so.1:")
