"""Shared fixtures. Cases and tests of an operator are in tests/python/<family>/."""

import os
import sys
from pathlib import Path

import aiter
import pytest
from tree import ROOT

# AMD kernels are run in the emulator, where it was built and no other driver is asked for.
emulator = Path(aiter.__file__).with_name("lib") / "libaiter_gfxemu.so"
if emulator.exists() and not {"AITER_EMULATE", "AITER_HIP_LIBRARY"} & set(os.environ):
    os.environ["AITER_EMULATE"] = "gfx942"

# Test modules of a family import their own cases_<op>.py by name.
for family in Path(__file__).parent.iterdir():
    if family.is_dir():
        sys.path.insert(0, str(family))
sys.path.insert(0, str(ROOT / "tests/cpp/abi"))  # headers.py


@pytest.fixture(scope="session")
def build_dir():
    """The CMake build folder of these sources: AITER_BUILD_DIR, or else build/."""
    path = Path(os.environ.get("AITER_BUILD_DIR") or ROOT / "build")
    cache = path / "CMakeCache.txt"
    if not cache.is_file() or f"CMAKE_HOME_DIRECTORY:INTERNAL={ROOT}\n" not in cache.read_text():
        pytest.skip(f"{path} is no build folder of these sources (set AITER_BUILD_DIR)")
    return path


@pytest.fixture(scope="session")
def package():
    """The folder of the installed Python package, which is an install prefix as well."""
    import aiter

    return Path(aiter.__file__).parent
