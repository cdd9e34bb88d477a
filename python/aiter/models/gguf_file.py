"""GGUF model files: metadata, and weights in the layouts that libaiter's GEMMs read.

The container is parsed here rather than with the ``gguf`` package, for two reasons: that reader
takes two seconds for a vocabulary of 49k entries, and it loops on a corrupt array length.  The
package is used where its tables are worth having, to dequantize the rarer block formats.

Block formats with 32 weights a block are repacked without rounding:

=====  =============  =========================================================================
Q4_1   `Int4Weight`   w = code * scale + min
Q4_0   `Int4Weight`   w = (code - 8) * scale, so min = -8 * scale
Q8_0   `Int8Weight`   w = code * scale
=====  =============  =========================================================================

F32 and F16 come as they are, BF16 as float32 (exact), every other format dequantized to float16.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from typing import Any, NamedTuple

import numpy as np

GROUP = 32  # weights that share a scale in Q4_0, Q4_1 and Q8_0

# ggml type number -> name, weights a block, bytes a block
_BLOCKS = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", GROUP, 18),
    3: ("Q4_1", GROUP, 20),
    8: ("Q8_0", GROUP, 34),
    30: ("BF16", 1, 2),
}

# metadata value type -> struct code; 8 is a string, 9 an array
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
            12: "d"}  # fmt: skip
_STRING, _ARRAY = 8, 9


class GgufError(ValueError):
    """The file is no GGUF, is damaged, or holds what this reader does not know."""


@dataclasses.dataclass(frozen=True)
class Int4Weight:
    """Matrix (N, K) of 4-bit codes: ``w[n, k] = code * scale[n, k // 32] + min[n, k // 32]``.

    codes: (N, K/2) uint8, the code of an even k in the low half.  scale, min: (N, K/32) float16.
    """

    codes: np.ndarray
    scale: np.ndarray
    min: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape[0], 2 * self.codes.shape[1]

    def dequantize(self, dtype=np.float32) -> np.ndarray:
        codes = np.stack([self.codes & 15, self.codes >> 4], axis=-1)
        codes = codes.reshape(len(codes), -1, GROUP).astype(dtype)
        w = codes * self.scale.astype(dtype)[..., None] + self.min.astype(dtype)[..., None]
        return w.reshape(self.shape)


@dataclasses.dataclass(frozen=True)
class Int8Weight:
    """Matrix (N, K) of 8-bit codes: ``w[n, k] = code * scale[n, k // 32]``.

    codes: (N, K) int8.  scale: (N, K/32) float16.
    """

    codes: np.ndarray
    scale: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape

    def dequantize(self, dtype=np.float32) -> np.ndarray:
        codes = self.codes.reshape(len(self.codes), -1, GROUP).astype(dtype)
        return (codes * self.scale.astype(dtype)[..., None]).reshape(self.shape)


Weight = Int4Weight | Int8Weight | np.ndarray


def dequantize(weight: Weight, dtype=np.float32) -> np.ndarray:
    """The plain matrix of any weight, in dtype."""
    if isinstance(weight, np.ndarray):
        return weight.astype(dtype)
    return weight.dequantize(dtype)


def concat_rows(weights: list[Weight]) -> Weight:
    """Stack matrices along N (fused QKV, gate + up); unlike formats stack as plain float16."""
    first = weights[0]
    if any(type(w) is not type(first) for w in weights):
        return np.concatenate([dequantize(w, np.float16) for w in weights])
    if isinstance(first, np.ndarray):
        return np.concatenate(weights)
    fields = [f.name for f in dataclasses.fields(first)]
    return type(first)(*(np.concatenate([getattr(w, f) for w in weights]) for f in fields))


class TensorInfo(NamedTuple):
    """Where a tensor lies.  shape is in row-major order: a matrix is (N, K), K contiguous."""

    shape: tuple[int, ...]
    type_name: str
    block: int
    block_bytes: int
    offset: int
    nbytes: int


class GgufFile:
    """An open GGUF file: ``metadata`` (a dict), ``tensors`` (name -> TensorInfo), ``weight(name)``.

    Raises OSError when it cannot be opened and GgufError, naming the file, when it is damaged.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        if os.path.getsize(self.path) < 24:
            raise GgufError(f"{self.path}: not a GGUF file: {os.path.getsize(self.path)} bytes")
        self._bytes = np.memmap(self.path, np.uint8, "r")
        self._buffer = memoryview(self._bytes)
        self._at = 0
        self._parse()

    def weight(self, name: str) -> Weight:
        """The tensor in the form the module's table gives for its format."""
        info = self._info(name)
        if info.type_name == "Q4_0" or info.type_name == "Q4_1":
            return _int4(self.blocks(name), info)
        if info.type_name == "Q8_0":
            return _int8(self.blocks(name), info)
        raw = self._raw(info)
        if info.type_name in ("F32", "F16"):
            return raw.view(np.dtype(f"<f{info.block_bytes}")).reshape(info.shape)
        if info.type_name == "BF16":
            wide = raw.view("<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(info.shape)
        gguf = _gguf_package(f"{self.path}: {name} is {info.type_name}")
        plain = gguf.dequantize(
            self.blocks(name).reshape(*info.shape[:-1], -1),
            gguf.GGMLQuantizationType[info.type_name],
        )
        return plain.astype(np.float16)

    def blocks(self, name: str) -> np.ndarray:
        """The tensor's bytes, one row of uint8 a block."""
        info = self._info(name)
        return self._raw(info).reshape(-1, info.block_bytes)

    def _info(self, name: str) -> TensorInfo:
        if name not in self.tensors:
            raise self._error(f"has no tensor {name!r}")
        return self.tensors[name]

    def _raw(self, info: TensorInfo) -> np.ndarray:
        return np.asarray(self._bytes[info.offset : info.offset + info.nbytes])

    # --- parsing ---------------------------------------------------------------------------------

    def _error(self, what: str) -> GgufError:
        return GgufError(f"{self.path}: {what}")

    def _parse(self) -> None:
        magic, version, tensors, entries = self._unpack("4sIQQ", "header")
        if magic != b"GGUF":
            raise self._error(f"not a GGUF file: begins with {magic!r}")
        if version not in (2, 3):
            raise self._error(f"GGUF version {version}; versions 2 and 3 (little endian) are read")
        self.metadata: dict[str, Any] = {}
        for i in range(entries):
            key = self._string(f"key of metadata entry {i}")
            (kind,) = self._unpack("I", key)
            self.metadata[key] = self._value(kind, key)
        infos = [self._tensor_info(i) for i in range(tensors)]
        align = self.metadata.get("general.alignment", 32)
        if not isinstance(align, int) or align <= 0 or align % 8:
            raise self._error(f"general.alignment is {align!r}, expected a multiple of 8")
        start = -(-self._at // align) * align
        self.tensors: dict[str, TensorInfo] = {}
        for name, info in infos:
            info = info._replace(offset=start + info.offset)
            if info.offset + info.nbytes > len(self._bytes):
                raise self._error(
                    f"truncated: {name} ends at byte {info.offset + info.nbytes}, "
                    f"the file has {len(self._bytes)}"
                )
            if name in self.tensors:
                raise self._error(f"tensor {name} appears twice")
            self.tensors[name] = info

    def _unpack(self, code: str, what: str) -> tuple:
        size = struct.calcsize("<" + code)
        self._need(size, what)
        values = struct.unpack_from("<" + code, self._buffer, self._at)
        self._at += size
        return values

    def _need(self, size: int, what: str) -> None:
        left = len(self._buffer) - self._at
        if size > left:
            raise self._error(f"truncated: {what} needs {size} bytes, {left} are left")

    def _string(self, what: str) -> str:
        (length,) = self._unpack("Q", what)
        self._need(length, what)
        data = bytes(self._buffer[self._at : self._at + length])
        self._at += length
        try:
            return data.decode()
        except UnicodeDecodeError as e:
            raise self._error(f"{what} is not UTF-8: {e}") from None

    def _value(self, kind: int, key: str) -> Any:
        if kind in _SCALARS:
            return self._unpack(_SCALARS[kind], key)[0]
        if kind == _STRING:
            return self._string(key)
        if kind != _ARRAY:
            raise self._error(f"{key} has unknown value type {kind}")
        item, count = self._unpack("IQ", key)
        if item in _SCALARS:
            self._need(count * struct.calcsize(_SCALARS[item]), key)
            return list(self._unpack(f"{count}{_SCALARS[item]}", key))
        if item != _STRING:  # arrays of arrays are in the format, and in no model
            raise self._error(f"{key} is an array of unknown value type {item}")
        self._need(8 * count, key)
        return [self._string(key) for _ in range(count)]

    def _tensor_info(self, index: int) -> tuple[str, TensorInfo]:
        name = self._string(f"name of tensor {index}")
        (ndim,) = self._unpack("I", name)
        if not 1 <= ndim <= 4:
            raise self._error(f"{name} has {ndim} dimensions, expected 1 to 4")
        shape = tuple(reversed(self._unpack(f"{ndim}Q", name)))
        kind, offset = self._unpack("IQ", name)
        type_name, block, block_bytes = _block_format(kind, f"{self.path}: {name}")
        if shape[-1] % block:
            raise self._error(
                f"{name} has rows of {shape[-1]}, {type_name} needs a multiple of {block}"
            )
        count = 1
        for extent in shape:
            count *= extent
        nbytes = count // block * block_bytes
        return name, TensorInfo(shape, type_name, block, block_bytes, offset, nbytes)


def _block_format(kind: int, what: str) -> tuple[str, int, int]:
    if kind in _BLOCKS:
        return _BLOCKS[kind]
    gguf = _gguf_package(f"{what} has ggml type {kind}")
    try:
        known = gguf.GGMLQuantizationType(kind)
        return known.name, *gguf.GGML_QUANT_SIZES[known]
    except (ValueError, KeyError):
        raise GgufError(f"{what} has unknown ggml type {kind}") from None


def _gguf_package(what: str):
    try:
        import gguf
    except ImportError as e:
        raise GgufError(f"{what}; this format is read with the 'gguf' package: {e}") from e
    return gguf


def _int4(blocks: np.ndarray, info: TensorInfo) -> Int4Weight:
    if len(info.shape) != 2:
        raise GgufError(f"a {info.type_name} tensor has {len(info.shape)} dimensions, expected 2")
    n, k = info.shape
    scale = blocks[:, :2].copy().view("<f2").reshape(n, k // GROUP)
    if info.type_name == "Q4_1":
        low = blocks[:, 2:4].copy().view("<f2").reshape(n, k // GROUP)
    else:
        low = scale * np.float16(-8)  # a power of two: exact
    # a block holds weights 0..15 in the low halves of its bytes and 16..31 in the high ones
    packed = blocks[:, -GROUP // 2 :]
    codes = np.concatenate([packed & 15, packed >> 4], axis=1)
    codes = codes[:, 0::2] | codes[:, 1::2] << 4
    return Int4Weight(codes.reshape(n, k // 2), scale, low)


def _int8(blocks: np.ndarray, info: TensorInfo) -> Int8Weight:
    if len(info.shape) != 2:
        raise GgufError(f"a {info.type_name} tensor has {len(info.shape)} dimensions, expected 2")
    n, k = info.shape
    scale = blocks[:, :2].copy().view("<f2").reshape(n, k // GROUP)
    return Int8Weight(blocks[:, 2:].copy().view(np.int8).reshape(n, k), scale)
