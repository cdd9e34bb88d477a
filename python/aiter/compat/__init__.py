"""AITER's exact signatures: output arguments first, in place, attributes and all, on torch tensors.

Code written for AITER runs with `import aiter.compat as aiter`. Each function is a thin wrapper of
the one in `aiter` that does the work; what has the same signature there is simply passed on.
"""

import aiter as _aiter
from aiter import *

from . import _enums, activation, dtypes, elementwise, kvcache, quant, sampling
from . import _enums, activation, dtypes, elementwise, kvcache, rope, sampling
from ._enums import *
from .activation import *
from .elementwise import *
from .kvcache import *
from .quant import *
from .sampling import *

_MODULES = (_aiter, _enums, activation, elementwise, kvcache, sampling, quant)
_MODULES = (_aiter, _enums, activation, elementwise, kvcache, sampling)
from . import _enums, dtypes
from . import rope as _rope
from ._enums import *
from .rope import *

_MODULES = (_aiter, _enums, _rope)
from .rope import *
from .sampling import *

_MODULES = (_aiter, _enums, activation, elementwise, kvcache, rope, sampling)

__all__ = sorted({"dtypes"}.union(*(module.__all__ for module in _MODULES)))
