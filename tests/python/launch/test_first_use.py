"""Kernels built on first use: a package without prebuilt ones, run in the emulator."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import time
import aiter
import numpy as np
x = aiter.to_device(np.full((2, 64), 2, np.float32), "hip:0")
start = time.perf_counter()
y = aiter.rms_norm(x)
print(int(1000 * (time.perf_counter() - start)))
assert abs(aiter.to_device(y, "cpu").numpy() - 1).max() < 1e-3
"""


def clang():
    found = os.environ.get("AITER_CLANG")
    spec = importlib.util.find_spec("ziglang")
    if not found and spec:
        found = str(Path(spec.submodule_search_locations[0]) / "zig")
    return found or shutil.which("clang-19") or shutil.which("zig")


@pytest.fixture(scope="module")
def bare(package, tmp_path_factory):
    """The environment of a package without kernels, in the emulator."""
    if not (package / "lib/libaiter_gfxemu.so").exists():
        pytest.skip("built without the emulator")
    if not clang():
        pytest.skip("no clang with AMD targets: pip install ziglang")
    folder = tmp_path_factory.mktemp("bare")
    shutil.copytree(package, folder / "aiter", ignore=shutil.ignore_patterns("aiter_kernels"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AITER_", "XDG_"))}
    return environment | {
        "PYTHONPATH": str(folder),
        "AITER_EMULATE": "gfx942",
        "AITER_CLANG": clang(),
        "AITER_HIPRTC_LIBRARY": "/none",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def start(environment, code=SCRIPT):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, failing=False):
    out, err = process.communicate(timeout=120)
    assert (process.returncode != 0) == failing, err
    return err if failing else out


def test_cold_then_from_the_cache(bare, tmp_path):
    environment = bare | {"AITER_CACHE_DIR": str(tmp_path / "new" / "cache")}
    finish(start(environment))
    kept = list((tmp_path / "new" / "cache").iterdir())
    assert [p.name.split("-")[:2] for p in kept] == [["rmsnorm_hip_row_f32", "gfx942"]]
    before = kept[0].stat().st_mtime_ns
    finish(start(environment | {"PATH": "/none"}))
    assert [p.stat().st_mtime_ns for p in kept] == [before]
    # Half a file, say of a full disk, is built again.
    kept[0].write_bytes(kept[0].read_bytes()[:1000])
    finish(start(environment))
    assert kept[0].stat().st_size > 1000


def test_eight_cold_processes_at_once(bare, tmp_path):
    environment = bare | {"AITER_CACHE_DIR": str(tmp_path)}
    for process in [start(environment) for _ in range(8)]:
        finish(process)
    assert len(list(tmp_path.iterdir())) == 1  # and no temporary or lock file


def test_no_home_and_nothing_writable_but_tmp(bare):
    environment = {k: v for k, v in bare.items() if k != "HOME"}
    finish(start(environment))
    finish(start(environment | {"AITER_CACHE_DIR": "/proc/none"}))


def test_without_a_compiler(bare, tmp_path):
    environment = bare | {"AITER_CLANG": "/none", "AITER_CACHE_DIR": str(tmp_path)}
    message = finish(start(environment), failing=True)
    assert "rmsnorm: no code object for gfx942" in message and "built for: none" in message
    assert list(tmp_path.iterdir()) == []


def test_prepare_builds_whole_operators(bare, tmp_path):
    code = "import aiter; aiter.prepare('hip:0', ['rmsnorm', 'embedding'])"
    environment = bare | {"AITER_CACHE_DIR": str(tmp_path)}
    finish(start(environment, code))
    names = {p.name.split("-")[0] for p in tmp_path.iterdir()}
    assert names == {"rmsnorm", "embedding"}


@pytest.mark.parametrize("arch", ["gfx90a", "gfx950"])
def test_other_archs(bare, tmp_path, arch):
    finish(start(bare | {"AITER_CACHE_DIR": str(tmp_path), "AITER_EMULATE": arch}))
