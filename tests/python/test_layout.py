"""The map of the source tree: an operator has all its parts, named after it.

See CONTRIBUTING.md, "Where is X".
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPS = sorted((p.parent.parent.name, p.parent.name) for p in (ROOT / "src/ops").glob("*/*/*.def"))
NAMES = [op for _, op in OPS]


def entry_points(text):
    """Names of the C functions that take a stream: the operators."""
    return re.findall(r"aiter_status aiter_(\w+)\([^)]*aiter_stream stream\)", text)


@pytest.mark.parametrize("family, op", OPS, ids=NAMES)
def test_operator_is_complete(family, op):
    home = ROOT / "src/ops" / family / op
    parts = [home / f"{op}.cc", home / f"{op}_args.h", home / f"{op}.def"]
    parts.append(home / f"{op}_cpu.cc")
    tests = ROOT / "tests/python" / family
    parts += [tests / f"{part}_{op}.py" for part in ("cases", "test", "bench")]
    parts.append(ROOT / "tests/cpp/ops" / family / f"test_{op}.cc")
    parts += [ROOT / f"src/python/{family}.cc", ROOT / f"python/aiter/{family}.py"]
    missing = [str(p.relative_to(ROOT)) for p in parts if not p.is_file()]
    assert not missing
    assert f"aiter_{op}(" in (ROOT / f"include/aiter/{family}.h").read_text()


@pytest.mark.parametrize("family, op", OPS, ids=NAMES)
def test_rows_end_in_the_plain_one(family, op):
    text = (ROOT / "src/ops" / family / op / f"{op}.def").read_text()
    rows = re.findall(r"AITER_IMPL\((\w+), (\w+), ([\w |]+), (.*)\)$", text, re.M)
    assert len(rows) == text.count("AITER_IMPL(")
    assert all(name == op for name, *_ in rows)
    cpu = [(row, condition) for _, row, target, condition in rows if "CPU" in target]
    gpu = [(row, condition) for _, row, target, condition in rows if "CPU" not in target]
    assert cpu[-1] == ("cpu_ref", "true")
    if gpu:
        assert (ROOT / "src/ops" / family / op / f"{op}.hip").is_file()
        assert gpu[-1] == ("hip_any", "true")


def test_every_home_is_one():
    homes = {p.parent.name for p in (ROOT / "src/ops").glob("*/*/*.cc")}
    assert homes == set(NAMES)


def test_every_entry_point_has_a_home():
    for header in (ROOT / "include/aiter").glob("*.h"):
        if not (ROOT / "src/ops" / header.stem).is_dir():
            continue  # no family of operators
        for name in entry_points(header.read_text()):
            sources = (ROOT / "src/ops" / header.stem).glob("*/*.cc")
            assert any(f"aiter_{name}(" in p.read_text() for p in sources), name


def test_umbrella_header_has_every_header():
    umbrella = (ROOT / "include/aiter/aiter.h").read_text()
    for header in (ROOT / "include/aiter").glob("*.h"):
        if header.name not in ("aiter.h", "xla_ffi.h"):
            assert f'#include "aiter/{header.name}"' in umbrella
