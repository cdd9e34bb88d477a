"""libaiter's operators inside jax.jit, through XLA FFI.

    python examples/jax/layers.py

builds handlers.cc against the installed package (a C++17 compiler is needed) and runs a layer.
"""

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

import aiter
import jax
import jax.numpy as jnp
import numpy as np

SOURCE = Path(__file__).with_name("handlers.cc")
NAMES = ("rms_norm", "add_rms_norm", "silu_and_mul", "update_cache")


def build(folder):
    """Compile the handlers into a shared library; returns its path."""
    package = Path(aiter.__file__).parent
    library = Path(folder) / "aiter_handlers.so"
    subprocess.run(
        [
            "c++",
            "-std=c++17",
            "-O2",
            "-shared",
            "-fPIC",
            SOURCE,
            "-o",
            library,
            f"-I{package / 'include'}",
            "-isystem",
            jax.ffi.include_dir(),
            f"-L{package / 'lib'}",
            f"-Wl,-rpath,{package / 'lib'}",
            "-laiter",
        ],
        check=True,
    )
    return library


def register(library):
    """Make the handlers known to XLA: for the CPU, and for GPUs with kernels loaded in advance."""
    library = ctypes.CDLL(str(library))
    for platform, suffix in (("cpu", "cpu"), ("CUDA", "cuda"), ("ROCM", "rocm")):
        for name in NAMES:
            stages = {"execute": jax.ffi.pycapsule(getattr(library, f"{name}_{suffix}"))}
            if platform != "cpu":
                stages["initialize"] = jax.ffi.pycapsule(getattr(library, f"prepare_{suffix}"))
            jax.ffi.register_ffi_target(f"aiter_{name}", stages, platform=platform)


def like(x, shape=None):
    return jax.ShapeDtypeStruct(x.shape if shape is None else shape, x.dtype)


def rms_norm(x, w, eps=1e-6):
    return jax.ffi.ffi_call("aiter_rms_norm", like(x))(x, w, eps=np.float32(eps))


def add_rms_norm(x, residual, w, eps=1e-6):
    """(rms_norm(x + residual), x + residual)."""
    call = jax.ffi.ffi_call("aiter_add_rms_norm", (like(x), like(x)))
    return call(x, residual, w, eps=np.float32(eps))


def silu_and_mul(x):
    return jax.ffi.ffi_call("aiter_silu_and_mul", like(x, (*x.shape[:-1], x.shape[-1] // 2)))(x)


def update_cache(key, value, key_cache, value_cache, slots):
    """The caches with the new keys and values. In place where the old ones are donated."""
    call = jax.ffi.ffi_call(
        "aiter_update_cache",
        (like(key_cache), like(value_cache)),
        input_output_aliases={2: 0, 3: 1},
    )
    return call(key, value, key_cache, value_cache, slots)


@jax.jit
def layer(x, residual, norm, up, down):
    y, residual = add_rms_norm(x, residual, norm)
    return silu_and_mul(y @ up) @ down, residual


def main():
    with tempfile.TemporaryDirectory() as folder:
        register(build(folder))
        keys = jax.random.split(jax.random.key(0), 4)
        x, residual = (jax.random.normal(k, (4, 64), jnp.bfloat16) for k in keys[:2])
        up = jax.random.normal(keys[2], (64, 256), jnp.bfloat16) / 8
        down = jax.random.normal(keys[3], (128, 64), jnp.bfloat16) / 11
        y, residual = layer(x, residual, jnp.ones(64, jnp.bfloat16), up, down)
        print(y.shape, y.dtype, y.devices())


if __name__ == "__main__":
    sys.exit(main())
