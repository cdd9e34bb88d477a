"""aiter alone: no other library is needed, or brought in."""

import os
import subprocess
import sys


def run(code, *options, **environment):
    """Run code in a fresh interpreter with only what it needs in its environment."""
    keep = {k: v for k, v in os.environ.items()
            if k in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "ASAN_OPTIONS")}
    return subprocess.run([sys.executable, *options, "-c", code], env=keep | environment,
                          capture_output=True, text=True, timeout=120)


def test_import_time():
    """Under 100 ms; it takes about 3, so a slow machine has room."""
    code = ("import time; t = time.perf_counter(); import aiter; "
            "print((time.perf_counter() - t) * 1e3)")
    assert min(float(run(code).stdout) for _ in range(3)) < 100


def test_frameworks_are_not_needed():
    """With every framework's import refused, arrays of our own work."""
    code = """
import sys
for name in ("numpy", "ml_dtypes", "torch", "jax", "cupy"):
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
