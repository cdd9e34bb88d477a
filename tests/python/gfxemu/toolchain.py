"""Build AMD code objects with the `ziglang` wheel: assembly or header-free HIP in, code object out."""

import functools
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path


@functools.cache
def zig():
    """Command line of the compiler, or None. AITER_ZIG_PYTHON names a Python that has ziglang."""
    for python in (os.environ.get("AITER_ZIG_PYTHON"), sys.executable):
        if not python:
            continue
        if python == sys.executable and importlib.util.find_spec("ziglang") is None:
            continue
        command = [python, "-m", "ziglang"]
        probe = subprocess.run([*command, "version"], capture_output=True, text=True)
        if probe.returncode == 0:
            return command
    return None


MISSING = "no AMD device compiler: pip install ziglang==0.17.1 (or set AITER_ZIG_PYTHON)"


@functools.cache
def cache_dir():
    root = os.environ.get("AITER_TEST_CACHE")
    path = Path(root) if root else Path(tempfile.gettempdir()) / "aiter-gfxemu-tests"
    path.mkdir(parents=True, exist_ok=True)
    return path


def run(*arguments, text=None):
    result = subprocess.run(
        [*zig(), *map(str, arguments)], capture_output=True, text=True, input=text
    )
    if result.returncode:
        raise RuntimeError(result.stderr.strip()[-4000:])
    return result.stdout


def _cached(suffix, *parts):
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    return cache_dir() / f"{key}{suffix}"


def assemble(text, arch):
    """Object file (not linked) of an assembly text."""
    out = _cached(".o", "asm", text, arch)
    if not out.exists():
        with tempfile.TemporaryDirectory() as tmp:
            source, obj = Path(tmp) / "a.s", Path(tmp) / "a.o"
            source.write_text(text)
            run("clang", "-target", "amdgcn-amd-amdhsa", f"-mcpu={arch}", "-c", source, "-o", obj)
            obj.replace(out)
    return out.read_bytes()


def link(obj):
    with tempfile.TemporaryDirectory() as tmp:
        source, out = Path(tmp) / "a.o", Path(tmp) / "a.co"
        source.write_bytes(obj)
        run("ld.lld", "-shared", "--no-undefined", source, "-o", out)
        return out.read_bytes()


PRELUDE = """
#define KERNEL extern "C" __attribute__((global))
#define DEVICE __attribute__((device))
#define SHARED __attribute__((shared))
#define TID ((int)__builtin_amdgcn_workitem_id_x())
#define BID ((int)__builtin_amdgcn_workgroup_id_x())
#define BDIM ((int)__builtin_amdgcn_workgroup_size_x())
#define SYNC (__builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup"), __builtin_amdgcn_s_barrier(), \
              __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup"))
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long u64;
typedef signed char i8; typedef short i16; typedef int i32; typedef long i64;
typedef _Float16 f16; typedef __bf16 bf16; typedef float f32; typedef double f64;
template <class T, int N> using vec = T __attribute__((ext_vector_type(N)));
"""


def compile_hip(text, arch, optimize="-O3", flags=()):
    """Code object of a HIP source that includes nothing; PRELUDE is put before it."""
    out = _cached(".co", "hip", PRELUDE, text, arch, optimize, *flags)
    if not out.exists():
        with tempfile.TemporaryDirectory() as tmp:
            source, asm = Path(tmp) / "k.hip", Path(tmp) / "k.s"
            source.write_text(PRELUDE + text)
            run(
                "clang",
                "-x",
                "hip",
                "--cuda-device-only",
                "-nogpuinc",
                "-nogpulib",
                f"--offload-arch={arch}",
                "-mcode-object-version=5",
                optimize,
                *flags,
                "-S",
                source,
                "-o",
                asm,
            )
            code = link(assemble(asm.read_text(), arch))
            partial = out.with_suffix(f".{os.getpid()}")
            partial.write_bytes(code)
            partial.replace(out)
    return out.read_bytes()


def kernel_asm(
    body, *, name="k", args=1, vgprs=64, sgprs=48, lds=0, threads=64, accum=None, extra=""
):
    """A kernel in assembly: pointers in s[0:1], ... as kernarg segment in s[0:1]; workgroup id in s2."""
    accum = accum or (vgprs + 3) // 4 * 4
    kernarg = 8 * args
    arguments = "\n".join(
        f"      - {{.address_space: global, .offset: {8 * i}, .size: 8, .value_kind: global_buffer}}"
        for i in range(args)
    )
    return f"""
.text
.globl {name}
.p2align 8
.type {name},@function
{name}:
{body}
  s_endpgm
.rodata
.p2align 6
.amdhsa_kernel {name}
  .amdhsa_next_free_vgpr {vgprs}
  .amdhsa_next_free_sgpr {sgprs}
  .amdhsa_accum_offset {accum}
  .amdhsa_group_segment_fixed_size {lds}
  .amdhsa_user_sgpr_kernarg_segment_ptr 1
  .amdhsa_user_sgpr_count 2
  .amdhsa_system_sgpr_workgroup_id_x 1
  {extra}
.end_amdhsa_kernel
.amdgpu_metadata
amdhsa.version: [1, 2]
amdhsa.kernels:
  - .name: {name}
    .symbol: {name}.kd
    .kernarg_segment_size: {kernarg}
    .kernarg_segment_align: 8
    .group_segment_fixed_size: {lds}
    .private_segment_fixed_size: 0
    .wavefront_size: 64
    .sgpr_count: {sgprs}
    .vgpr_count: {vgprs}
    .max_flat_workgroup_size: {max(threads, 64)}
    .args:
{arguments}
.end_amdgpu_metadata
"""


def compile_asm(text, arch):
    return link(assemble(text, arch))
