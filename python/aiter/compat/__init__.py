"""AITER's exact signatures: output arguments first, in place, attributes and all, on torch tensors.

Code written for AITER runs with `import aiter.compat as aiter`. Each function is a thin wrapper of
the one in `aiter` that does the work; what has the same signature there is simply passed on.
"""

import aiter as _aiter
from aiter import *

from . import _enums, dtypes
from ._enums import *

_MODULES = (_aiter, _enums, )
from ._enums import *
from .activation import *
from .elementwise import *
from .kvcache import *
<<<<<<< HEAD
from .quant import *
from .rope import *
from .sampling import *

_MODULES = (_aiter, _enums, activation, elementwise, kvcache, quant, rope, sampling)
=======
from .norm import *
from .sampling import *

_MODULES = (_aiter, _enums, activation, elementwise, kvcache, norm, sampling)
>>>>>>> 23c1fdd (norm: norm_quant, qk_rmsnorm and groupnorm; aiter.compat.norm; guide)

__all__ = sorted({"dtypes"}.union(*(module.__all__ for module in _MODULES)))
