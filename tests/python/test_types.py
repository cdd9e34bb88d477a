"""Annotations: every public function has them, they name real types, and they say the truth."""

import collections.abc
import importlib.util
import inspect
import subprocess
import sys
import typing
from pathlib import Path

import aiter
import aiter.typing
import pytest

FUNCTIONS = {n: f for n in aiter.__all__ if inspect.isfunction(f := getattr(aiter, n))}
PACKAGE = Path(aiter.__file__).parent


def test_everything_public_is_listed():
    exported = {n for n, f in vars(aiter).items() if inspect.isfunction(f) or inspect.isclass(f)}
    assert exported == set(aiter.__all__)
    assert aiter.__all__ == sorted(aiter.__all__)
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_annotations(name):
    function = FUNCTIONS[name]
    signature = inspect.signature(function)
    names = vars(collections.abc) | vars(aiter.typing)
    hints = typing.get_type_hints(function, localns=names)
    assert set(hints) == set(signature.parameters) | {"return"}
    for parameter in signature.parameters.values():
        # What may be left away as None, and only that, says so.
        hint = hints[parameter.name]
        optional = type(None) in typing.get_args(hint)
        if parameter.default is None:
            assert optional, f"{parameter.name} may be None, its annotation says {hint}"
    parameters = signature.parameters
    if "stream" in parameters and parameters["stream"].default is not inspect.Parameter.empty:
        assert parameters["stream"].kind is inspect.Parameter.KEYWORD_ONLY
        assert hints["stream"] == aiter.typing.Stream
    if "out" in parameters and parameters["out"].default is not inspect.Parameter.empty:
        assert parameters["out"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings(name):
    text = inspect.getdoc(FUNCTIONS[name])
    assert text, name
    assert max(map(len, text.splitlines())) <= 100


def test_stub_of_the_module():
    """The generated stub knows what the module has, and nothing else."""
    import ast

    stub = PACKAGE / "_aiter.pyi"
    if not stub.exists():
        pytest.skip("built without a stub (sanitizers)")
    body = ast.parse(stub.read_text()).body
    names = {n.name for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    assert names == {n for n, f in vars(aiter._aiter).items() if callable(f) and n[0] != "_"}
    (array,) = (n for n in body if isinstance(n, ast.ClassDef) and n.name == "Array")
    methods = {n.name for n in array.body if isinstance(n, ast.FunctionDef)}
    assert {"shape", "dtype", "numpy", "__dlpack__", "__getitem__"} <= methods


USER = """
import aiter
import numpy as np

x = np.ones((2, 8), np.float32)
reveal_type(aiter.rms_norm(x))
reveal_type(aiter.rms_norm(aiter.empty((2, 8), "bfloat16"), w=None, stream=3))
reveal_type(aiter.zeros(3).shape)
aiter.rms_norm([1, 2])
aiter.rms_norm(x, epsilon=1)
aiter.rms_norm(x, stream="x")
"""


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy(tmp_path):
    (tmp_path / "user.py").write_text(USER)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--follow-imports=silent",
            "--cache-dir",
            tmp_path / "cache",
            "user.py",
        ],
        cwd=tmp_path,
        env={"MYPYPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    found = [line.split(":", 2)[1:] for line in lines if line.startswith("user.py:")]
    by_line = {}
    for number, text in found:
        by_line[int(number)] = by_line.get(int(number), "") + text
    assert "numpy.ndarray" in by_line[6]
    assert "Array" in by_line[7]
    assert "tuple[int, ...]" in by_line[8]
    assert "error" in by_line[9] and "error" in by_line[10] and "error" in by_line[11]
    assert set(by_line) == {6, 7, 8, 9, 10, 11}, done.stdout
