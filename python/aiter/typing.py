"""Types for annotations; nothing here is imported by `import aiter`."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

__all__ = ["ArrayLike", "ArrayT", "DType", "Device", "Shape", "Stream"]


class ArrayLike(Protocol):
    """An array of NumPy, torch, JAX, CuPy, aiter.Array, or any other type with __dlpack__."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...


# The array that decides in which kind results come.
ArrayT = TypeVar("ArrayT", bound=ArrayLike)


class _CudaStream(Protocol):
    def __cuda_stream__(self) -> tuple[int, int]: ...


class _TorchStream(Protocol):
    @property
    def cuda_stream(self) -> int: ...


class _CupyStream(Protocol):
    @property
    def ptr(self) -> int: ...


# A stream's handle, or a stream object of torch, CuPy, cuda.core; None = where the first array's
# library works. CPU calls have no stream.
Stream = int | _CudaStream | _TorchStream | _CupyStream | None

# "bfloat16", or a dtype object of NumPy, ml_dtypes, torch or JAX.
DType = str | Any

# "cpu", "cuda:1", "hip:0", or what prints like that (torch.device), or DLPack's (type, id).
Device = str | tuple[int, int] | Any

Shape = int | tuple[int, ...] | list[int]
