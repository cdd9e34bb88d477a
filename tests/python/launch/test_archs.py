"""Device code for other architectures than the one that the suite runs on."""

import os
import re
import subprocess

import pytest
from tree import ROOT

OPS = sorted((p.parent.parent.name, p.stem) for p in (ROOT / "src/ops").glob("*/*/*.hip"))


@pytest.mark.parametrize("family, op", OPS, ids=[op for _, op in OPS])
def test_builds_for_nvidia(build_dir, tmp_path, family, op):
    """With the best compiler that is found: nvcc, NVRTC or a clang."""
    tool = build_dir / "aiter_build_kernels"
    if not tool.exists():
        pytest.skip("no kernels are built ahead of time")
    clang = re.search(r"clang: (.+)\)", (build_dir / "kernels.txt").read_text())
    source = ROOT / "src/ops" / family / op / f"{op}.hip"
    result = subprocess.run(
        [tool, op, "sm_90", ROOT / "src", source, tmp_path, tmp_path / "manifest.txt"],
        env=os.environ | ({"AITER_CLANG": clang[1]} if clang else {}),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "manifest.txt").read_text().splitlines()
    assert all(line.startswith(f"{op}_hip") for line in lines[1:]) and len(lines) > 1
    assert "warning" not in result.stderr, result.stderr
    # Kernels that wait for the one before them are launched early: all of an operator, or none.
    waits = {line.split("\t")[-1] for line in lines[1:]}
    assert waits == {"1"} if op == "rmsnorm" else len(waits) == 1
