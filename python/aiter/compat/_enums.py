"""AITER's numbers for activations, gate layouts and rotation styles."""

import enum

__all__ = ["ActivationType", "GateMode", "RotateStyle"]


class ActivationType(enum.IntEnum):
    No = -1
    Silu = 0
    Gelu = 1
    Swiglu = 2
    Situv2 = 3


class GateMode(enum.IntEnum):
    SEPARATED = 0  # all gate rows, then all up rows
    INTERLEAVE = 1  # gate and up alternate


class RotateStyle(enum.IntEnum):
    NEOX = 0  # halves
    GPTJ = 1  # neighbours
