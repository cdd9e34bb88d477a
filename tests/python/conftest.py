"""Shared fixtures. Cases and tests of an operator are in tests/python/<family>/."""

import os
import sys
from pathlib import Path

import aiter
import pytest
from aiter.emulator import device
from aiter.testing import gpus
from tree import ROOT

# AMD kernels are run in the emulator, where it was built and no other driver is asked for: hip:0,
# hip:1, ... are the processors that kernels were built for.
library = Path(aiter.__file__).with_name("lib")
if (library / "libaiter_gfxemu.so").exists() and not (
    {"AITER_EMULATE", "AITER_HIP_LIBRARY"} & set(os.environ)
):
    archs = ("gfx942", "gfx950", "gfx90a")
    built = [arch for arch in archs if (library / "aiter_kernels" / arch).is_dir()]
    os.environ["AITER_EMULATE"] = ",".join(built or archs[:1])

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # tests/gpu/interop.py has JAX on a GPU

# Test modules of a family import their own cases_<op>.py by name.
for family in Path(__file__).parent.iterdir():
    if family.is_dir():
        sys.path.insert(0, str(family))
sys.path.insert(0, str(ROOT / "tests/cpp/abi"))  # headers.py


def places_and_tags(item):
    """The devices and the tags of cases among a test's parameters."""
    for value in getattr(item, "callspec", None) and item.callspec.params.values() or ():
        yield from value if isinstance(value, tuple) else (value, getattr(value, "tag", None))


def pytest_collection_modifyitems(config, items):
    """The first GPU takes every test, the others the smoke and edge cases alone."""
    others = set(gpus()[1:])
    kept, dropped = [], []
    for item in items:
        words = {word for word in places_and_tags(item) if isinstance(word, str)}
        (dropped if words & others and not words & {"smoke", "edge"} else kept).append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


@pytest.fixture(autouse=True)
def sanitizer(request):
    """Smoke cases of operators run under the emulator's sanitizer; its findings are errors."""
    words = {word for word in places_and_tags(request.node) if isinstance(word, str)}
    checked = "smoke" in words and bool(words & set(gpus())) and "AITER_EMULATE" in os.environ
    if not checked or "check=" in os.environ.get("AITER_EMULATE_OPTIONS", ""):
        yield
        return
    device.option(check=1)
    yield
    device.option(check=0)


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
