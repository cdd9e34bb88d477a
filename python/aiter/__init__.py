"""libaiter: operators for AI engines, for NumPy, JAX, CuPy and torch arrays alike.

Arrays come and go by DLPack without copies; results have the kind of the first array argument.
Function names and semantics are those of AMD's AITER where it has one.
"""

from ._core import (
    Array,
    asarray,
    empty,
    explain,
    get_num_threads,
    set_num_threads,
    to_device,
    view,
    zeros,
)
from .kvcache import reshape_and_cache_flash
from .norm import rms_norm, rmsnorm2d_fwd, rmsnorm2d_fwd_with_add

__all__ = [
    "Array",
    "asarray",
    "empty",
    "explain",
    "get_num_threads",
    "reshape_and_cache_flash",
    "rms_norm",
    "rmsnorm2d_fwd",
    "rmsnorm2d_fwd_with_add",
    "set_num_threads",
    "to_device",
    "view",
    "zeros",
]
