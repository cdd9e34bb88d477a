"""aiter emulate and aiter profile-kernel: the examples of docs/gfxemu.md, mistakes, findings."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import aiter
import numpy as np
import pytest
import toolchain
from aiter.emulator import device
from tree import ROOT

pytestmark = [
    pytest.mark.skipif(device.library_path() is None, reason="libaiter_gfxemu.so is not built"),
    pytest.mark.skipif(toolchain.zig() is None, reason=toolchain.MISSING),
]
DOCUMENT = (ROOT / "docs/gfxemu.md").read_text()
AITER = f'aiter() {{ "{sys.executable}" -m aiter "$@"; }}\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where scale.co is."""
    path = tmp_path_factory.mktemp("commands")
    (source,) = re.findall(r"^```c\+\+\n(.*?)^```", DOCUMENT, re.M | re.S)
    (path / "scale.co").write_bytes(toolchain.compile_hip(source, "gfx942"))
    return path


def run(folder, command):
    return subprocess.run(
        ["bash", "-c", AITER + command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(aiter.__file__).parents[1])},
        capture_output=True,
        text=True,
    )


COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.M | re.S)
    for line in block.splitlines()
]


@pytest.mark.parametrize("command", COMMANDS)
def test_examples(folder, command):
    result = run(folder, command)
    assert result.returncode == 0 and not result.stderr, result.stderr
    if "--json" in command:
        json.loads(result.stdout)


def test_what_the_document_prints(folder):
    (want,) = re.findall(r"prints\n```\n(.*?)^```", DOCUMENT, re.M | re.S)
    assert run(folder, COMMANDS[1]).stdout == want


def test_saved_arrays(folder):
    run(folder, COMMANDS[2])
    x = np.random.default_rng(0).standard_normal(256, np.float32)
    np.testing.assert_array_equal(np.load(folder / "y.npy"), 2 * x)


def test_kernels_are_listed(folder):
    text = run(folder, COMMANDS[0]).stdout
    assert text.startswith("scale  gfx942, ") and text.count("\n") == 4
    found = json.loads(run(folder, COMMANDS[0] + " --json").stdout)
    assert [a["size"] for a in found["kernels"][0]["args"]][:3] == [8, 8, 4]


SCALE = "aiter emulate scale.co --kernel scale "


@pytest.mark.parametrize(
    "command, message",
    [
        (SCALE + "--grid 5 --check 'f32[256]=ones' 'f32[256]' f32:2", "lane 0: out of bounds: 4"),
        (SCALE + "--check 'f32[256]' 'f32[256]' f32:2", "read but were never written"),
        (SCALE + "'f32[256]=ones' 'f32[256]'", "2 arguments given, scale has 3"),
        (SCALE + "'f32[256]=ones' 'f32[256]' f64:2", "argument 2 has 8 bytes, the kernel's has 4"),
        (SCALE + "'f32[256]=lots' 'f32[256]' f32:2", "'lots' is no number"),
        (SCALE + "'f33[256]' 'f32[256]' f32:2", "'f33' is no type"),
        (SCALE + "7 8 9", "'7' is neither"),
        (SCALE + "--save 9=x.npy 'f32[256]=ones' 'f32[256]' f32:2", "--save 9=x.npy: expected"),
        ("aiter emulate scale.co --kernel scala", "has no kernel scala; it has scale"),
        ("aiter emulate /no/such.co", "No such file"),
        ("aiter emulate /bin/sh", "not for AMDGPU"),
        ("aiter profile-kernel no_such", "aiter has no function no_such"),
        ("aiter profile-kernel rms_norm 'f64[2,8]'", "x has dtype float64"),
        ("aiter profile-kernel rms_norm 'f32[2,8]' --arch gfx1100", "arch is 'gfx1100'"),
        ("aiter profile-kernel rms_norm 'f32[2,8]' eps=-1", "eps is -1"),
    ],
)
def test_mistakes_and_findings(folder, command, message):
    result = run(folder, command)
    assert result.returncode == 1 and message in result.stderr, result.stderr
    assert "Traceback" not in result.stderr


def test_every_launch_of_an_operator(folder):
    command = "aiter profile-kernel rms_norm 'bf16[6,512]' 'bf16[512]=ones' --json"
    (launch,) = json.loads(run(folder, command).stdout)
    assert launch["arch"] == "gfx942" and launch["kernel"].startswith("rmsnorm_hip")
    assert launch["global_written_bytes"] == 6 * 512 * 2
    assert launch["instructions"] == sum(launch["classes"].values())
