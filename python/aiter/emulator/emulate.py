"""``aiter emulate``: runs a kernel of an AMD code object on the CPU, and counts and checks.

Without --kernel, the kernels of the file and their arguments are listed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from .values import HELP

EPILOG = f"""\
Arguments are given in the kernel's order.
{HELP}  f32[64,128]          memory that nobody has written: an output
A number is TYPE:VALUE, such as i32:4096 or f32:1e-6.

Afterwards the arrays that the kernel changed are shown. With --check a finding ends the run with
the kernel, the instruction, the wave and the lane.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__.replace("``", "")
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("file", help="a linked code object (.co, .hsaco) or a bundle of them")
    add("arguments", nargs="*", metavar="ARGUMENT", help="the kernel's arguments, see below")
    add("--kernel", metavar="NAME")
    add("--grid", type=_extents, default=(1,), metavar="X[,Y[,Z]]", help="workgroups (default 1)")
    add("--block", type=_extents, default=(64,), metavar="X[,Y[,Z]]", help="threads (default 64)")
    add("--lds", type=int, default=0, metavar="BYTES", help="dynamic LDS")
    add("--check", action="store_true", help="the sanitizer")
    add("--quantum", type=int, default=16, help="instructions a wave runs in its turn (default 16)")
    add("--seed", type=int, default=0, help="order of the waves (default 0: by turns)")
    add("--threads", type=int, default=0, help="host threads (default: all)")
    add("--limit", type=int, default=0, metavar="N", help="end after N million instructions")
    add("--save", action="append", default=[], metavar="N=FILE.npy",
        help="write argument N (from 0) to a file afterwards")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # One device is enough; its processor follows from the file.
    os.environ["AITER_EMULATE"] = ""
    from . import device

    try:
        result = _describe(args.file) if args.kernel is None else _launch(args)
    except (device.EmulatorError, ImportError, OSError, ValueError) as e:
        result = {"error": str(e)}
    if args.json:
        print(json.dumps(result))
    elif "error" in result:
        print(f"aiter emulate: error: {result['error']}", file=sys.stderr)
    else:
        _print(result)
    return 1 if "error" in result else 0


def _extents(text: str) -> tuple[int, ...]:
    numbers = tuple(int(n) for n in text.split(","))
    if not 1 <= len(numbers) <= 3 or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected one to three numbers from 1")
    return numbers


def _describe(file: str) -> dict:
    from . import device

    return device.describe(Path(file).read_bytes())


def _launch(args: argparse.Namespace) -> dict:
    from . import device

    code = Path(args.file).read_bytes()
    file = device.describe(code)
    kernel = next((k for k in file["kernels"] if k["name"] == args.kernel), None)
    if kernel is None:
        names = ", ".join(k["name"] for k in file["kernels"])
        raise ValueError(f"{args.file} has no kernel {args.kernel}; it has {names}")
    device.option(
        arch=file["arch"], count=1, check=int(args.check), quantum=args.quantum, seed=args.seed,
        threads=args.threads, limit=args.limit,
    )  # fmt: skip
    values = _values(args.arguments)
    saves = _saves(args.save, values)
    given = [v if isinstance(v, device.Buffer) else v.tobytes() for v in values]
    layout = [a for a in kernel["args"] if not a["kind"].startswith("hidden_")]
    raw = _pack(given, layout, kernel)
    module = device.Module(code)
    result = {"arguments": []}
    try:
        module.launch(args.kernel, args.grid, args.block, raw=raw, lds=args.lds)
    except device.EmulatorError as e:
        result["error"] = str(e)
    result["launches"] = device.reports()
    for i, value in enumerate(values):
        if not isinstance(value, device.Buffer):
            continue
        after = value.read(value.dtype, value.shape)
        if i in saves:
            _save(saves[i], after)
        before = value.like
        changed = before is None or before.tobytes() != after.tobytes()
        first = [float(x) for x in after.reshape(-1)[:8]]
        result["arguments"].append(
            {"index": i, "type": str(after.dtype), "shape": after.shape, "changed": changed,
             "first": first}
        )  # fmt: skip
    return result


def _values(words: list[str]):
    import numpy as np

    from . import device
    from .values import array_of, dtype_of

    rng = np.random.default_rng(0)
    found = []
    for word in words:
        value = array_of(word, rng)
        if value is None:
            kind, colon, number = word.partition(":")
            if not colon:
                raise ValueError(
                    f"argument {word!r} is neither TYPE[SHAPE]=CONTENTS nor TYPE:VALUE"
                )
            dtype = dtype_of(kind)
            number = int(number, 0) if dtype.kind in "iu" else float(number)
            found.append(np.array(number, dtype))
            continue
        if isinstance(value, tuple):
            dtype, shape = value
            buffer = device.Buffer(size=int(np.prod(shape, dtype=int)) * dtype.itemsize)
        else:
            dtype, shape, buffer = value.dtype, value.shape, device.Buffer(value)
        buffer.dtype, buffer.shape = dtype, shape
        found.append(buffer)
    return found


def _pack(given, layout, kernel) -> bytes:
    """The kernel's argument segment. Without metadata, each argument is aligned to its size."""
    from . import device

    if layout and len(given) != len(layout):
        wanted = ", ".join(f"{a['name'] or a['kind']} ({a['size']} bytes)" for a in layout)
        raise ValueError(
            f"{len(given)} arguments given, {kernel['name']} has {len(layout)}: {wanted}"
        )
    raw = bytearray()
    for i, value in enumerate(given):
        data = value.address.to_bytes(8, "little") if isinstance(value, device.Buffer) else value
        place = layout[i]["offset"] if layout else -(-len(raw) // len(data)) * len(data)
        if layout and len(data) != layout[i]["size"]:
            raise ValueError(
                f"argument {i} has {len(data)} bytes, the kernel's has {layout[i]['size']}"
            )
        raw.extend(bytes(place + len(data) - len(raw)))
        raw[place : place + len(data)] = data
    return bytes(raw)


def _saves(words: list[str], values) -> dict[int, str]:
    saves = {}
    for word in words:
        number, _, file = word.partition("=")
        if not number.isdigit() or int(number) >= len(values) or not file:
            raise ValueError(f"--save {word}: expected N=FILE.npy with N below {len(values)}")
        saves[int(number)] = file
    return saves


def _save(file: str, array) -> None:
    import numpy as np

    np.save(file, array)


def _print(result: dict) -> None:
    from .report import print_launch

    for kernel in result.get("kernels", ()):
        print(
            f"{kernel['name']}  {result['arch']}, at most {kernel['max_threads']} threads, "
            f"{kernel['vgprs']} VGPRs, {kernel['lds']} bytes of LDS, {kernel['scratch']} of scratch"
        )
        for a in kernel["args"]:
            if not a["kind"].startswith("hidden_"):
                print(f"  {a['offset']:4}  {a['size']} bytes  {a['kind']}  {a['name']}")
    for launch in result.get("launches", ()):
        print_launch(launch)
    for a in result.get("arguments", ()):
        if a["changed"]:
            first = " ".join(f"{x:g}" for x in a["first"])
            print(f"argument {a['index']}: {a['type']}{list(a['shape'])} {first} ...")
