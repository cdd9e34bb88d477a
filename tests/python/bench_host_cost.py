"""What a call costs before any arithmetic: python tests/python/bench_host_cost.py

A rms_norm of 2 x 64 numbers, from C and from Python with each kind of array. Goals: 2 us a C call,
5 us a Python call with NumPy or torch. The last column is a comparable call of another library.
"""

import subprocess
import sys
import timeit

import aiter
import numpy as np
from aiter.testing import bench

SHAPE = (2, 64)


def nanoseconds(call, seconds=0.5, batches=15):
    timer = timeit.Timer(call)
    loops, taken = timer.autorange()
    loops = max(1, int(loops * seconds / batches / taken))
    return min(timer.repeat(batches, loops)) / loops * 1e9


def line(name, ours, peer=None):
    text = f"{name:44} {ours / 1e3:8.2f} us"
    if peer:
        text += f"   {peer[0]} {peer[1] / 1e3:.2f} us"
    print(text, flush=True)


def calls(name, x, w, out, peer=None):
    """A line for each way to call with arrays of one kind."""
    line(f"rms_norm(x, w), {name}", nanoseconds(lambda: aiter.rms_norm(x, w)), peer)
    if out is None:
        return
    line(f"rms_norm(x, w, out=), {name}", nanoseconds(lambda: aiter.rms_norm(x, w, out=out)))
    add = aiter.rmsnorm2d_fwd_with_add
    line(
        f"5 arrays: ...with_add(out=, residual_out=), {name}",
        nanoseconds(lambda: add(x, x, w, out=out, residual_out=out)),
    )


def main():
    print(bench.machine())
    code = (
        "import time; t = time.perf_counter(); import aiter; print((time.perf_counter() - t) * 1e6)"
    )
    line(
        "import aiter",
        1e3
        * min(
            float(
                subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
            )
            for _ in range(5)
        ),
    )
    x, w = np.ones(SHAPE, np.float32), np.ones(SHAPE[-1], np.float32)
    out = np.empty_like(x)
    line(
        "aiter_rmsnorm, C",
        min(aiter._aiter.bench_c_call(x, w, out, 20000) for _ in range(15)) * 1e9,
    )
    calls("NumPy", x, w, out, ("numpy.add", nanoseconds(lambda: np.add(x, w))))
    calls("aiter.Array", *map(aiter.asarray, (x, w, out)))
    if torch := bench.torch_or_none():
        tx, tw, tout = (torch.from_numpy(a.copy()) for a in (x, w, out))
        peer = nanoseconds(lambda: torch.nn.functional.rms_norm(tx, tw.shape, tw, 1e-6))
        calls("torch", tx, tw, tout, ("torch rms_norm", peer))
    try:
        import jax
    except ImportError:
        return
    jx, jw = jax.numpy.asarray(x), jax.numpy.asarray(w)
    jitted = jax.jit(lambda x, w: x + w)
    calls("JAX", jx, jw, None, ("jitted add", nanoseconds(lambda: jitted(jx, jw))))


if __name__ == "__main__":
    main()
