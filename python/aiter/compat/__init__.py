"""AITER's exact signatures: output arguments first, in place, attributes and all, on torch tensors.

Code written for AITER runs with `import aiter.compat as aiter`. Each function is a thin wrapper of
the one in `aiter` that does the work; what has the same signature there is simply passed on.
"""

import aiter as _aiter
from aiter import *

from . import _enums, activation, dtypes, elementwise, kvcache, norm, quant, rope, sampling
from ._enums import *
from .activation import *
from .elementwise import *
from .kvcache import *
from .norm import *
from .quant import *
from .rope import *
from .sampling import *

_MODULES = (_aiter, _enums, activation, elementwise, kvcache, norm, quant, rope, sampling)

__all__ = sorted({"dtypes"}.union(*(module.__all__ for module in _MODULES)))
