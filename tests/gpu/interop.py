"""By hand, on a CUDA machine: frameworks beside each other."""

import numpy as np, torch, cupy, jax, jax.numpy as jnp, aiter

ok = []
x = torch.randn(8, 4096, device="cuda", dtype=torch.bfloat16)
want = torch.nn.functional.rms_norm(x.float(), (4096,), eps=1e-6)
# torch.cuda.graph, replayed with changing contents
y = torch.empty_like(x)
z = torch.empty(8, 2048, device="cuda", dtype=torch.bfloat16)
aiter.rms_norm(x, out=y)
aiter.silu_and_mul(y, out=z)
g = torch.cuda.CUDAGraph()
with torch.cuda.graph(g):
    aiter.rms_norm(x, out=y)
    aiter.silu_and_mul(y, out=z)
for i in range(1000):
    x.normal_(std=1 + i % 7)
    g.replay()
    if i % 100 == 0:
        n = torch.nn.functional.rms_norm(x.float(), (4096,), eps=1e-6).bfloat16().float()
        assert (y.float() - n).abs().max() < 0.05
        s = torch.nn.functional.silu(y[:, :2048].float()) * y[:, 2048:].float()
        assert (z.float() - s).abs().max() < 0.1
torch.cuda.synchronize()
print("torch.cuda.graph: 1000 replays")
# unprepared call under capture
import subprocess, sys

r = subprocess.run(
    [
        sys.executable,
        "-c",
        """
import torch, aiter
x = torch.randn(4, 64, device='cuda'); y = torch.empty_like(x)
g = torch.cuda.CUDAGraph()
with torch.cuda.graph(g):
    y.add_(x)
    try: aiter.rms_norm(x, out=y); print('ran')
    except RuntimeError as e: print('refused:', str(e)[:60])
g.replay(); torch.cuda.synchronize(); print('graph valid')
""",
    ],
    capture_output=True,
    text=True,
)
print(r.stdout, r.stderr[-300:])
# JAX eager
a = jax.random.normal(jax.random.key(0), (8, 4096), jnp.bfloat16)
b = aiter.rms_norm(a)
print(
    "jax eager:",
    type(b).__module__,
    b.devices(),
    float(
        jnp.abs(
            b.astype(jnp.float32)
            - (
                a.astype(jnp.float32)
                / jnp.sqrt((a.astype(jnp.float32) ** 2).mean(-1, keepdims=True) + 1e-6)
            )
        ).max()
    ),
)
# CuPy streams
c = cupy.random.standard_normal((512, 4096), dtype=cupy.float32)
s = cupy.cuda.Stream(non_blocking=True)
with s:
    d = c * 2
    e = aiter.rms_norm(d)
s.synchronize()
r = d / cupy.sqrt((d * d).mean(-1, keepdims=True) + 1e-6)
print("cupy:", type(e).__module__, float(cupy.abs(e - r).max()))
e2 = aiter.rms_norm(d, stream=s)
s.synchronize()
print("cupy stream=:", float(cupy.abs(e2 - r).max()))
