"""Arrays, threads, and what dispatch decided."""

from __future__ import annotations

import contextlib

from . import _aiter
from ._aiter import Array, Graph, Stream

__all__ = [
    "Array",
    "Graph",
    "Stream",
    "asarray",
    "capture",
    "device_info",
    "devices",
    "empty",
    "explain",
    "get_num_threads",
    "prepare",
    "set_num_threads",
    "to_device",
    "view",
    "zeros",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .typing import ArrayLike, Device, DType, Shape

for _type in (Array, Graph, Stream):
    _type.__module__ = "aiter"  # where users find it


def empty(shape: Shape, dtype: DType = "float32", device: Device = "cpu") -> Array:
    """Make an Array of undefined contents.

    shape: an int or a sequence of ints. dtype: a name, or a dtype object of another library.
    device: "cpu", "cuda:N" or "hip:N".
    """
    return _aiter.empty(shape, dtype, device)


def zeros(shape: Shape, dtype: DType = "float32", device: Device = "cpu") -> Array:
    """Make an Array of zeros; the arguments are those of empty."""
    return _aiter.zeros(shape, dtype, device)


def asarray(x: ArrayLike, dtype: DType | None = None, copy: bool | None = None) -> Array:
    """Make an Array over the memory of x: NumPy, torch, JAX, CuPy, or anything with __dlpack__.

    dtype: what uint8 (or int8) bytes hold, as "float8_e4m3fn"; values are never converted.
    copy: True = always, False = never, None = only to pack NumPy's 4-bit types, two into a byte.
    """
    return _aiter.asarray(x, dtype, copy)


def view(x: ArrayLike, dtype: DType) -> Array:
    """Make an Array over the memory of x that takes its bytes for elements of dtype.

    So arrays of libraries that lack fp8 or packed 4-bit types can hold them, as uint8:
    view(x, "float8_e4m3fn").
    Results of calls that get the view come in the kind of x.
    """
    return _aiter.view(x, dtype)


def to_device(x: ArrayLike, device: Device) -> Array:
    """Make an Array of x's elements on a device; x's own memory if it is there already."""
    return _aiter.to_device(x, device)


def devices() -> list[str]:
    """Names of the devices of this machine: "cpu", then "cuda:N" and "hip:N"."""
    counts = {"cuda": _aiter.device_count(2), "hip": _aiter.device_count(10)}
    return ["cpu", *(f"{kind}:{i}" for kind, n in counts.items() for i in range(n))]


def device_info(device: Device) -> dict[str, str | int]:
    """Properties of a GPU: name, arch, multiprocessors, wave_size, and sizes in bytes."""
    return _aiter.device_info(device)


def prepare(device: Device, ops: str | list[str] | None = None) -> None:
    """Load the kernels of operators for a GPU, and build those that were not built ahead of time.

    After it, calls can be captured in a graph, and the first one is as quick as the others.
    ops: names of operators as aiter.explain shows them, a list or joined by commas; None = all.
    """
    _aiter.prepare(device, ops if ops is None or isinstance(ops, str) else ",".join(ops))


class Recording:
    """What aiter.capture yields: graph is there when its block has ended."""

    graph: Graph


@contextlib.contextmanager
def capture(stream: Stream) -> Iterator[Recording]:
    """Record the calls on a stream instead of running them.

        with aiter.capture(stream) as recording:
            aiter.rms_norm(x, w, out=y, stream=stream)
        recording.graph.launch(stream)

    The arrays of the calls have to live as long as the graph; calls that would make one (no out=)
    fail. Kernels have to be loaded: call once before, or aiter.prepare.
    """
    recording = Recording()
    stream._begin_capture()
    try:
        yield recording
    except BaseException:
        with contextlib.suppress(RuntimeError):  # what went wrong is more than that
            stream._end_capture()
        raise
    recording.graph = stream._end_capture()


def set_num_threads(n: int) -> None:
    """Set the number of threads of CPU calls, the caller's included; 0 restores the default."""
    _aiter.set_num_threads(n)


def get_num_threads() -> int:
    """Number of threads of CPU calls."""
    return _aiter.get_num_threads()


def explain(function: Callable[..., object], *args: object, **kwargs: object) -> str:
    """Tell which kernel row `function(*args, **kwargs)` would run, and why no better one.

    Everything is checked as in the real call, but nothing is computed. Raises what the call would
    raise. A function that makes several calls is answered with several explanations.
    """
    return _aiter.explain(function, *args, **kwargs)
