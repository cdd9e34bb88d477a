"""Memory-bound operators on a GPU beside torch, Triton and the copy rate: python benchmarks/bench_gpu.py

Calls are timed as replays of a CUDA graph of many calls, over inputs rotated beyond the L2 cache.
"""

import argparse
import statistics

import aiter
import torch
import triton
import triton.language as tl

L2 = 256 << 20  # bytes of inputs to rotate over, a few times any L2


def time_graph(calls, repeats=7):
    """Median seconds per call of a list of calls, captured in one graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())  # the inputs are there
    with torch.cuda.stream(stream):
        for call in calls[:2]:
            call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for call in calls:
            call()
    graph.replay()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / len(calls) / 1e3)
    return statistics.median(times)


@triton.jit
def triton_norm_kernel(x, r, w, y, s, hidden, eps, add: tl.constexpr, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * hidden
    i = tl.arange(0, block)
    mask = i < hidden
    v = tl.load(x + row + i, mask=mask, other=0).to(tl.float32)
    if add:
        v = (v + tl.load(r + row + i, mask=mask, other=0).to(tl.float32)).to(s.dtype.element_ty)
        tl.store(s + row + i, v, mask=mask)
        v = v.to(tl.float32)
    gain = tl.load(w + i, mask=mask, other=0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(v * v, 0) / hidden + eps)
    tl.store(y + row + i, (v * scale * gain).to(y.dtype.element_ty), mask=mask)


@triton.jit
def triton_silu_kernel(x, y, d, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * block + tl.arange(0, block)
    mask = i < d
    gate = tl.load(x + row * 2 * d + i, mask=mask, other=0).to(tl.float32)
    up = tl.load(x + row * 2 * d + d + i, mask=mask, other=0).to(tl.float32)
    tl.store(y + row * d + i, (gate * tl.sigmoid(gate) * up).to(y.dtype.element_ty), mask=mask)


@triton.jit
def triton_rope_kernel(
    p, q, k, cos, sin, q_heads, k_heads, half: tl.constexpr, heads: tl.constexpr
):
    token = tl.program_id(0).to(tl.int64)
    position = tl.load(p + token)
    d = tl.arange(0, half)
    c = tl.load(cos + position * half + d).to(tl.float32)[None, :]
    s = tl.load(sin + position * half + d).to(tl.float32)[None, :]
    h = tl.arange(0, heads)[:, None]
    for side in tl.static_range(2):
        count = q_heads if side == 0 else k_heads
        at = (q if side == 0 else k) + (token * count + h) * 2 * half + d[None, :]
        x = tl.load(at, mask=h < count, other=0).to(tl.float32)
        y = tl.load(at + half, mask=h < count, other=0).to(tl.float32)
        tl.store(at, (x * c - y * s).to(q.dtype.element_ty), mask=h < count)
        tl.store(at + half, (y * c + x * s).to(q.dtype.element_ty), mask=h < count)


def triton_norm(x, w, y, r=None, s=None):
    hidden = w.shape[0]
    triton_norm_kernel[(x.shape[0],)](
        x, r, w, y, s, hidden, 1e-6, r is not None, triton.next_power_of_2(hidden), num_warps=8
    )


def triton_silu(x, y):
    rows, d = y.shape
    triton_silu_kernel[(rows, triton.cdiv(d, 1024))](x, y, d, 1024, num_warps=4)


def triton_rope(p, q, k, cos, sin):
    triton_rope_kernel[(q.shape[0],)](
        p, q, k, cos, sin, q.shape[1], k.shape[1], cos.shape[1], 32, num_warps=4
    )


def copies(make, size):
    """Enough sets of inputs that one pass over them leaves the cache cold."""
    return [make() for _ in range(max(1, min(64, -(-L2 // size))))]


def measure(function, sets, least=20):
    calls = [lambda s=s: function(*s) for s in sets]
    while len(calls) < least:
        calls = calls + calls
    return time_graph(calls)


def report(name, shape, moved, ours, copy, **peers):
    text = "  ".join(f"{peer / ours:5.2f}x {n}" for n, peer in peers.items())
    print(
        f"{name:24} {shape!s:18} {ours * 1e6:9.2f} us {moved / ours / 1e9:8.0f} GB/s "
        f"{100 * moved / ours / copy:4.0f} %  {text}",
        flush=True,
    )


def copy_rate():
    a = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    b = torch.empty_like(a)
    # A copy kernel: torch's copy_ becomes a slower memcpy node in a graph.
    a, b = a.view(torch.float32), b.view(torch.float32)
    return 2 * a.nbytes / time_graph([lambda: torch.add(a, 0, out=b)] * 5)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compile", action="store_true", help="torch.compile as a peer, too")
    options = parser.parse_args()
    compiled = torch.compile if options.compile else (lambda f: f)
    kind = "compile" if options.compile else "eager"
    copy = copy_rate()
    print(
        f"{torch.cuda.get_device_name()}; copy {copy / 1e9:.0f} GB/s; torch {torch.__version__} ({kind})"
    )
    bf16 = torch.bfloat16

    def randn(*shape):
        return torch.randn(shape, device="cuda", dtype=bf16)

    @compiled
    def torch_norm(x, w, y):
        y.copy_(torch.nn.functional.rms_norm(x, w.shape, w, 1e-6))

    @compiled
    def torch_add_norm(x, r, w, y, s):
        s.copy_(x + r)
        y.copy_(torch.nn.functional.rms_norm(s, w.shape, w, 1e-6))

    @compiled
    def torch_silu(x, y):
        d = y.shape[-1]
        y.copy_(torch.nn.functional.silu(x[..., :d]) * x[..., d:])

    for tokens in (1, 16, 64, 1024, 65536):
        hidden = 4096
        w = randn(hidden)
        size = 2 * tokens * hidden
        sets = copies(
            lambda t=tokens: (
                randn(t, hidden),
                w,
                torch.empty(t, hidden, device="cuda", dtype=bf16),
            ),
            2 * size,
        )
        ours = measure(lambda x, w, y: aiter.rms_norm(x, w, out=y), sets)
        peer = measure(torch_norm, sets)
        other = measure(triton_norm, sets)
        report("rms_norm", (tokens, hidden), 2 * size, ours, copy, torch=peer, triton=other)

        sets = copies(
            lambda t=tokens: (
                randn(t, hidden),
                randn(t, hidden),
                w,
                torch.empty(t, hidden, device="cuda", dtype=bf16),
                torch.empty(t, hidden, device="cuda", dtype=bf16),
            ),
            4 * size,
        )
        ours = measure(
            lambda x, r, w, y, s: aiter.rmsnorm2d_fwd_with_add(x, r, w, out=y, residual_out=s), sets
        )
        peer = measure(torch_add_norm, sets)
        other = measure(lambda x, r, w, y, s: triton_norm(x, w, y, r, s), sets)
        report("add + rms_norm", (tokens, hidden), 4 * size, ours, copy, torch=peer, triton=other)

        sets = copies(
            lambda t=tokens: (
                randn(t, 2 * hidden),
                torch.empty(t, hidden, device="cuda", dtype=bf16),
            ),
            3 * size,
        )
        ours = measure(lambda x, y: aiter.silu_and_mul(x, out=y), sets)
        peer = measure(torch_silu, sets)
        other = measure(triton_silu, sets)
        report("silu_and_mul", (tokens, hidden), 3 * size, ours, copy, torch=peer, triton=other)

    cos, sin = (torch.randn(8192, 64, device="cuda", dtype=bf16) for _ in range(2))
    for tokens in (1, 64, 16384):
        positions = torch.randint(0, 8192, (tokens,), device="cuda")
        size = 2 * tokens * (32 + 8) * 128
        sets = copies(lambda t=tokens: (randn(t, 32, 128), randn(t, 8, 128)), 2 * size)
        ours = measure(
            lambda q, k, p=positions: aiter.rotary_embedding_fwd(
                p, q, k, 128, cos, sin, True, out=(q, k)
            ),
            sets,
        )
        other = measure(lambda q, k, p=positions: triton_rope(p, q, k, cos, sin), sets)
        in_place = measure(lambda q, k: (q.mul_(1), k.mul_(1)), sets)
        report(
            "rotary_embedding", (tokens, 32, 8, 128), 2 * size, ours, copy,
            triton=other, mul_=in_place,
        )  # fmt: skip

    for tokens in (64, 65536):
        pages = max(tokens // 16, 4096)
        caches = [torch.zeros(pages, 16, 8, 128, device="cuda", dtype=bf16) for _ in range(2)]
        slots = torch.randperm(pages * 16, device="cuda")[:tokens]
        size = 2 * tokens * 8 * 128
        sets = copies(lambda t=tokens: (randn(t, 8, 128), randn(t, 8, 128)), 2 * size)
        ours = measure(
            lambda k, v, c=caches, s=slots: aiter.reshape_and_cache_flash(k, v, *c, s), sets
        )
        report("reshape_and_cache_flash", (tokens, 8, 128), 4 * size, ours, copy)

    heads, kv_heads, dim, page = 64, 8, 128, 16
    for batch, length in ((64, 8192), (1, 8192)):
        blocks = length // page
        caches = [
            torch.randn(batch * blocks, page, kv_heads, dim, device="cuda", dtype=bf16)
            for _ in range(2)
        ]
        table = torch.randperm(batch * blocks, device="cuda").to(torch.int32).view(batch, blocks)
        used = torch.full((batch,), length, device="cuda", dtype=torch.int32)
        q = randn(batch, heads, dim)
        out = torch.empty_like(q)
        moved = sum(c.numel() * c.element_size() for c in caches)
        ours = measure(
            lambda q=q, c=caches, t=table, u=used, o=out: aiter.paged_attention_decode(
                q, *c, u, t, out=o
            ),
            [()],
        )
        report("paged_attention_decode", (batch, length), moved, ours, copy)

    for m, n, k in ((1, 4096, 4096), (1, 28672, 4096), (8, 28672, 4096), (64, 28672, 4096),
                    (64, 4096, 14336), (2048, 4096, 4096)):  # fmt: skip
        sets = copies(
            lambda s=(m, n, k): (
                randn(s[0], s[2]),
                randn(s[1], s[2]),
                torch.empty(s[0], s[1], device="cuda", dtype=bf16),
            ),
            2 * n * k,
        )
        ours = measure(lambda x, w, y: aiter.gemm_a16w16(x, w, out=y), sets)
        peer = measure(lambda x, w, y: torch.mm(x, w.T, out=y), sets)
        report("gemm_a16w16", (m, n, k), 2 * (n * k + m * k + m * n), ours, copy, cublas=peer)
        for bits, gemm in ((4, aiter.gemm_a16w4), (8, aiter.gemm_a16w8)):
            dtype = torch.uint8 if bits == 4 else torch.int8

            def make(m=m, n=n, k=k, bits=bits, dtype=dtype):
                scales = [torch.rand(n, k // 32, device="cuda").half() for _ in range(8 // bits)]
                codes = torch.randint(0, 127, (n, k * bits // 8), device="cuda", dtype=dtype)
                return randn(m, k), codes, *scales, randn(m, n)

            size = n * k * bits // 8 + n * k // 32 * (4 if bits == 4 else 2)
            sets = copies(make, size)
            ours = measure(lambda *a, g=gemm: g(*a[:-1], out=a[-1]), sets)
            report(f"gemm_a16w{bits}", (m, n, k), size, ours, copy)

    host_cost()


def host_cost():
    """Microseconds of host time a call, with torch tensors and a GPU that keeps up."""
    import time

    x, w = torch.randn(1, 256, device="cuda"), torch.randn(256, device="cuda")
    y = torch.empty_like(x)
    for name, f in {
        "aiter": lambda: aiter.rms_norm(x, w, out=y),
        "torch": lambda: torch.nn.functional.rms_norm(x, w.shape, w, 1e-6),
    }.items():
        f()
        best = 1e9
        for _ in range(20):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(200):
                f()
            best = min(best, (time.perf_counter() - start) / 200)
        print(f"host time of a Python call of rms_norm: {best * 1e6:.2f} us ({name})")
    torch.cuda.synchronize()
    c_call = min(aiter._aiter.bench_c_call(x, w, y, 200) for _ in range(20))
    print(f"host time of a C call of aiter_rmsnorm: {c_call * 1e6:.2f} us")


if __name__ == "__main__":
    main()
