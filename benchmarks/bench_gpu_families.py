"""The families' other operators on a GPU, of few and of many rows: time, share of the copy rate, and torch
and Triton beside them: python benchmarks/bench_gpu_families.py [--rows 1 32768] [--only norm]
(bench_gpu_quant.py: those that quantize; bench_gpu_sampling.py: those that sample)"""

import argparse
import statistics

import aiter
import torch
import triton
import triton.language as tl
from bench_gpu import copies, copy_rate, measure, report, triton_rope

COLUMNS = 4096
bf16 = torch.bfloat16


@triton.jit
def layer_norm_kernel(x, w, b, y, n, eps, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * n
    i = tl.arange(0, block)
    mask = i < n
    v = tl.load(x + row + i, mask=mask, other=0).to(tl.float32)
    d = tl.where(mask, v - tl.sum(v, 0) / n, 0)
    scale = tl.rsqrt(tl.sum(d * d, 0) / n + eps)
    gain = tl.load(w + i, mask=mask, other=0).to(tl.float32)
    bias = tl.load(b + i, mask=mask, other=0).to(tl.float32)
    tl.store(y + row + i, (d * scale * gain + bias).to(y.dtype.element_ty), mask=mask)


@triton.jit
def softmax_kernel(x, y, n, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * n
    i = tl.arange(0, block)
    mask = i < n
    v = tl.load(x + row + i, mask=mask, other=-float("inf")).to(tl.float32)
    e = tl.exp(v - tl.max(v, 0))
    tl.store(y + row + i, (e / tl.sum(e, 0)).to(y.dtype.element_ty), mask=mask)


@triton.jit
def rms_norm_backward_kernel(dy, x, w, dx, n, eps, block: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * n
    i = tl.arange(0, block)
    mask = i < n
    v = tl.load(x + row + i, mask=mask, other=0).to(tl.float32)
    d = tl.load(dy + row + i, mask=mask, other=0).to(tl.float32)
    d *= tl.load(w + i, mask=mask, other=0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(v * v, 0) / n + eps)
    slope = tl.sum(d * v, 0) * scale * scale / n
    tl.store(dx + row + i, (scale * (d - slope * v)).to(dx.dtype.element_ty), mask=mask)


def by_rows(kernel, x, *args):
    kernel[(len(x),)](*args, COLUMNS, *(() if kernel is softmax_kernel else (1e-6,)),
                      triton.next_power_of_2(COLUMNS), num_warps=8)  # fmt: skip


def randn(*shape):
    return torch.randn(shape, device="cuda", dtype=bf16)


def problems(rows):
    """name: (shapes of the arrays, of which each call gets others, our call, {peer: its call})"""
    F = torch.nn.functional
    w, b = torch.ones_like(randn(COLUMNS)), torch.zeros_like(randn(COLUMNS))
    one, image = (rows, COLUMNS), (max(rows // 512, 1), 512, COLUMNS)
    last = (image[0], COLUMNS, 512)
    unet = (max(rows // 320, 1), COLUMNS, 320)
    p = torch.randint(0, 8192, (rows,), device="cuda")
    cos, sin = randn(8192, 64), randn(8192, 64)
    heads = ((rows, 32, 128), (rows, 8, 128))

    def rope(neox, in_place):
        def call(q, k, *out):
            aiter.rotary_embedding_fwd(
                p, q, k, 128, cos, sin, neox, out=(q, k) if in_place else out
            )

        return call

    peer = {"triton": lambda q, k: triton_rope(p, q, k, cos, sin)}
    return {
        "layer_norm": (
            (one, one),
            lambda x, y: aiter.layer_norm(x, w, b, out=y),
            {
                "torch": lambda x, y: F.layer_norm(x, w.shape, w, b),
                "triton": lambda x, y: by_rows(layer_norm_kernel, x, x, w, b, y),
            },
        ),
        "rms_norm_backward, dx": (
            (one, one, one),
            lambda d, x, y: aiter.rms_norm_backward(d, x, out=y),
            {"triton": lambda d, x, y: by_rows(rms_norm_backward_kernel, x, d, x, w, y)},
        ),
        "rms_norm_backward, dx, dw": (
            (one, one, one),
            lambda d, x, y: aiter.rms_norm_backward(d, x, w, out=y),
            {},
        ),
        "layer_norm_backward": (
            (one, one, one),
            lambda d, x, y: aiter.layer_norm_backward(d, x, w, out=y),
            {},
        ),
        "layer_norm_backward, dx": (
            (one, one, one),
            lambda d, x, y: aiter.layer_norm_backward(d, x, bias=False, out=y),
            {},
        ),
        "groupnorm": (
            (image, image),
            lambda x, y: aiter.groupnorm_run(x, 32, out=y),
            {"torch": lambda x, y: F.group_norm(x, 32)},
        ),
        "groupnorm, NHWC": (
            (last, last),
            lambda x, y: aiter.groupnorm_run(x, 32, channels_last=True, out=y),
            {"torch": lambda x, y: F.group_norm(x.transpose(1, 2), 32)},
        ),
        **{
            f"add_groupnorm{', NHWC' * nhwc}": (
                (shape,) * 4,
                lambda x, r, s, y, nhwc=nhwc: aiter.groupnorm_run_with_add(
                    x, r, 32, channels_last=nhwc, out=y, residual_out=s
                ),
                {},
            )
            for nhwc, shape in ((False, image), (True, last))
        },
        "groupnorm, NHWC, 10 a group": (
            (unet, unet),
            lambda x, y: aiter.groupnorm_run(x, 32, channels_last=True, out=y),
            {"torch": lambda x, y: F.group_norm(x.transpose(1, 2), 32)},
        ),
        "add": (
            (one, one, one),
            lambda x, z, y: aiter.add(x, z, out=y),
            {"torch": lambda x, z, y: torch.add(x, z, out=y)},
        ),
        "add, row": (
            (one, one),
            lambda x, y: aiter.add(x, w, out=y),
            {"torch": lambda x, y: torch.add(x, w, out=y)},
        ),
        "sigmoid": (
            (one, one),
            lambda x, y: aiter.sigmoid(x, out=y),
            {"torch": lambda x, y: torch.sigmoid(x, out=y)},
        ),
        "softmax": (
            (one, one),
            lambda x, y: aiter.softmax(x, out=y),
            {
                "torch": lambda x, y: torch.softmax(x, -1),
                "triton": lambda x, y: by_rows(softmax_kernel, x, x, y),
            },
        ),
        **{
            f"{name}_backward": (
                (one, (rows, 2 * COLUMNS), (rows, 2 * COLUMNS)),
                lambda d, x, y, name=name: aiter.act_and_mul_backward(
                    d, x, name.split("_")[0], out=y
                ),
                {},
            )
            for name in ("silu_and_mul", "gelu_and_mul")
        },
        "rope, in place": (heads, rope(True, True), peer),
        "rope, GPT-J, in place": (heads, rope(False, True), peer),
        "rope": (heads + heads, rope(True, False), {}),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 64, 1024, 32768])
    parser.add_argument("--only", default="", help="part of the operators' names")
    options = parser.parse_args()
    print(torch.cuda.get_device_name())
    copy = statistics.median(copy_rate() for _ in range(3))
    print(f"copy {copy / 1e9:.0f} GB/s")
    for rows in options.rows:
        for name, (shapes, ours, peers) in problems(rows).items():
            if options.only not in name:
                continue
            try:
                size = sum(2 * torch.Size(s).numel() for s in shapes)
                sets = copies(lambda shapes=shapes: tuple(randn(*s) for s in shapes), size)
                moved = 2 * size if name.endswith("in place") else size
                times = {peer: measure(call, sets) for peer, call in peers.items()}
                report(name, (rows, COLUMNS), moved, measure(ours, sets), copy, **times)
            except Exception as e:  # the others are still of interest
                print(f"{name}: {type(e).__name__}: {e}")


if __name__ == "__main__":
    main()
