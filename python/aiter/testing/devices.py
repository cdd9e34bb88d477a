"""The same test on a GPU: calls on NumPy arrays are made on copies of their memory there."""

import contextlib
import functools
import os
import sys
import unittest

import numpy as np

from .. import _aiter, devices


@functools.cache
def gpus():
    """GPUs to test on: those of AITER_TEST_DEVICES (separated by commas), or else all that have code."""
    chosen = os.environ.get("AITER_TEST_DEVICES")
    if chosen:
        return chosen.split(",")
    found = []
    for device in devices()[1:]:
        with contextlib.suppress(RuntimeError):  # no code object
            _aiter.prepare(device, "rmsnorm")
            found.append(device)
    return found


@contextlib.contextmanager
def on_device(device):
    """Calls of aiter's functions inside get copies on `device` of their NumPy arrays."""
    proxy = _Proxy(device)
    modules = [
        m
        for name, m in sys.modules.items()
        if name.startswith("aiter.")
        and getattr(m, "_aiter", None) is _aiter
        and not name.startswith("aiter.testing")
    ]
    for module in modules:
        module._aiter = proxy
    try:
        yield
    finally:
        for module in modules:
            module._aiter = _aiter


class _Proxy:
    """The binding module, with arrays moved to a device and back around each call."""

    def __init__(self, device):
        self._device = device

    def __getattr__(self, name):
        function = getattr(_aiter, name)
        if not callable(function):
            return function
        return lambda *args, **kwargs: _Call(self._device).run(function, args, kwargs)


class _Call:
    def __init__(self, device):
        self.device = device
        self.mirrors = {}  # address of memory on the host -> (its bytes, their copy)
        self.given = []  # (array on the device, the caller's array)

    def run(self, function, args, kwargs):
        args = [self.enter(a) for a in args]
        kwargs = {k: self.enter(a) for k, a in kwargs.items()}
        if getattr(function, "__name__", "") == "explain":  # calls back into aiter
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except NotImplementedError as e:
            if "(a row is forced)" in str(e):
                raise unittest.SkipTest("the row does not take this case") from e
            raise
        for host, copy in self.mirrors.values():
            if host.flags.writeable:
                host[...] = _aiter.to_device(copy, "cpu").numpy()
        return self.leave(result)

    def enter(self, x):
        if isinstance(x, tuple):  # aiter.Quant
            return tuple(self.enter(item) for item in x)
        if not isinstance(x, np.ndarray):
            return x
        owner = x
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        address = owner.__array_interface__["data"][0]
        if address not in self.mirrors:
            # As bytes, without a copy: owners of memory are contiguous.
            flat = owner.T if owner.flags.f_contiguous else owner
            host = flat.reshape(-1).view(np.uint8)
            self.mirrors[address] = (
                host,
                _aiter.to_device(_aiter.asarray(host, None, None), self.device),
            )
        _, copy = self.mirrors[address]
        offset = x.__array_interface__["data"][0] - address if x.size else 0
        strides = [s // x.itemsize for s in x.strides]
        moved = _aiter.as_strided(copy, x.dtype, x.shape, strides, offset)
        self.given.append((moved, x))
        return moved

    def leave(self, result):
        if isinstance(result, tuple):
            return tuple(self.leave(r) for r in result)
        if not isinstance(result, _aiter.Array):
            return result
        for moved, x in self.given:
            if result is moved:
                return x
        return _aiter.to_device(result, "cpu").numpy()
