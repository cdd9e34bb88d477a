"""GGUF model files: metadata, and weights in the layouts that libaiter's GEMMs read.

The container is read with the ``gguf`` package, which also dequantizes the rarer block formats.

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
import sys
from typing import NamedTuple

import gguf
import numpy as np

GROUP = 32  # weights that share a scale in Q4_0, Q4_1 and Q8_0


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


class _Reader(gguf.GGUFReader):
    """Refuses reads past the end; the package's reader would go on with what is left of them.

    Arrays are read in one go: the package's reader takes seconds for the strings of a vocabulary.
    """

    def _get(self, offset, dtype, count=1, override_order=None):
        part = super()._get(offset, dtype, count, override_order)
        if len(part) != count:
            raise IndexError(f"truncated: {count} values at byte {offset}, {len(part)} are left")
        return part

    def _get_field_parts(self, orig_offs, raw_type):
        array, string = gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING
        if raw_type != array or self.byte_order != "I":
            return super()._get_field_parts(orig_offs, raw_type)
        head = [self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)]
        item, count, start = gguf.GGUFValueType(head[0][0]), int(head[1][0]), orig_offs + 12
        if item in self.gguf_scalar_to_np:
            values = self._get(start, self.gguf_scalar_to_np[item], count)
            return 12 + values.nbytes, [*head, values], [2], [array, item]
        if item != string:
            return super()._get_field_parts(orig_offs, raw_type)
        data, at, strings = memoryview(self.data), start, []
        for _ in range(count):
            begin = at + 8
            at = begin + int.from_bytes(data[at:begin], sys.byteorder)
            if max(begin, at) > len(data):
                raise IndexError(f"truncated: a string ends at byte {at}, the file has {len(data)}")
            strings.append(data[begin:at])
        return at - orig_offs, head + strings, list(range(2, 2 + count)), [array, item]


class TensorInfo(NamedTuple):
    """A tensor as stored.  shape is in row-major order: a matrix is (N, K), K contiguous."""

    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    data: np.ndarray  # of the file's bytes, mapped


class GgufFile:
    """An open GGUF file: ``metadata`` (a dict), ``tensors`` (name -> TensorInfo), ``weight(name)``.

    Raises OSError when it cannot be opened and GgufError, naming the file, when it is damaged.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        try:
            reader = _Reader(self.path)
            self.metadata = {
                key: field.contents()
                for key, field in reader.fields.items()
                if not key.startswith("GGUF.")
            }
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as e:
            raise GgufError(f"{self.path}: not a readable GGUF file: {e}") from e
        self.tensors = {
            t.name: TensorInfo(tuple(map(int, reversed(t.shape))), t.tensor_type, t.data)
            for t in reader.tensors
        }

    def weight(self, name: str) -> Weight:
        """The tensor in the form the module's table gives for its format."""
        if name not in self.tensors:
            raise GgufError(f"{self.path}: has no tensor {name!r}")
        shape, kind, data = self.tensors[name]
        match kind.name:
            case "Q4_0" | "Q4_1":
                return _int4(data, shape, has_min=kind.name == "Q4_1")
            case "Q8_0":
                return _int8(data, shape)
            case "F32" | "F16":
                return data.reshape(shape)
            case "BF16":
                return gguf.dequantize(data, kind).reshape(shape)
            case _:
                return gguf.dequantize(data, kind).astype(np.float16).reshape(shape)


def _int4(data: np.ndarray, shape: tuple[int, ...], *, has_min: bool) -> Int4Weight:
    n, k = shape
    blocks = data.reshape(n * k // GROUP, -1)
    scale = blocks[:, :2].copy().view("<f2").reshape(n, k // GROUP)
    if has_min:
        low = blocks[:, 2:4].copy().view("<f2").reshape(n, k // GROUP)
    else:
        low = scale * np.float16(-8)  # a power of two: exact
    # a block holds weights 0..15 in the low halves of its bytes and 16..31 in the high ones
    packed = blocks[:, -GROUP // 2 :]
    codes = np.concatenate([packed & 15, packed >> 4], axis=1)
    codes = codes[:, 0::2] | codes[:, 1::2] << 4
    return Int4Weight(codes.reshape(n, k // 2), scale, low)


def _int8(data: np.ndarray, shape: tuple[int, ...]) -> Int8Weight:
    n, k = shape
    blocks = data.reshape(n * k // GROUP, -1)
    scale = blocks[:, :2].copy().view("<f2").reshape(n, k // GROUP)
    return Int8Weight(blocks[:, 2:].copy().view(np.int8).reshape(n, k), scale)
