"""A mistyped build option is an error; a changed one is not dropped in silence."""

import subprocess
import sys

import pytest
from tree import ROOT


@pytest.mark.parametrize("option", ["AITER_BUILD_TEST", "AITER_WITH_HIP", "GPU_ARCH", "USE_CUDA"])
def test_unknown_cmake_option(option, tmp_path):
    command = ["cmake", "-S", ROOT, "-B", tmp_path, f"-D{option}=ON"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode != 0
    assert f"unknown option {option}; the options are" in " ".join(result.stderr.split())
    assert "AITER_BUILD_TESTS: Build the C and C++ tests" in result.stderr
    # The corrected command works in the same folder.
    subprocess.run([*command[:-1], "-DAITER_BUILD_TESTS=OFF"], check=True, capture_output=True)


def test_unknown_config_setting(tmp_path):
    pytest.importorskip("scikit_build_core")
    code = (
        "from scikit_build_core.build import build_wheel; "
        f"build_wheel({str(tmp_path)!r}, {{'cmake.defines.AITER_WERROR': 'ON'}})"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0
    assert "cmake.defines" in result.stdout + result.stderr
    assert not list(tmp_path.iterdir())
