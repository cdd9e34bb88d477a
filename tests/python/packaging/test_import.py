"""What `import aiter` does not do."""

import subprocess
import sys

PROBE = """
import os, sys
before = dict(os.environ), set(sys.modules), os.listdir("/proc/self/task"), set(os.listdir("."))
import aiter
heavy = {"numpy", "ml_dtypes", "torch", "jax", "cupy", "gguf", "ctypes"} & set(sys.modules)
assert not heavy, heavy
assert before[0] == dict(os.environ)
assert before[2] == os.listdir("/proc/self/task"), "a thread was started"
assert before[3] == set(os.listdir("."))
maps = open("/proc/self/maps").read()
assert not any(lib in maps for lib in ("libamdhip64", "libcuda", "libstdc++", "libtorch")), maps
"""


def test_import_is_clean(package, tmp_path):
    """No framework, no thread, no GPU driver, nothing printed, nothing written; with no HOME."""
    environment = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-S", "-c", PROBE],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
