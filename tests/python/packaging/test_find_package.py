"""C and C++ projects build against an install prefix and a wheel, both moved elsewhere."""

import os
import shutil
import subprocess
import sys

import headers
import pytest
from tree import ROOT

EXPECTED = "1.20 1.60 0.00 0.00\n1.00 1.00 1.00 1.00\n"  # of examples/c/rms_norm.c

CPP_LISTS = """
cmake_minimum_required(VERSION 3.20)
project(consumer LANGUAGES CXX)
find_package(aiter CONFIG REQUIRED)
add_executable(consumer consumer.cc)
target_compile_features(consumer PRIVATE cxx_std_17)
target_link_libraries(consumer PRIVATE aiter::aiter)
message(STATUS "ABI ${aiter_ABI_VERSION};")
"""
CPP_SOURCE = """
#include <aiter/aiter.h>
#include <cstdio>
int main() {
  std::printf("%s %d\\n", aiter_status_string(AITER_UNSUPPORTED),
              aiter_abi_version() == AITER_ABI_VERSION);
}
"""


def run(*command, **options):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module", params=["prefix", "wheel"])
def moved(request, package, tmp_path_factory):
    """An install tree that is not where it was made."""
    made, target = (tmp_path_factory.mktemp(request.param) / d for d in ("made", "somewhere else"))
    if request.param == "prefix":
        build_dir = request.getfixturevalue("build_dir")
        for component in ("library", "namelink"):
            run("cmake", "--install", build_dir, "--prefix", made, "--component", component)
        assert (made / "lib/libaiter.so").is_symlink()
    else:
        shutil.copytree(package, made)
    made.rename(target)
    return target


def configure_and_build(source, build, *options):
    log = run("cmake", "-S", source, "-B", build, *options)
    run("cmake", "--build", build)
    return log


def test_c(moved, tmp_path):
    configure_and_build(ROOT / "examples/c", tmp_path, f"-DCMAKE_PREFIX_PATH={moved}")
    assert run(tmp_path / "rms_norm") == EXPECTED


def test_cpp(moved, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(CPP_LISTS)
    (tmp_path / "consumer.cc").write_text(CPP_SOURCE)
    log = configure_and_build(tmp_path, tmp_path / "b", f"-Daiter_DIR={moved}/lib/cmake/aiter")
    assert f"ABI {headers.version().split()[-1]};" in log
    assert run(tmp_path / "b/consumer") == "UNSUPPORTED 1\n"


def test_newer_version_is_refused(moved, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(c NONE)\nfind_package(aiter 99 CONFIG)\n"
        "if(aiter_FOUND)\nmessage(FATAL_ERROR found)\nendif()\n"
    )
    run("cmake", "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={moved}")


def test_pkg_config(moved, tmp_path):
    if not shutil.which("pkg-config"):
        pytest.skip("pkg-config is not installed")
    env = {**os.environ, "PKG_CONFIG_PATH": str(moved / "lib/pkgconfig")}
    flags = run("pkg-config", "--cflags", "--libs", "aiter", env=env).strip()
    source = ROOT / "examples/c/rms_norm.c"
    run("sh", "-c", f"{os.environ.get('CC', 'cc')} {source} {flags} -o {tmp_path}/example")
    env["LD_LIBRARY_PATH"] = str(moved / "lib")
    assert run(tmp_path / "example", env=env) == EXPECTED
    modversion = run("pkg-config", "--modversion", "aiter", env=env).strip()
    assert modversion == headers.version().split()[1]


def test_flags_of_the_command(package, tmp_path):
    """c++ x.cc $(python -m aiter --includes --libs)"""
    flags = run(sys.executable, "-m", "aiter", "--includes", "--libs").strip()
    source = ROOT / "examples/c/rms_norm.c"
    run("sh", "-c", f"{os.environ.get('CC', 'cc')} {source} {flags} -o {tmp_path}/example")
    assert run(tmp_path / "example") == EXPECTED
    assert run(sys.executable, "-m", "aiter", "--cmake-dir").strip() == str(
        package / "lib/cmake/aiter"
    )
    assert run(sys.executable, "-m", "aiter", "--pkgconfig-dir").strip() == str(
        package / "lib/pkgconfig"
    )


def test_refuses_unknown_arguments():
    result = subprocess.run(
        [sys.executable, "-m", "aiter", "--cmake-folder"], capture_output=True, text=True
    )
    assert result.returncode == 2 and "--cmake-folder" in result.stderr


def test_moved_package_is_imported(package, tmp_path):
    """The module finds its library, wherever the package is."""
    shutil.copytree(package, tmp_path / "aiter")
    code = "import aiter; print(aiter.__file__); aiter.rms_norm(aiter.zeros((2, 8)))"
    env = {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    out = run(sys.executable, "-c", code, env=env, cwd=tmp_path)
    assert out.strip() == str(tmp_path / "aiter/__init__.py")
