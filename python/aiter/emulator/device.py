"""libaiter_gfxemu.so through ctypes: its HIP entry points and its own functions."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
from pathlib import Path

import numpy as np


def library_path() -> Path | None:
    """The emulator of this installation, where it was built."""
    path = Path(__file__).parents[1] / "lib" / "libaiter_gfxemu.so"
    return path if path.exists() else None


@functools.cache
def lib():
    path = library_path()
    if path is None:
        raise EmulatorError(
            "this libaiter was built without the emulator; build it with AITER_BUILD_EMULATOR=ON"
        )
    handle = ctypes.CDLL(str(path))
    handle.hipGetErrorString.restype = ctypes.c_char_p
    handle.aiter_gfxemu_instructions.restype = ctypes.c_uint64
    for name in ("last_error", "reports", "disassemble", "host_isa", "sweep", "describe"):
        getattr(handle, f"aiter_gfxemu_{name}").restype = ctypes.c_char_p
    return handle


class EmulatorError(RuntimeError):
    """A launch failed, or what the sanitizer found."""


def check(code: int) -> None:
    if code:
        raise EmulatorError(lib().hipGetErrorString(code).decode())


def option(**settings) -> None:
    """Set options of the process: arch, quantum, seed, threads, check, count, limit."""
    for key, value in settings.items():
        if lib().aiter_gfxemu_set_option(key.encode(), str(value).encode()):
            raise EmulatorError(lib().aiter_gfxemu_last_error().decode())


def reports() -> list[dict]:
    """Counters of the launches with count=1 since the last call."""
    return json.loads(lib().aiter_gfxemu_reports())


def describe(code: bytes) -> dict:
    """The processor and the kernels of a code object: registers, LDS, arguments."""
    text = lib().aiter_gfxemu_describe(code, ctypes.c_size_t(len(code)))
    if text is None:
        raise EmulatorError(lib().aiter_gfxemu_last_error().decode())
    return json.loads(text)


def disassemble(words, arch: str) -> list[str]:
    """Instructions in LLVM's syntax; what cannot be decoded is `.long`."""
    words = np.ascontiguousarray(words, np.uint32)
    lines, at, size = [], 0, ctypes.c_int()
    while at < len(words):
        text = lib().aiter_gfxemu_disassemble(
            arch.encode(),
            ctypes.c_void_p(words.ctypes.data + 4 * at),
            len(words) - at,
            ctypes.byref(size),
        )
        lines.append(text.decode() if size.value else f".long {words[at]:#010x}")
        at += size.value or 1
    return lines


class Buffer:
    """Device memory, with an array's contents or of a size."""

    def __init__(self, array=None, *, size=None, fill=None):
        self.pointer = ctypes.c_void_p()
        self.size = array.nbytes if array is not None else size
        check(lib().hipMalloc(ctypes.byref(self.pointer), ctypes.c_size_t(self.size)))
        self.like = array
        if array is not None:
            data = np.ascontiguousarray(array)
            source = ctypes.c_void_p(data.ctypes.data)
            check(lib().hipMemcpy(self.pointer, source, ctypes.c_size_t(self.size), 1))
        elif fill is not None:
            check(lib().hipMemset(self.pointer, fill, ctypes.c_size_t(self.size)))

    @property
    def address(self) -> int:
        return self.pointer.value or 0

    def read(self, dtype=None, shape=None) -> np.ndarray:
        dtype = np.dtype(dtype if dtype is not None else self.like.dtype)
        out = np.empty(self.size // dtype.itemsize, dtype)
        target = ctypes.c_void_p(out.ctypes.data)
        check(lib().hipMemcpy(target, self.pointer, ctypes.c_size_t(self.size), 2))
        if shape is None:
            shape = self.like.shape if self.like is not None else -1
        return out.reshape(shape)

    def free(self) -> None:
        if self.pointer:
            check(lib().hipFree(self.pointer))
            self.pointer = ctypes.c_void_p()

    def __del__(self):
        with contextlib.suppress(Exception):
            self.free()


class Module:
    """A loaded code object."""

    def __init__(self, code: bytes):
        self.handle = ctypes.c_void_p()
        self.code = code
        check(lib().hipModuleLoadData(ctypes.byref(self.handle), code))

    def __del__(self):
        if self.handle:
            lib().hipModuleUnload(self.handle)

    def launch(self, name, grid, block, *args, raw=None, lds=0, stream=None) -> None:
        """args: Buffers and NumPy scalars in the kernel's order; or raw: the argument bytes.

        grid: workgroups.  block: threads of one.  Each a number or up to three.
        """
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
