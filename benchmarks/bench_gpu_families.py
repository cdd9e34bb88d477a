"""Large shapes of the families' other operators on a GPU: share of the copy rate, and torch beside it:
python benchmarks/bench_gpu_families.py (bench_gpu_quant.py: those that quantize)"""

import statistics

import aiter
import torch
from bench_gpu import copy_rate, measure, report

ROWS, COLUMNS = 32768, 4096
bf16 = torch.bfloat16


def empty(*shape, dtype=bf16):
    return torch.empty(shape, device="cuda", dtype=dtype)


def main():
    print(torch.cuda.get_device_name())
    copy = statistics.median(copy_rate() for _ in range(3))
    print(f"copy {copy / 1e9:.0f} GB/s")
    x, z = (torch.randn(ROWS, COLUMNS, device="cuda", dtype=bf16) for _ in range(2))
    y, w, b = empty(ROWS, COLUMNS), empty(COLUMNS).fill_(1), empty(COLUMNS).fill_(0)
    size = x.nbytes
    gate_up = torch.randn(ROWS, 2 * COLUMNS, device="cuda", dtype=bf16)
    F = torch.nn.functional
    problems = {
        "layer_norm": (
            2 * size,
            lambda: aiter.layer_norm(x, w, b, out=y),
            lambda: F.layer_norm(x, w.shape, w, b),
        ),
        "rms_norm_backward, dx": (3 * size, lambda: aiter.rms_norm_backward(z, x, out=y), None),
        "rms_norm_backward, dx, dw": (
            3 * size,
            lambda: aiter.rms_norm_backward(z, x, w, out=y),
            None,
        ),
        "add": (3 * size, lambda: aiter.add(x, z, out=y), lambda: torch.add(x, z, out=y)),
        "add, row": (2 * size, lambda: aiter.add(x, w, out=y), lambda: torch.add(x, w, out=y)),
        "sigmoid": (2 * size, lambda: aiter.sigmoid(x, out=y), lambda: torch.sigmoid(x, out=y)),
        "softmax": (2 * size, lambda: aiter.softmax(x, out=y), lambda: torch.softmax(x, -1)),
        "silu_and_mul_backward": (
            5 * size,
            lambda: aiter.act_and_mul_backward(x, gate_up, out=gate_up),
            None,
        ),
        "groupnorm": (
            2 * size,
            lambda: aiter.groupnorm_run(x.view(64, 512, COLUMNS), 32, out=y.view(64, 512, COLUMNS)),
            None,
        ),
    }
    for name, (moved, ours, torchs) in problems.items():
        try:
            peers = {"torch": measure(torchs, [()])} if torchs else {}
            report(name, (ROWS, COLUMNS), moved, measure(ours, [()]), copy, **peers)
        except Exception as e:  # the others are still of interest
            print(f"{name}: {type(e).__name__}: {e}")


if __name__ == "__main__":
    main()
