"""Quantizing operators on a GPU: time and share of the copy rate at sizes from a row to 32768:
python benchmarks/bench_gpu_quant.py"""

import statistics

import aiter
import torch
from bench_gpu import copy_rate, measure

bf16 = torch.bfloat16
COLUMNS = 4096


def empty(*shape, dtype=bf16):
    return torch.empty(shape, device="cuda", dtype=dtype)


def problems(rows):
    """name: (bytes of memory that are needed, call[, separate calls for the same])"""
    x, w = (torch.randn(s, device="cuda", dtype=bf16) for s in ((rows, COLUMNS), (COLUMNS,)))
    y, gate_up = empty(rows, COLUMNS), torch.randn(rows, 2 * COLUMNS, device="cuda", dtype=bf16)
    short = x.view(-1, 128)
    codes, scale = empty(rows, COLUMNS, dtype=torch.int8), empty(rows, 1, dtype=torch.float32)
    fp8, fp4 = codes.view(torch.float8_e4m3fn), empty(rows, COLUMNS // 2, dtype=torch.uint8)
    groups = empty(rows, COLUMNS // 128, dtype=torch.float32)
    e8m0 = empty(rows, COLUMNS // 32, dtype=torch.uint8)
    size = x.nbytes
    groups_fp8 = aiter.Quant("float8_e4m3fn", 128)
    images = (max(rows // 512, 1), 512, COLUMNS)  # groups of 16 channels
    image = torch.randn(images, device="cuda", dtype=bf16)
    planes = empty(*images, dtype=torch.int8), empty(*images[:2], 1, dtype=torch.float32)
    pixels = tuple(a.reshape(images[0], COLUMNS, -1) for a in (image, planes[0])) + (
        empty(images[0], COLUMNS, 1, dtype=torch.float32),
    )
    image_out, last_out = torch.empty_like(image), torch.empty_like(pixels[0])

    def apart(x, out, codes, scale, last):
        aiter.groupnorm_run(x, 32, channels_last=last, out=out)
        aiter.quantize(out, (1, 0), "int8", out=codes, out_scale=scale)

    return {
        "int8 per token": (
            1.5 * size,
            lambda: aiter.quantize(x, (1, 0), "int8", out=codes, out_scale=scale),
        ),
        "fp8 per token": (
            1.5 * size,
            lambda: aiter.quantize(x, (1, 0), "float8_e4m3fn", out=fp8, out_scale=scale),
        ),
        "fp8 1 x 128": (
            1.5 * size,
            lambda: aiter.quantize(x, (1, 128), "float8_e4m3fn", out=fp8, out_scale=groups),
        ),
        "fp8 per tensor": (
            2.5 * size,
            lambda: aiter.quantize(x, (0, 0), "float8_e4m3fn", out=fp8, out_scale=scale[0]),
        ),
        "MXFP4": (1.25 * size, lambda: aiter.per_1x32_mx_quant(x, out=fp4, out_scale=e8m0)),
        "dequantize int8": (1.5 * size, lambda: aiter.dequantize(codes, scale, out=y)),
        "dequantize fp8 1 x 128": (
            1.5 * size,
            lambda: aiter.dequantize(fp8, groups, (1, 128), out=y),
        ),
        "rms_norm int8": (
            1.5 * size,
            lambda: aiter.norm_quant(x, w, out=codes, out_scale=scale),
        ),
        "rms_norm fp8 1 x 128": (
            1.5 * size,
            lambda: aiter.norm_quant(x, w, quant=groups_fp8, out=fp8, out_scale=groups),
        ),
        "groupnorm int8": (
            1.5 * image.nbytes,
            lambda: aiter.groupnorm_quant(image, 32, out=planes[0], out_scale=planes[1]),
            lambda: apart(image, image_out, *planes, last=False),
        ),
        "groupnorm int8, NHWC": (
            1.5 * image.nbytes,
            lambda: aiter.groupnorm_quant(
                pixels[0], 32, channels_last=True, out=pixels[1], out_scale=pixels[2]
            ),
            lambda: apart(pixels[0], last_out, *pixels[1:], last=True),
        ),
        "silu_and_mul fp8 1 x 128": (
            2.5 * size,
            lambda: aiter.act_and_mul(gate_up, "silu", quant=groups_fp8, out=fp8, out_scale=groups),
        ),
        "rotate_activation": (2 * size, lambda: aiter.rotate_activation(x, out=y)),
        "rotate_activation, rows of 128": (
            2 * size,
            lambda: aiter.rotate_activation(short, out=y.view(-1, 128)),
        ),
    }


def main():
    print(torch.cuda.get_device_name())
    copy = statistics.median(copy_rate() for _ in range(3))
    print(f"copy {copy / 1e9:.0f} GB/s")
    for rows in (1, 64, 1024, 32768):
        for name, (moved, call, *apart) in problems(rows).items():
            try:
                time = measure(call, [()])
                peers = "".join(f"  {measure(f, [()]) / time:.2f}x apart" for f in apart)
            except Exception as e:  # the others are still of interest
                print(f"{rows:6} {name:30} {type(e).__name__}: {e}")
                continue
            print(f"{rows:6} {name:30} {time * 1e6:8.1f} us {moved / time / copy:6.1%}{peers}")


if __name__ == "__main__":
    main()
