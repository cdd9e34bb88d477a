"""Timing of operators beside their peers and the machine's ceilings. Benches print; they never assert."""

import os
import statistics
import time

import numpy as np


def sample(*functions, seconds=1.0, batches=7):
    """Median seconds per call of each function, run in turns so that drift meets all alike."""
    loops = []
    for f in functions:
        f()
        start = time.perf_counter()
        f()
        once = time.perf_counter() - start
        loops.append(max(1, int(seconds / batches / len(functions) / max(once, 1e-7))))
    times = [[] for _ in functions]
    for _ in range(batches):
        for f, n, found in zip(functions, loops, times, strict=True):
            start = time.perf_counter()
            for _ in range(n):
                f()
            found.append((time.perf_counter() - start) / n)
    return [statistics.median(t) for t in times]


def report(op, case, seconds, *, moved=0, flops=0, ceilings=None, peers=None):
    """Print one line: time, rate, share of the ceiling, ratio of each peer's time to ours.

    moved: bytes read and written. flops: operations. ceilings: {"GB/s": rate, "GF/s": rate}.
    peers: {name: seconds}; a ratio above 1 means that we are faster.
    """
    parts = [f"{op:24} {case!s:52} {seconds * 1e6:10.1f} us"]
    rates = {"GB/s": moved / seconds / 1e9, "GF/s": flops / seconds / 1e9}
    for unit, rate in rates.items():
        if rate:
            parts.append(f"{rate:8.1f} {unit}")
            if ceilings and ceilings.get(unit):
                parts.append(f"{100 * rate / ceilings[unit]:4.0f} %")
    for name, peer in (peers or {}).items():
        parts.append(f"{peer / seconds:6.2f}x {name}")
    print("  ".join(parts), flush=True)


def copy_rate(megabytes=256):
    """Bytes per second, read plus written, of the best copy this machine does on our threads."""
    from .. import _aiter

    source, target = _lines(megabytes), _lines(megabytes)
    return 2 * source.nbytes / _best(lambda: _aiter.bench_copy(target, source))


def read_rate(megabytes=256):
    """Bytes per second of the best read of memory this machine does on our threads."""
    from .. import _aiter

    source = _lines(megabytes)
    return source.nbytes / _best(lambda: _aiter.bench_read(source))


def _lines(megabytes):
    """An array that begins at a cache line, every page of it touched."""
    memory = np.ones((megabytes << 20) + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + (megabytes << 20)]


def _best(f, calls=15):
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return min(times)


def torch_or_none():
    """torch with our number of threads, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    from .. import get_num_threads

    torch.set_num_threads(get_num_threads())
    return torch


def to_torch(torch, array):
    """The same memory as a torch tensor, bfloat16 included (which torch.from_numpy refuses)."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def machine():
    """One line about the machine, for the head of a printed table."""
    from .. import _aiter, get_num_threads

    model = "unknown CPU"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":")[1].strip()
                break
    return f"{model}, {os.cpu_count()} CPUs, {get_num_threads()} threads, {_aiter.get_cpu_isa()}"
