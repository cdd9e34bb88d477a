"""libaiter_gfxemu.so through ctypes: what a test needs of the HIP runtime, over NumPy arrays."""

import contextlib
import ctypes
import functools
import importlib.util
import os
from pathlib import Path

import numpy as np


@functools.cache
def library_path():
    """AITER_GFXEMU_LIBRARY, else the one that the package aiter brings, else the newest one below a
    build folder of this checkout."""
    given = os.environ.get("AITER_GFXEMU_LIBRARY")
    if given:
        return Path(given)
    package = importlib.util.find_spec("aiter")
    if package and package.origin:
        installed = Path(package.origin).with_name("lib") / "libaiter_gfxemu.so"
        if installed.exists():
            return installed
    root = Path(__file__).resolve().parents[3]
    found = sorted(root.glob("build*/**/libaiter_gfxemu.so"), key=lambda p: p.stat().st_mtime)
    return found[-1] if found else None


@functools.cache
def lib():
    handle = ctypes.CDLL(str(library_path()))
    handle.hipGetErrorString.restype = ctypes.c_char_p
    for name in (
        "aiter_gfxemu_last_error",
        "aiter_gfxemu_report",
        "aiter_gfxemu_disassemble",
        "aiter_gfxemu_host_isa",
        "aiter_gfxemu_sweep",
        "aiter_gfxemu_describe",
    ):
        if hasattr(handle, name):
            getattr(handle, name).restype = ctypes.c_char_p
    return handle


class EmulatorError(RuntimeError):
    pass


def check(code):
    if code:
        raise EmulatorError(lib().hipGetErrorString(code).decode())


def option(**settings):
    """Sets options: arch, quantum, seed, threads, check, count, limit."""
    for key, value in settings.items():
        check(lib().aiter_gfxemu_set_option(key.encode(), str(value).encode()))


class Buffer:
    def __init__(self, array=None, *, size=None, fill=None):
        self.pointer = ctypes.c_void_p()
        self.size = array.nbytes if array is not None else size
        check(lib().hipMalloc(ctypes.byref(self.pointer), ctypes.c_size_t(self.size)))
        self.like = array
        if array is not None:
            data = np.ascontiguousarray(array)
            check(
                lib().hipMemcpy(
                    self.pointer,
                    data.ctypes.data_as(ctypes.c_void_p),
                    ctypes.c_size_t(self.size),
                    1,
                )
            )
        elif fill is not None:
            check(lib().hipMemset(self.pointer, fill, ctypes.c_size_t(self.size)))

    @property
    def address(self):
        return self.pointer.value or 0

    def read(self, dtype=None, shape=None):
        dtype = np.dtype(dtype if dtype is not None else self.like.dtype)
        out = np.empty(self.size // dtype.itemsize, dtype)
        check(
            lib().hipMemcpy(
                out.ctypes.data_as(ctypes.c_void_p), self.pointer, ctypes.c_size_t(self.size), 2
            )
        )
        return out.reshape(
            shape if shape is not None else self.like.shape if self.like is not None else -1
        )

    def free(self):
        if self.pointer:
            check(lib().hipFree(self.pointer))
            self.pointer = ctypes.c_void_p()

    def __del__(self):
        with contextlib.suppress(Exception):
            self.free()


class Module:
    def __init__(self, code):
        self.handle = ctypes.c_void_p()
        self.code = code
        check(lib().hipModuleLoadData(ctypes.byref(self.handle), code))

    def __del__(self):
        if self.handle:
            lib().hipModuleUnload(self.handle)

    def launch(self, name, grid, block, *args, raw=None, lds=0, stream=None):
        """args: Buffers and NumPy scalars in the kernel's order; or raw: the argument bytes."""
        function = ctypes.c_void_p()
        check(lib().hipModuleGetFunction(ctypes.byref(function), self.handle, name.encode()))
        grid, block = (
            tuple(x) + (1, 1, 1) if isinstance(x, (tuple, list)) else (x, 1, 1)
            for x in (grid, block)
        )
        params = extra = None
        keep = []
        if raw is not None:
            data = ctypes.create_string_buffer(bytes(raw), len(raw))
            size = ctypes.c_size_t(len(raw))
            extra = (ctypes.c_void_p * 5)(1, ctypes.addressof(data), 2, ctypes.addressof(size), 3)
        else:
            for a in args:
                keep.append(
                    ctypes.c_uint64(a.address)
                    if isinstance(a, Buffer)
                    else ctypes.create_string_buffer(np.asarray(a).tobytes())
                )
            params = (ctypes.c_void_p * (len(keep) + 1))(*[ctypes.addressof(k) for k in keep])
        check(
            lib().hipModuleLaunchKernel(function, *grid[:3], *block[:3], lds, stream, params, extra)
        )
