"""The binary interface: what is exported, how structs lie in memory, what the library needs."""

import os
import re
import subprocess
from pathlib import Path

import headers
import pytest

HINT = "; if this break is meant, run tests/cpp/abi/headers.py record and say so in CHANGELOG.md"


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def library(package):
    abi = headers.version().split()[-1]
    return package / "lib" / f"libaiter.so.{abi}"


@pytest.fixture(scope="module")
def dynamic(library):
    """The dynamic section as (tag, value) pairs."""
    return re.findall(r"\((\w+)\)\s+.*?\[(.*?)\]", output("readelf", "-dW", str(library)))


def test_exports_are_the_declarations(library):
    lines = output("nm", "-D", "--defined-only", str(library)).splitlines()
    exported = {line.split()[-1].split("@")[0] for line in lines}
    declared = {f.name for f in headers.functions()}
    assert exported == declared


def test_recorded_symbols_exist():
    _, recorded = headers.recorded("symbols.txt")
    gone = set(recorded) - {f.name for f in headers.functions()}
    assert not gone, f"{sorted(gone)} are gone" + HINT


def test_recorded_layout_holds():
    """Fields keep offset and size, enumerators their numbers; option structs grow at the end."""
    _, recorded = headers.recorded("layout.txt")
    now = {line.split()[0]: line.split()[1:] for line in headers.layout()}
    growing = {s.name for s in headers.structs() if s.fields[0][1] == "struct_size"}
    for line in recorded:
        name, *numbers = line.split()
        if name in growing:
            assert int(now[name][0]) >= int(numbers[0]), f"{name} has shrunk" + HINT
        else:
            assert now.get(name) == numbers, f"{name} was {numbers}, is {now.get(name)}" + HINT


def test_the_record_is_of_this_version():
    """What is new may be missing in the record until the version is raised, and no longer."""
    for name in ("symbols.txt", "layout.txt"):
        version, _ = headers.recorded(name)
        assert version == headers.version(), "run tests/cpp/abi/headers.py record"


def test_options_can_grow():
    for s in headers.structs():
        if s.name.endswith("_opts"):
            assert s.fields[:2] == [("uint32_t", "struct_size"), ("uint32_t", "flags")], s.name


def test_soname(dynamic, library):
    assert ("SONAME", library.name) in dynamic


def test_needs_the_c_library_alone(dynamic, build_dir):
    cache = (build_dir / "CMakeCache.txt").read_text()
    if "AITER_STATIC_RUNTIME:BOOL=ON" not in cache:
        pytest.skip("built with AITER_STATIC_RUNTIME=OFF")
    needed = {value.split(".so")[0] for tag, value in dynamic if tag == "NEEDED"}
    assert needed <= {
        "libc",
        "libm",
        "libdl",
        "libpthread",
        "librt",
        "libgcc_s",
        "ld-linux-x86-64",
        "ld-linux-aarch64",
    }


def test_no_code_leaks_between_instruction_sets(build_dir):
    """An inline function that two files emit is linked once, from either of them: from the AVX-512
    one, it would end programs on older machines. So what a file compiled for one instruction set
    emits is local, or has that instruction set's namespace in its name."""
    if "CMAKE_BUILD_TYPE:STRING=Release" not in (build_dir / "CMakeCache.txt").read_text():
        pytest.skip("without optimization, trivial inline functions are emitted as well")
    objects = sorted(build_dir.glob("CMakeFiles/aiter_cpu_*.dir/**/*.o"))
    assert objects
    for path in objects:
        isa = re.search(r"aiter_cpu_(\w+)\.dir", str(path))[1]
        for line in output("nm", "--defined-only", "--extern-only", str(path)).splitlines():
            symbol = line.split()[-1]
            if symbol.startswith("DW.ref."):  # data for unwinding
                continue
            assert f"{len(isa)}{isa}" in symbol, f"{path.name} for {isa} emits {symbol}"


def test_layout_is_dlpacks(tmp_path):
    """A DLTensor* is an aiter_tensor*: offsets, sizes and codes, against the real dlpack.h."""
    tvm_ffi = pytest.importorskip("tvm_ffi", reason="no dlpack.h: apache-tvm-ffi has one")
    dlpack = Path(tvm_ffi.__file__).parent / "include"
    fields = {
        "aiter_tensor": ("DLTensor", [f for _, f in struct("aiter_tensor").fields]),
        "aiter_dtype": ("DLDataType", [f for _, f in struct("aiter_dtype").fields]),
    }
    lines = ["#include <stddef.h>", "#include <aiter/aiter.h>", "#include <dlpack/dlpack.h>"]

    def same(a, b):
        lines.append(f'_Static_assert({a} == {b}, "{a}");')

    for ours, (theirs, names) in fields.items():
        same(f"sizeof({ours})", f"sizeof({theirs})")
        for name in names:
            same(f"offsetof({ours}, {name})", f"offsetof({theirs}, {name})")
            same(f"sizeof((({ours}*)0)->{name})", f"sizeof((({theirs}*)0)->{name})")
    same("sizeof(aiter_device)", "sizeof(DLDevice)")
    same("offsetof(aiter_device, type)", "offsetof(DLDevice, device_type)")
    same("offsetof(aiter_device, id)", "offsetof(DLDevice, device_id)")
    devices = {"AITER_CPU": "kDLCPU", "AITER_CUDA": "kDLCUDA", "AITER_CUDA_HOST": "kDLCUDAHost",
               "AITER_ROCM": "kDLROCM", "AITER_ROCM_HOST": "kDLROCMHost"}  # fmt: skip
    codes = {"INT": "Int", "UINT": "UInt", "FLOAT": "Float", "BFLOAT": "Bfloat", "BOOL": "Bool",
             "FLOAT8_E4M3FN": "Float8_e4m3fn", "FLOAT8_E4M3FNUZ": "Float8_e4m3fnuz",
             "FLOAT8_E5M2": "Float8_e5m2", "FLOAT8_E5M2FNUZ": "Float8_e5m2fnuz",
             "FLOAT8_E8M0FNU": "Float8_e8m0fnu", "FLOAT6_E2M3FN": "Float6_e2m3fn",
             "FLOAT6_E3M2FN": "Float6_e3m2fn", "FLOAT4_E2M1FN": "Float4_e2m1fn"}  # fmt: skip
    ours = [c for c in headers.constants() if c.startswith("AITER_CODE_")]
    assert ours == [f"AITER_CODE_{c}" for c in codes]
    for a, b in [*devices.items(), *((f"AITER_CODE_{a}", f"kDL{b}") for a, b in codes.items())]:
        same(f"(int){a}", f"(int){b}")
    source = tmp_path / "layout.c"
    source.write_text("\n".join(lines) + "\n")
    command = [os.environ.get("CC", "cc"), "-std=c11", "-fsyntax-only", f"-I{headers.INCLUDE}"]
    result = subprocess.run([*command, f"-I{dlpack}", str(source)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def struct(name):
    return next(s for s in headers.structs() if s.name == name)
