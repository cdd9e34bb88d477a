"""libaiter: operators for AI engines, for NumPy, JAX, CuPy and torch arrays alike.

Arrays come and go by DLPack without copies; results have the kind of the first array argument.
Function names and semantics are those of AMD's AITER where it has one.
"""

from . import _core
from . import activation as _activation
from . import attention as _attention
from . import elementwise as _elementwise
from . import embedding as _embedding
from . import gemm as _gemm
from . import kvcache as _kvcache
from . import norm as _norm
from . import quant as _quant
from . import rope as _rope
from . import rotary as _rotary
from . import sampling as _sampling
from ._core import *
from .activation import *
from .attention import *
from .elementwise import *
from .embedding import *
from .gemm import *
from .kvcache import *
from .norm import *
from .quant import *
from .rope import *
from .rotary import *
from .sampling import *

__all__ = sorted(
    name
    for module in (
        _core,
        _activation,
        _attention,
        _elementwise,
        _embedding,
        _gemm,
        _kvcache,
        _norm,
        _quant,
        _rope,
        _rotary,
        _sampling,
    )
    for name in module.__all__
)
