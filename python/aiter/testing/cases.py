"""Cases (one list per operator, shared by test and bench), and forced rows and instruction sets."""

import contextlib

import ml_dtypes
import numpy as np

from .. import _aiter
from .devices import gpus, on_device


class Case(dict):
    """One problem: a tag (smoke, edge, model, perf) and the parameters, also as attributes."""

    def __init__(self, tag, **parameters):
        super().__init__(parameters)
        self.tag = tag

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __str__(self):
        return "-".join([self.tag, *(f"{k}={_short(v)}" for k, v in self.items())])


def _short(value):
    """A named tuple without what it has by default, anything else as it is."""
    if not (defaults := getattr(value, "_field_defaults", None)):
        return value
    told = (v for k, v in value._asdict().items() if v is not defaults.get(k, value))
    return f"({','.join(map(str, told))})"


def dtype_of(name):
    """The NumPy dtype of "bf16", "fp16", "fp32" or of any dtype name."""
    short = {"bf16": ml_dtypes.bfloat16, "fp16": np.float16, "fp32": np.float32}
    return np.dtype(short.get(name) or getattr(ml_dtypes, name, None) or name)


def rows(op, *targets):
    """Names of an operator's rows, best first, whose targets mention one of `targets`, or CPU."""
    table = [line.split("\t") for line in _aiter.dispatch_table().splitlines()]
    return [
        row
        for _, name, row, text, _ in table
        if name == op and any(target in text for target in targets or ("CPU",))
    ]


def isas():
    """Instruction sets of the CPU rows that this machine has."""
    found = []
    before = _aiter.get_cpu_isa()
    for isa in ("portable", "avx2", "avx512"):
        with contextlib.suppress(NotImplementedError):
            _aiter.set_cpu_isa(isa)
            found.append(isa)
    _aiter.set_cpu_isa(before)
    return found


def variants(op):
    """Where an operator is to be tested: (row, instruction set) on the CPU, (row, device) on GPUs."""
    cpu = [(row, isa) for row in rows(op) for isa in isas()]
    vendors = {"cuda": ("GPU", "NVIDIA", "SM"), "hip": ("GPU", "AMD", "GFX")}
    return cpu + [
        (row, device) for device in gpus() for row in rows(op, *vendors[device.split(":")[0]])
    ]


@contextlib.contextmanager
def using(op=None, row=None, place=None, threads=None, *, isa=None):
    """Run the calls inside with a forced row, and in a place: an instruction set or a GPU ("cuda:0").

    On a GPU, calls that get NumPy arrays work on copies there, and give NumPy arrays back.
    """
    place = place or isa
    isa_before, threads_before = _aiter.get_cpu_isa(), _aiter.get_num_threads()
    with contextlib.ExitStack() as stack:
        try:
            if row is not None:
                _aiter.set_force(f"{op}:{row}")
            if place is not None and ":" in place:
                stack.enter_context(on_device(place))
            elif place is not None:
                _aiter.set_cpu_isa(place)
            if threads is not None:
                _aiter.set_num_threads(threads)
            yield
        finally:
            if row is not None:
                _aiter.set_force("")
            _aiter.set_cpu_isa(isa_before)
            _aiter.set_num_threads(threads_before)
