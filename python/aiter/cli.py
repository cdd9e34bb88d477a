"""The command `aiter`, also `python -m aiter`.

What a subcommand needs is imported when it runs, so that the others start at once.
"""

import argparse
import shlex
import sys
from pathlib import Path

from .emulator import emulate, profile_kernel
from .models import generate

PACKAGE = Path(__file__).parent
LIBRARY = PACKAGE / "lib"


def paths(arguments):
    """What compilers and CMake need to find the library in this installation."""
    if arguments.cmake_dir:
        return [str(LIBRARY / "cmake" / "aiter")]
    if arguments.pkgconfig_dir:
        return [str(LIBRARY / "pkgconfig")]
    found = []
    if arguments.includes:
        found.append(f"-I{PACKAGE / 'include'}")
    if arguments.libs:
        found += [f"-L{LIBRARY}", f"-Wl,-rpath,{LIBRARY}", "-laiter"]
    return [shlex.join(found)] if found else []


def parser():
    top = argparse.ArgumentParser("aiter", description="libaiter: operators for AI engines")
    top.add_argument("--version", action="store_true", help="print the version and exit")
    build = top.add_argument_group("building against this installation")
    build.add_argument("--includes", action="store_true", help="print the compiler's options")
    build.add_argument("--libs", action="store_true", help="print the linker's options")
    build.add_argument("--cmake-dir", action="store_true", help="print the folder for aiter_DIR")
    build.add_argument(
        "--pkgconfig-dir", action="store_true", help="print the folder for PKG_CONFIG_PATH"
    )
    # A subcommand sets `run` to its function of the parsed arguments, which returns the exit code.
    top.set_defaults(run=None)
    commands = top.add_subparsers(title="commands", metavar="")
    for name, module in (
        ("generate", generate),
        ("emulate", emulate),
        ("profile-kernel", profile_kernel),
    ):
        summary = module.__doc__.splitlines()[0].split(": ", 1)[1]
        module.add_arguments(commands.add_parser(name, help=summary))
    return top


def version():
    from . import _aiter

    number = _aiter.version()
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def main(argv=None):
    top = parser()
    arguments, rest = top.parse_known_args(argv)
    # argparse takes a list of words in one place only; theirs may stand behind options, too.
    if "arguments" in arguments and not any(word.startswith("--") for word in rest):
        arguments.arguments += rest
    elif rest:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    if arguments.run:
        return arguments.run(arguments)
    lines = [version()] if arguments.version else paths(arguments)
    if not lines:
        top.print_help(sys.stderr)
        return 2
    print(*lines, sep="\n")
    return 0
