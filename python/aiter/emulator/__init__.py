"""AMD kernels without an AMD GPU: the emulator's own interface, over NumPy arrays.

Operators need none of this: with AITER_EMULATE=gfx942 the emulator is device "hip:0". It is for
work on kernels: code objects from files, counters, the sanitizer. See docs/gfxemu.md.
"""

from .device import Buffer, EmulatorError, Module, describe, disassemble, option, reports

__all__ = ["Buffer", "EmulatorError", "Module", "describe", "disassemble", "option", "reports"]
