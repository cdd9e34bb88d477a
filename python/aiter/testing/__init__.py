"""Tools for testing and timing operators: cases, forced rows, error bounds, timers.

Needs NumPy and ml_dtypes; nothing here is imported by `import aiter`.
"""

from .bounds import assert_close, assert_equal, bound, relative_error
from .cases import Case, dtype_of, isas, rows, using, variants
from .devices import gpus, on_device

__all__ = [
    "Case",
    "assert_close",
    "assert_equal",
    "bound",
    "dtype_of",
    "gpus",
    "isas",
    "on_device",
    "relative_error",
    "rows",
    "using",
    "variants",
]
