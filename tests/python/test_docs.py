"""What the documents say is so: their examples run, their tables are complete."""

import os
import re
import subprocess
import sys

import pytest
from tree import ROOT

README = (ROOT / "README.md").read_text()
EXAMPLES = [
    ROOT / "README.md",
    ROOT / "docs/arrays.md",
    *sorted((ROOT / "docs/guides").glob("*.md")),
]
PYTHON = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in EXAMPLES
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S)
    )
]


def imports(block):
    return re.findall(r"^import (\w+)", block, re.M)


@pytest.mark.parametrize("block", PYTHON)
def test_python_examples(block):
    for module in imports(block):
        pytest.importorskip(module)
    if "cupy" in imports(block):
        import cupy

        try:
            cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as e:
            pytest.skip(f"CuPy finds no GPU: {e}")
    exec(compile(block, "example", "exec"), {})


def test_readme_c():
    """The example is the one that test_find_package.py builds and runs."""
    (block,) = re.findall(r"^```c\n(.*?)^```", README, re.M | re.S)
    assert block == (ROOT / "examples/c/rms_norm.c").read_text()


def test_readme_commands():
    help = subprocess.run([sys.executable, ROOT / "run", "help"], capture_output=True, text=True)
    for command in re.findall(r"^\./run (\w+)", README, re.M):
        assert f"./run {command}" in help.stdout


def test_links():
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_environment_variable_is_listed():
    listed = set(re.findall(r"`(AITER_\w+)`", (ROOT / "docs/environment.md").read_text()))
    read = set()
    for folder, pattern in (("src", "*.cc"), ("src", "*.h"), ("python", "*.py")):
        for path in (ROOT / folder).rglob(pattern):
            call = r"(?:getenv|environment|environ\.get)\(\s*\"(AITER_\w+)\""
            read |= set(re.findall(call, path.read_text()))
            read |= set(re.findall(r"\"(AITER_\w+_LIBRARY)\"", path.read_text()))
    of_tests = {"AITER_BUILD_DIR", "AITER_FUZZ_SEED", "AITER_FUZZ_ROUNDS", "AITER_ABI_VERSION"}
    assert read == listed - of_tests


def test_every_build_option_is_listed():
    listed = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/building.md").read_text(), re.M))
    declared = set()
    for path in [ROOT / "CMakeLists.txt", *(ROOT / "cmake").glob("*.cmake")]:
        text = path.read_text()
        declared |= set(re.findall(r"^\s*option\((\w+)", text, re.M))
        declared |= set(re.findall(r"^\s*aiter_option_from_environment\((\w+)", text, re.M))
        declared |= set(re.findall(r"^\s*set\((AITER_\w+) .* CACHE", text, re.M))
    assert declared - {"name"} == listed


def test_changelog_names_every_operator():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    ops = [path.stem for path in (ROOT / "src/ops").glob("*/*/*.def")]
    missing = [op for op in ops if f"`aiter_{op}`" not in changelog]
    assert not missing, "add a line under Unreleased, Added"


@pytest.mark.parametrize(
    "name, value",
    [("AITER_NUM_THREADS", "many"), ("AITER_FORCE", "rmsnorm:none"), ("AITER_CPU_ISA", "sse")],
)
def test_mistakes_in_the_environment_are_not_dropped(name, value):
    code = "import aiter; aiter.rms_norm(aiter.zeros((2, 8)))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1 and value in result.stderr
    assert "ValueError" in result.stderr
