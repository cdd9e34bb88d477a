"""Operators in the emulator: every one has smoke cases on every device, and these run checked."""

import subprocess
import sys

import aiter
import pytest
from aiter.testing import gpus
from tree import ROOT

OPS = sorted(p.stem for p in (ROOT / "src/ops").glob("*/*/*.hip"))
EMULATED = [device for device in gpus() if "emulated" in aiter.device_info(device)["name"]]
pytestmark = pytest.mark.skipif(not EMULATED, reason="no emulated device with kernels")


@pytest.fixture(scope="module")
def collected():
    homes = (ROOT / "src/ops").glob("*/*/*.hip")
    families = sorted({f"tests/python/{p.parents[1].name}" for p in homes})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "-k", "hip and smoke", *families], capture_output=True, text=True, cwd=ROOT
    )
    return result.stdout.splitlines()


@pytest.mark.parametrize("op", OPS)
def test_every_operator_has_smoke_cases(collected, op):
    for device in EMULATED:
        assert any(f"test_{op}.py" in line and device in line for line in collected), device


@pytest.mark.parametrize("place", [("smoke", device) for device in EMULATED], ids="-".join)
def test_smoke_cases_are_checked(place):
    x = aiter.empty((4, 64), "float32", device=place[1])
    with pytest.raises(RuntimeError, match="are read but were never written"):
        aiter.rms_norm(x)


@pytest.mark.parametrize("place", [("edge", device) for device in EMULATED], ids="-".join)
def test_other_cases_are_not(place):
    aiter.rms_norm(aiter.empty((4, 64), "float32", device=place[1]))
