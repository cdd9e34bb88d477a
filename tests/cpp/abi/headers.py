#!/usr/bin/env python3
"""The declarations of include/aiter, for the guards of the ABI.

headers.py record   writes symbols.txt and layout.txt: when the version is raised, or when a
                    change of the ABI is meant (say so in CHANGELOG.md under "ABI")
headers.py fuzz     prints what fuzz.cc includes: every entry point and every struct
"""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
INCLUDE = HERE.parents[2] / "include"


@dataclass
class Function:
    name: str
    result: str
    parameters: list  # of (type, name)
    header: str


@dataclass
class Struct:
    name: str
    fields: list  # of (type, name); an array's extent stays with the name


def _sources():
    for path in sorted((INCLUDE / "aiter").glob("*.h")):
        if path.name != "xla_ffi.h":  # C++, made of the others
            text = re.sub(r"/\*.*?\*/", " ", path.read_text(), flags=re.S)
            text = re.sub(r"//[^\n]*", " ", text)
            yield path.name, re.sub(r"^\s*#.*(?:\\\n.*)*$", " ", text, flags=re.M)


def _declarator(text):
    """("const aiter_tensor*", "x") of "const aiter_tensor* x"."""
    kind, name = re.fullmatch(r"(.*?[\s*])(\w+(?:\[\w*\])?)", " ".join(text.split())).groups()
    return kind.strip().replace(" *", "*"), name


def functions():
    found = []
    for header, text in _sources():
        for result, name, parameters in re.findall(
            r"AITER_API\s+([\w\s*]+?)\s*\b(aiter_\w+)\s*\(([^)]*)\)\s*;", text
        ):
            pieces = [] if parameters.strip() in ("", "void") else parameters.split(",")
            found.append(Function(name, result, [_declarator(p) for p in pieces], header))
        assert text.count("AITER_API") == sum(f.header == header for f in found), header
    return found


def structs():
    found = []
    for header, text in _sources():
        for body, name in re.findall(r"typedef struct \w+\s*\{(.*?)\}\s*(\w+)\s*;", text, re.S):
            fields = []
            for declaration in filter(str.strip, body.split(";")):
                first, *others = declaration.split(",")
                kind, field = _declarator(first)
                fields += [(kind, field), *((kind, other.strip()) for other in others)]
            found.append(Struct(name, fields))
        assert text.count("typedef struct") == len(re.findall(r"typedef struct \w+\s*\{", text)), (
            header
        )
    return found


def constants():
    """Enumerators and the numbers that are part of the ABI."""
    found = []
    for header, text in _sources():
        for body in re.findall(r"enum\s*\w*\s*\{(.*?)\}", text, re.S):
            names = re.findall(r"\b(AITER_\w+)\s*=", body)
            assert body.count(",") <= len(names), f"{header}: an enumerator has no written number"
            found += names
    return found


def layout():
    """Lines "struct field offset size" and "constant value", as the C compiler has them."""
    lines = []
    for s in structs():
        lines.append(f'  printf("{s.name} %zu\\n", sizeof({s.name}));')
        for _, field in s.fields:
            f = field.split("[")[0]
            lines.append(
                f'  printf("{s.name}.{f} %zu %zu\\n", offsetof({s.name}, {f}), '
                f"sizeof((({s.name}*)0)->{f}));"
            )
    lines += [f'  printf("{c} %lld\\n", (long long){c});' for c in constants()]
    program = (
        "#include <stddef.h>\n#include <stdio.h>\n#include <aiter/aiter.h>\nint main(void) {\n"
    )
    program += "\n".join(lines) + "\n  return 0;\n}\n"
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "layout.c"), Path(folder, "layout")
        source.write_text(program)
        compiler = os.environ.get("CC", "cc")
        subprocess.run(
            [compiler, "-std=c11", f"-I{INCLUDE}", str(source), "-o", str(binary)], check=True
        )
        return subprocess.run(
            [str(binary)], check=True, capture_output=True, text=True
        ).stdout.split("\n")[:-1]


def version():
    text = (INCLUDE / "aiter" / "version.h").read_text()
    numbers = [
        re.search(rf"#define AITER_{part} (\d+)", text)[1]
        for part in ("VERSION_MAJOR", "VERSION_MINOR", "VERSION_PATCH", "ABI_VERSION")
    ]
    return f"version {'.'.join(numbers[:3])} abi {numbers[3]}"


def record():
    names = sorted(f.name for f in functions())
    (HERE / "symbols.txt").write_text("\n".join([version(), *names]) + "\n")
    (HERE / "layout.txt").write_text("\n".join([version(), *layout()]) + "\n")


def recorded(name):
    """(version, lines) of symbols.txt or layout.txt."""
    first, *lines = (HERE / name).read_text().splitlines()
    return first, lines


def fuzz():
    """FIELDS(struct, visit each field); ENTRY(name, result, (parameters), names...)."""
    for s in structs():
        visits = " ".join(f'visit("{name}", s.{name});' for _, name in s.fields if "[" not in name)
        print(f"FIELDS({s.name}, {visits})")
    for f in functions():
        parameters = ", ".join(f"{kind} {name}" for kind, name in f.parameters)
        names = "".join(f", {name}" for _, name in f.parameters)
        print(f"ENTRY({f.name}, {f.result}, ({parameters or 'void'}){names})")


if __name__ == "__main__":
    {"record": record, "fuzz": fuzz}[sys.argv[1]]()
