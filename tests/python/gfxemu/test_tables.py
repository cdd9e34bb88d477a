"""Every row of the instruction tables, against LLVM's assembler: the text that the disassembler gives
for an encoding must assemble to that encoding."""

import ctypes
import re
import struct

import pytest
import toolchain
from aiter.emulator import device

pytestmark = [
    pytest.mark.skipif(device.library_path() is None, reason="libaiter_gfxemu.so is not built"),
    pytest.mark.skipif(toolchain.zig() is None, reason=toolchain.MISSING),
]
ARCHS = ("gfx90a", "gfx942", "gfx950")


def examples(arch, seeds=4):
    """(name, words, text) of several encodings of every row."""
    lib = device.lib()
    index = 0
    while True:
        name, words = ctypes.c_char_p(), (ctypes.c_uint32 * 4)()
        for seed in range(1, seeds + 1):
            n = lib.aiter_gfxemu_example(arch.encode(), index, seed, ctypes.byref(name), words)
            if n == 0:
                return
            if n == -1:
                break
            assert n > 0, f"{arch} {name.value.decode()}: no encoding found"
            size = ctypes.c_int()
            text = lib.aiter_gfxemu_disassemble(
                arch.encode(), words, 4, ctypes.byref(size)
            ).decode()
            assert size.value == n
            yield name.value.decode(), tuple(words[:n]), text
        index += 1


def assemble_lines(lines, arch):
    """Words of each line; None where the assembler refuses it, with its message."""
    errors = {}
    while True:
        text = "\n".join(line if i not in errors else "" for i, line in enumerate(lines))
        text = re.sub(r"^(.*)$", lambda m: m.group(1), text, flags=re.M)
        marked = []
        for i, line in enumerate(text.split("\n")):
            marked.append(line)
            marked.append(f".long 0xfffffff0, {i}")
        try:
            obj = toolchain.assemble("\n".join(marked) + "\n", arch)
            break
        except RuntimeError as e:
            found = {
                (int(m.group(1)) - 1) // 2: m.group(2)
                for m in re.finditer(r"a\.s:(\d+):\d+: error: (.*)", str(e))
            }
            new = {k: v for k, v in found.items() if k not in errors}
            if not new:
                raise
            errors.update(new)
    section = text_section(obj)
    words = struct.unpack(f"<{len(section) // 4}I", section)
    out, current, i = [], [], 0
    while i < len(words):
        if words[i] == 0xFFFFFFF0:
            out.append(tuple(current) if len(out) not in errors else None)
            current, i = [], i + 2
        else:
            current.append(words[i])
            i += 1
    return out, errors


def text_section(obj):
    (shoff,) = struct.unpack_from("<Q", obj, 0x28)
    (count,) = struct.unpack_from("<H", obj, 0x3C)
    for i in range(count):
        _, kind, flags, _, offset, size = struct.unpack_from("<IIQQQQ", obj, shoff + 64 * i)
        if kind == 1 and flags & 4:
            return obj[offset : offset + size]
    raise AssertionError("no text section")


@pytest.mark.parametrize("arch", ARCHS)
def test_round_trip(arch):
    rows = list(examples(arch))
    assert len({name for name, _, _ in rows}) > 900
    assembled, errors = assemble_lines([text for _, _, text in rows], arch)
    problems = []
    for i, (_name, words, text) in enumerate(rows):
        if assembled[i] is None:
            problems.append(f"{text}   refused: {errors[i]}")
        elif assembled[i] != words:
            # Another encoding of the same instruction is fine when it decodes to the same text.
            again = (ctypes.c_uint32 * 4)(*assembled[i])
            size = ctypes.c_int()
            back = (
                device.lib()
                .aiter_gfxemu_disassemble(
                    arch.encode(), again, len(assembled[i]), ctypes.byref(size)
                )
                .decode()
            )
            if back != text or size.value != len(assembled[i]):
                problems.append(
                    f"{text}: {[hex(w) for w in words]} assembles to {[hex(w) for w in assembled[i]]}, which reads {back}"
                )
    assert not problems, f"{len(problems)} of {len(rows)}:\n" + "\n".join(problems[:60])


def test_unknown_is_said():
    size = ctypes.c_int(7)
    words = (ctypes.c_uint32 * 2)(0xBFFF0000, 0)
    text = device.lib().aiter_gfxemu_disassemble(b"gfx942", words, 2, ctypes.byref(size))
    assert size.value == 0 and b"unknown" in text
