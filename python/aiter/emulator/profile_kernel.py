"""``aiter profile-kernel``: counts what the kernels of an operator of ours do, without the part."""

from __future__ import annotations

import argparse
import json
import os
import sys

from .values import HELP

EPILOG = f"""\
OPERATOR is a function of the Python package; its arguments follow in order or as NAME=VALUE.
{HELP}Arrays without contents are random; everything else is a Python literal or a word.

  aiter profile-kernel rms_norm 'bf16[64,4096]' 'bf16[4096]' eps=1e-6
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__.replace("``", "")
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("operator", metavar="OPERATOR", help="such as rms_norm")
    add("arguments", nargs="*", metavar="ARGUMENT")
    add("--arch", default="gfx942", help="gfx90a, gfx942 (default) or gfx950")
    add("--row", metavar="OP:ROW", help="force a row, as AITER_FORCE does")
    add("--check", action="store_true", help="under the sanitizer")
    add("--json", action="store_true", help="print a JSON list, one object for each launch")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    os.environ["AITER_EMULATE"] = args.arch
    if args.row:
        os.environ["AITER_FORCE"] = args.row
    from . import device

    try:
        launches = _profile(args)
    except (device.EmulatorError, ImportError, MemoryError, NotImplementedError, OSError,
            RuntimeError, TypeError, ValueError) as e:  # fmt: skip
        print(f"aiter profile-kernel: error: {e}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(launches))
    else:
        from .report import print_launch

        for launch in launches:
            print_launch(launch)
    return 0


def _profile(args: argparse.Namespace) -> list[dict]:
    import numpy as np

    import aiter

    from . import device
    from .values import array_of, literal

    device.option(count=1, check=int(args.check))
    if args.operator not in aiter.__all__:
        raise ValueError(f"aiter has no function {args.operator}")
    rng = np.random.default_rng(0)

    def value(word):
        array = array_of(word, rng, "random")
        return literal(word) if array is None else aiter.to_device(array, "hip:0")

    positional, named = [], {}
    for word in args.arguments:
        name, equals, rest = word.partition("=")
        if equals and name.isidentifier():
            named[name] = value(rest)
        else:
            positional.append(value(word))
    device.reports()
    getattr(aiter, args.operator)(*positional, **named)
    return device.reports()
