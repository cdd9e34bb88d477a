"""DLPack producers made by hand: what no framework on this machine does, a test still can."""

import ctypes

import numpy as np

CPU, CUDA, ROCM = 1, 2, 10
READ_ONLY, COPIED = 1, 2
FLOAT = {np.dtype(np.float16): (2, 16), np.dtype(np.float32): (2, 32), np.dtype(np.uint8): (1, 8)}


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Legacy(ctypes.Structure):
    _fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]


class Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
capsule_name = ctypes.pythonapi.PyCapsule_GetName
capsule_name.restype = ctypes.c_char_p
capsule_name.argtypes = [ctypes.py_object]


class Producer:
    """Gives a NumPy array away by __dlpack__.

    shape: another one than the array's, with strides of 0.
    calls: the keyword arguments of each __dlpack__ call. deleted: how often the deleter ran.
    """

    legacy_signature = False

    def __init__(
        self,
        array,
        *,
        device=(CPU, 0),
        version=(1, 0),
        flags=0,
        raises=None,
        offset=0,
        strides=True,
        dtype=None,
        shape=None,
    ):
        self.array, self.device, self.version, self.flags = array, device, version, flags
        self.raises, self.offset, self.strides, self.dtype = raises, offset, strides, dtype
        self.shape = array.shape if shape is None else shape
        self.steps = [s // array.itemsize for s in array.strides] if shape is None else [0] * 8
        self.calls, self.deleted, self.kept = [], 0, []

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **arguments):
        if self.legacy_signature and set(arguments) - {"stream"}:
            raise TypeError(f"unexpected keyword arguments {sorted(arguments)}")
        self.calls.append(arguments)
        if self.raises:
            raise self.raises
        managed = Versioned() if self.version else Legacy()
        tensor, a = managed.tensor, self.array
        code, bits, lanes = self.dtype or (*FLOAT[a.dtype], 1)
        tensor.data = a.ctypes.data - self.offset
        tensor.byte_offset = self.offset
        tensor.device_type, tensor.device_id = self.device
        tensor.ndim, tensor.code, tensor.bits, tensor.lanes = len(self.shape), code, bits, lanes
        tensor.shape = (ctypes.c_int64 * 9)(*self.shape)
        if self.strides:
            tensor.strides = (ctypes.c_int64 * 9)(*self.steps)

        def delete(_):
            self.deleted += 1

        managed.deleter = Deleter(delete)
        name = b"dltensor"
        if self.version:
            managed.major, managed.minor = self.version
            managed.flags = self.flags
            name = b"dltensor_versioned"
        self.capsule = new_capsule(ctypes.addressof(managed), name, None)
        self.kept.append((managed, name))
        return self.capsule


class LegacyProducer(Producer):
    """From before DLPack 1.0: __dlpack__ takes a stream alone."""

    legacy_signature = True


class Exchange(ctypes.Structure):
    """DLPackExchangeAPI, version 1.3."""

    Borrow = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(DLTensor))
    Stream = ctypes.PYFUNCTYPE(
        ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p)
    )
    Error = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
    Managed = ctypes.POINTER(Versioned)
    Allocate = ctypes.PYFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(DLTensor), ctypes.POINTER(Managed), ctypes.c_void_p, Error
    )
    Export = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(Managed))
    Import = ctypes.PYFUNCTYPE(ctypes.c_int, Managed, ctypes.POINTER(ctypes.py_object))
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("previous", ctypes.c_void_p),
        ("allocate", Allocate),
        ("export_managed", Export),
        ("import_managed", Import),
        ("borrow", Borrow),
        ("current_stream", Stream),
    ]


def exchange_producer(device, stream):
    """A type with __dlpack_c_exchange_api__ whose arrays are on `device` and whose current stream
    is `stream`."""

    class ExchangeProducer(Producer):
        borrowed = status = 0

    def borrow(self, out):
        self.borrowed += 1
        tensor, a = out[0], self.array
        self.extents = (ctypes.c_int64 * a.ndim)(*a.shape)
        self.element_strides = (ctypes.c_int64 * a.ndim)(*(s // a.itemsize for s in a.strides))
        tensor.data, tensor.byte_offset = a.ctypes.data, 0
        tensor.device_type, tensor.device_id = device
        tensor.ndim = a.ndim
        tensor.code, tensor.bits = FLOAT[a.dtype]
        tensor.lanes = 1
        tensor.shape, tensor.strides = self.extents, self.element_strides
        return self.status

    def current_stream(device_type, device_id, out):
        assert (device_type, device_id) == device
        out[0] = stream
        return 0

    table = Exchange(
        1, 3, borrow=Exchange.Borrow(borrow), current_stream=Exchange.Stream(current_stream)
    )
    ExchangeProducer.table = table
    ExchangeProducer.__dlpack_c_exchange_api__ = new_capsule(
        ctypes.addressof(table), b"dlpack_exchange_api", None
    )
    return ExchangeProducer


capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
capsule_pointer.restype = ctypes.c_void_p
capsule_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


def exchange_of(kind):
    """The exchange table of a type, to be called from here."""
    pointer = capsule_pointer(kind.__dlpack_c_exchange_api__, b"dlpack_exchange_api")
    return Exchange.from_address(pointer)
