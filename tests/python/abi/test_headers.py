"""Every public header stands alone, in C11 and in C++17, without a warning."""

import os
import subprocess

import pytest
from headers import INCLUDE
from tree import ROOT

HEADERS = sorted(p.name for p in (INCLUDE / "aiter").glob("*.h") if p.name != "xla_ffi.h")
LANGUAGES = {
    "c11": ("CC", "cc", ".c"),
    "c++17": ("CXX", "c++", ".cc"),
    "c++20": ("CXX", "c++", ".cc"),
}


@pytest.mark.parametrize("standard", LANGUAGES)
@pytest.mark.parametrize("header", HEADERS)
def test_header_alone(header, standard, tmp_path):
    variable, compiler, suffix = LANGUAGES[standard]
    source = tmp_path / f"alone{suffix}"
    # Twice: the include guard works. A C file must declare something.
    source.write_text(f'#include "aiter/{header}"\n#include "aiter/{header}"\nextern int used;\n')
    command = [os.environ.get(variable, compiler), f"-std={standard}", "-fsyntax-only"]
    command += ["-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{INCLUDE}", str(source)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_header_is_installed(package):
    installed = {p.name for p in (package / "include/aiter").iterdir()}
    assert installed == {p.name for p in (ROOT / "include/aiter").iterdir()}
