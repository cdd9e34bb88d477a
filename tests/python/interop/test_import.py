"""What `import aiter` must not do, and what it may cost."""

import os
import subprocess
import sys

PROGRAM = """
import os, sys, threading
before, modules = dict(os.environ), set(sys.modules)
handlers = [__import__("signal").getsignal(s) for s in (2, 15)]
import aiter
assert dict(os.environ) == before, "environment changed"
assert threading.active_count() == 1, "threads started"
heavy = {"numpy", "torch", "jax", "jaxlib", "cupy", "ml_dtypes", "tensorflow", "gguf", "pandas",
         "logging", "subprocess"}
found = heavy & {m.split(".")[0] for m in set(sys.modules) - modules}
assert not found, f"imported {found}"
a = aiter.rms_norm(aiter.zeros((2, 8)))
assert type(a) is aiter.Array
found = heavy & {m.split(".")[0] for m in set(sys.modules) - modules}
assert not found, f"imported {found} by a call without them"
with open("/proc/self/maps") as f:
    maps = f.read()
assert "libamdhip64" not in maps and "libcuda" not in maps, "a driver was opened"
"""


def run(code, *options, **environment):
    """Run code in a fresh interpreter with only what it needs in its environment."""
    keep = {
        k: v
        for k, v in os.environ.items()
        if k in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "ASAN_OPTIONS")
    }
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        env=keep | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_clean_import(tmp_path):
    """No framework, no output, no changed environment, no file, no HOME needed."""
    done = run(PROGRAM, "-B", "-W", "error", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr == ""
    assert not list(tmp_path.iterdir())


def test_import_time():
    """Under 100 ms; it takes about 3, so a slow machine has room."""
    code = (
        "import time; t = time.perf_counter(); import aiter; print((time.perf_counter() - t) * 1e3)"
    )
    assert min(float(run(code).stdout) for _ in range(3)) < 100


def test_frameworks_are_not_needed():
    """With every framework's import refused, arrays of our own work."""
    code = """
import sys
for name in ("numpy", "torch", "jax", "ml_dtypes"):
    sys.modules[name] = None
import aiter
x = aiter.zeros((2, 8), "bfloat16")
x.view("uint8")[...] = aiter.zeros((2, 16), "uint8")
y = aiter.rms_norm(x, aiter.zeros(8))
assert y.dtype == "bfloat16" and y.shape == (2, 8)
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_exit_with_live_arrays_is_quiet():
    """Arrays in globals, in cycles and in other libraries' hands at exit."""
    code = """
import aiter, numpy as np
a = aiter.zeros((2, 8)); n = a.numpy(); b = aiter.asarray(n); y = aiter.rms_norm(n)
c = [a]; c.append(c)
capsule = a.__dlpack__(max_version=(1, 0))
"""
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
