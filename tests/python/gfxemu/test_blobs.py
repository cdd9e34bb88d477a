"""AMD's own code objects: out of the wheel amd-aiter 0.1.7.post2.dev18, unpacked, never installed."""

import ctypes
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import device
import pytest

pytestmark = pytest.mark.skipif(device.library_path() is None, reason="libaiter_gfxemu.so is not built")

WHEEL = "amd_aiter-0.1.7.post2.dev18-py3-none-any.whl"
SHA256 = "fe139d74438217c35e87e3b961166bac8db2d381eadccb371da2e63615f05a31"


def fetch():
    """The verified wheel, or None with a reason. AITER_TEST_CACHE keeps it between runs."""
    root = Path(os.environ.get("AITER_TEST_CACHE") or Path(tempfile.gettempdir()) / "aiter-gfxemu-tests")
    root.mkdir(parents=True, exist_ok=True)
    path = root / WHEEL
    if not path.exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:none:", "-d", str(root),
                   "amd-aiter==0.1.7.post2.dev18"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except (OSError, subprocess.TimeoutExpired) as e:
            return None, str(e)
        if done.returncode or not path.exists():
            return None, (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == SHA256, f"{path} has sha256 {digest}, expected {SHA256}"
    return path, None


@pytest.fixture(scope="session")
def blobs():
    path, why = fetch()
    if path is None:
        pytest.skip(f"amd-aiter's wheel cannot be fetched: {why}")
    with zipfile.ZipFile(path) as z:
        yield {n.split("aiter_meta/hsa/")[1]: z.read(n) for n in z.namelist() if n.endswith(".co")}


def executable(image):
    """(file offset, size) of the code, from the program headers."""
    import struct

    phoff, = struct.unpack_from("<Q", image, 32)
    count, = struct.unpack_from("<H", image, 56)
    for i in range(count):
        kind, flags, offset, _, _, size = struct.unpack_from("<IIQQQQ", image, phoff + 56 * i)
        if kind == 1 and flags & 1:
            return offset, size
    raise AssertionError("no code")


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_all_decode(blobs, arch):
    lib = device.lib()
    unknown, instructions = {}, 0
    names = [n for n in blobs if n.startswith(arch + "/")]
    assert len(names) > 1000
    for name in names:
        image = blobs[name]
        text = lib.aiter_gfxemu_sweep(arch.encode(), image, ctypes.c_size_t(len(image)))
        result = json.loads(text)
        instructions += result["instructions"]
        for entry in result["unknown"]:
            unknown.setdefault(entry, name)
    assert instructions > 1_000_000
    assert not unknown, f"{len(unknown)} unknown: " + str(dict(list(unknown.items())[:20]))
