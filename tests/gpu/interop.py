"""Frameworks beside each other on a CUDA machine, which the suite has none of.

python3 tests/gpu/interop.py   (after tests/gpu/build.sh; wants torch, JAX and CuPy)
"""

import subprocess
import sys

import aiter
import cupy
import jax
import jax.numpy as jnp
import torch

UNPREPARED = """
import torch, aiter
x = torch.randn(4, 64, device="cuda"); y = torch.zeros_like(x)
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    y.add_(x)
    try:
        aiter.rms_norm(x, out=y)
        print("ran")
    except RuntimeError as e:
        print("refused" if "aiter_prepare" in str(e) else e)
graph.replay()
assert torch.equal(x, y)
"""


def norm(x, xp, eps=1e-6):
    return x / xp.sqrt((x * x).mean(-1, keepdims=True) + eps)


def torch_graph():
    """Captured once, replayed 1000 times with changing contents."""
    x = torch.randn(8, 4096, device="cuda", dtype=torch.bfloat16)
    y = torch.empty_like(x)
    z = torch.empty(8, 2048, device="cuda", dtype=torch.bfloat16)

    def step():
        aiter.rms_norm(x, out=y)
        aiter.silu_and_mul(y, out=z)

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for i in range(1000):
        x.normal_(std=1 + i % 7)
        graph.replay()
        want = torch.nn.functional.rms_norm(x.float(), (4096,), eps=1e-6)
        assert (y.float() - want).abs().max() < 0.05
        gate, up = y.float().chunk(2, -1)
        assert (z.float() - torch.nn.functional.silu(gate) * up).abs().max() < 0.1


def unprepared_in_a_capture():
    result = subprocess.run([sys.executable, "-c", UNPREPARED], capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout == "refused\n", result


def jax_eager():
    x = jax.random.normal(jax.random.key(0), (8, 4096), jnp.float32)
    y = aiter.rms_norm(x)
    assert y.devices() == x.devices() and jnp.abs(y - norm(x, jnp)).max() < 1e-5


def cupy_streams():
    x = cupy.random.standard_normal((512, 4096), dtype=cupy.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        doubled = x * 2
        y = aiter.rms_norm(doubled)  # CuPy's current stream
    z = aiter.rms_norm(doubled, stream=stream)
    stream.synchronize()
    for got in (y, z):
        assert isinstance(got, cupy.ndarray) and cupy.abs(got - norm(doubled, cupy)).max() < 1e-5


if __name__ == "__main__":
    for check in (torch_graph, unprepared_in_a_capture, jax_eager, cupy_streams):
        check()
        print(f"{check.__name__}: ok")
