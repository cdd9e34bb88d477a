"""Speed of the emulator: wave-instructions a second and a core, on vector code and on MFMA-heavy code."""

import argparse
import time

import numpy as np
import test_blobs
import toolchain
from aiter.emulator import device

VECTOR = """
KERNEL void k(const vec<f32, 4>* a, vec<f32, 4>* c, int n) {
  SHARED static f32 s[256];
  f32 sum = 0;
  for (int i = TID; i < n; i += 256) { vec<f32, 4> x = a[BID * n + i]; sum += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w; }
  s[TID] = sum; SYNC;
  for (int h = 128; h; h /= 2) { if (TID < h) s[TID] += s[TID + h]; SYNC; }
  f32 r = __builtin_amdgcn_rsqf(s[0] / (4 * n) + 1e-6f);
  for (int i = TID; i < n; i += 256) { vec<f32, 4> x = a[BID * n + i]; c[BID * n + i] = x * r; }
}"""
ALU = """
KERNEL void k(f32* c, int n) {
  f32 x[16]; u32 y[8];
  for (int j = 0; j < 16; ++j) x[j] = TID + j;
  for (int j = 0; j < 8; ++j) y[j] = TID * j + 1;
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < 16; ++j) x[j] = x[j] * 0.999f + x[(j + 1) & 15];
    for (int j = 0; j < 8; ++j) y[j] = (y[j] ^ (y[j] << 5)) + (y[(j + 3) & 7] >> 3);
  }
  f32 r = 0; for (int j = 0; j < 16; ++j) r += x[j]; for (int j = 0; j < 8; ++j) r += y[j];
  c[BID * BDIM + TID] = r;
}"""


def mfma(name, a, b, c):
    body = [
        "s_load_dwordx2 s[4:5], s[0:1], 0x0",
        "s_movk_i32 s8, 0x400",
        "v_lshlrev_b32 v1, 2, v0",
        "s_waitcnt lgkmcnt(0)",
    ]
    body += [f"v_mov_b32 v{i}, 0" for i in range(4, 120)]
    body += ["loop:"]
    scales = ", v4, v5 op_sel_hi:[0,0,0]" if "scale" in name else ""
    for i in range(4):
        # One MFMA, then the loads and address arithmetic of a typical inner loop.
        first = 120 if c == 4 else 64
        acc = (
            f"v[{first + i * c}:{first + i * c + c - 1}]"
            if c == 4
            else f"v[{64 + (i % 2) * c}:{64 + (i % 2) * c + c - 1}]"
        )
        body += [
            f"{name} {acc}, v[8:{7 + a}], v[16:{15 + b}], {acc}" + scales,
            "ds_read_b128 v[24:27], v1",
            "v_add_u32 v2, v1, v2",
            "v_mul_f32 v3, v2, v3",
        ]
    body += [
        "s_sub_u32 s8, s8, 1",
        "s_cmp_lg_u32 s8, 0",
        "s_cbranch_scc1 loop",
        "s_nop 7",
        "s_nop 7",
        "global_store_dword v1, v64, s[4:5]",
    ]
    return toolchain.kernel_asm("\n".join(body), args=1, vgprs=144, lds=4096, threads=256)


def measure(launch, repeats=5):
    """M wave-instructions a second of CPU time, and the best time."""
    lib = device.lib()
    rate, best = 0.0, 1e9
    for _ in range(repeats):
        before, cpu, wall = (
            lib.aiter_gfxemu_instructions(),
            time.process_time(),
            time.perf_counter(),
        )
        launch()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        rate = max(rate, (lib.aiter_gfxemu_instructions() - before) / cpu / 1e6)
        best = min(best, wall)
    return rate, best


def report(name, launch, repeats=5, note=""):
    rate, seconds = measure(launch, repeats)
    print(f"  {name:<36} {rate:8.1f} {seconds * 1e3:9.1f} ms  {note}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--check", type=int, default=0)
    options = parser.parse_args()
    device.option(threads=options.threads, check=options.check)
    isa = device.lib().aiter_gfxemu_host_isa().decode()
    print(f"{isa}, {options.threads} thread(s), check {options.check}: "
          "M wave-instructions a second and core, time of a launch")  # fmt: skip

    def kernel(arch, code, grid, *args):
        device.option(arch=arch)
        module = device.Module(code)
        return lambda: module.launch("k", grid, 256, *args)

    x = device.Buffer(np.random.rand(512 * 8192).astype(np.float32))
    y = device.Buffer(np.zeros(512 * 8192, np.float32))
    code = toolchain.compile_hip(VECTOR, "gfx942")
    report("rmsnorm 512 x 8192 f32", kernel("gfx942", code, 512, x, y, np.int32(2048)))
    code = toolchain.compile_hip(ALU, "gfx942")
    report("f32 and integer ALU", kernel("gfx942", code, 16, y, np.int32(300)))
    path, why = test_blobs.fetch()
    if path is None:
        print(f"  no attention: {why}")
    else:
        blobs, r = test_blobs.unpack(path), np.random.default_rng(0)
        q, k, v = (test_blobs.bf16(r.standard_normal((2048, 8, 128))) for _ in range(3))
        # One that the sanitizer finds nothing in.
        for case in test_blobs.FORWARD[1:2] if options.check else test_blobs.FORWARD:
            launch, *_ = test_blobs.attention_forward(blobs, *case, q, k, v, 128**-0.5)
            report(f"attention 8 x 2048^2 {case[1].split('/')[0]}", launch, 2, case[2])
    if options.check:
        return  # the loops below read registers and LDS that nobody wrote
    for arch, name, a, b, c in (
        ("gfx942", "v_mfma_f32_32x32x8_bf16", 2, 2, 16),
        ("gfx942", "v_mfma_f32_16x16x16_f16", 2, 2, 4),
        ("gfx942", "v_mfma_f32_32x32x8_f16", 2, 2, 16),
        ("gfx942", "v_mfma_f32_16x16x32_fp8_fp8", 2, 2, 4),
        ("gfx942", "v_mfma_i32_16x16x32_i8", 2, 2, 4),
        ("gfx950", "v_mfma_f32_16x16x32_bf16", 4, 4, 4),
        ("gfx950", "v_mfma_f32_32x32x16_bf16", 4, 4, 16),
        ("gfx950", "v_mfma_f32_16x16x128_f8f6f4", 8, 8, 4),
        ("gfx950", "v_mfma_f32_32x32x64_f8f6f4", 8, 8, 16),
        ("gfx950", "v_mfma_scale_f32_16x16x128_f8f6f4", 8, 8, 4),
        ("gfx950", "v_mfma_scale_f32_32x32x64_f8f6f4", 8, 8, 16),
    ):
        code = toolchain.compile_asm(mfma(name, a, b, c), arch)
        report(name, kernel(arch, code, 4, y), 3, "1 in 4 is the MFMA")


if __name__ == "__main__":
    main()
