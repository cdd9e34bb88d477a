"""examples/engine: built against an install prefix, it chooses the tokens that Python chooses."""

import re
import subprocess

import numpy as np
import pytest
import synthetic
from aiter.models import smollm2
from aiter.models.engine import Engine
from aiter.models.gguf_file import GgufFile
from aiter.models.llama import Llama
from aiter.testing import gpus
from tree import ROOT


@pytest.fixture(scope="module")
def engine(build_dir, tmp_path_factory):
    """The engine's binary."""
    prefix, build = tmp_path_factory.mktemp("prefix"), tmp_path_factory.mktemp("engine")
    for component in ("library", "namelink"):
        call("cmake", "--install", build_dir, "--prefix", prefix, "--component", component)
    call("cmake", "-S", ROOT / "examples/engine", "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}",
         "-DCMAKE_CXX_FLAGS=-Werror")  # fmt: skip
    call("cmake", "--build", build)
    return build / "engine"


def call(*command):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def same_tokens(engine, path, prompt, count, *options, activations=16):
    file = GgufFile(path)
    model = Llama(file, activations=activations, cache_blocks=-(-(len(prompt) + count) // 16))
    expected = Engine(model).generate([prompt], count)[0]
    out = call(engine, path, "--max-tokens", count, "--activations", activations, *options, *prompt)
    assert list(map(int, out.split())) == expected


@pytest.mark.parametrize("activations", [16, 8])
@pytest.mark.parametrize(
    "options",
    [
        {"tied": False},
        {"matrix": "Q4_0", "tied": False},
        {"matrix": "Q8_0", "kv_heads": 1, "tied": False},
        {"formats": {"attn_k": "Q8_0", "attn_v": "F16", "ffn_up": "Q4_0"}, "tied": False},
        {"matrix": "F16", "embedding": "F16", "tied": False},
        {"matrix": "F32", "embedding": "F32", "rope_freqs": True},
    ],
    ids=lambda o: "-".join(map(str, o.values())),
)
def test_synthetic(engine, tmp_path, options, activations):
    path = synthetic.write(tmp_path / "m.gguf", **options)
    prompt = np.random.default_rng(2).integers(0, 264, 50).tolist()
    same_tokens(engine, path, prompt, 40, activations=activations)


@pytest.mark.parametrize("device", gpus())
@pytest.mark.parametrize("matrix", ["Q4_1", "Q8_0", "F16"])
def test_on_a_gpu(engine, tmp_path, matrix, device):
    path = synthetic.write(tmp_path / "m.gguf", matrix=matrix, tied=False)
    prompt = np.random.default_rng(2).integers(0, 264, 20).tolist()
    same_tokens(engine, path, prompt, 8, "--device", device)


def test_ids_from_a_file(engine, tmp_path):
    path = synthetic.write(tmp_path / "m.gguf")
    (tmp_path / "ids").write_text("5, 6,7\n8 9\n")
    out = call(engine, path, "--max-tokens", 8, "--file", tmp_path / "ids", "--threads", 1)
    assert out == call(engine, path, "--max-tokens", 8, 5, 6, 7, 8, 9)


def test_a_prompt_longer_than_a_step(engine, tmp_path):
    extra = {"llama.context_length": 2048}
    path = synthetic.write(tmp_path / "m.gguf", extra=extra)
    same_tokens(engine, path, np.random.default_rng(3).integers(0, 264, 1100).tolist(), 5)


def test_smollm2(engine):
    path = smollm2.installed() or smollm2.cached()
    if not path:
        pytest.skip(f"{smollm2.PACKAGE} {smollm2.VERSION} is not installed")
    # "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    prompt = [1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198]
    same_tokens(engine, path, prompt, 64)


@pytest.mark.parametrize(
    "options, ids, message",
    [
        ({"arch": "gpt2"}, [1], "general.architecture is 'gpt2'; only 'llama' is supported"),
        ({"extra": {"llama.rope.scaling.type": "yarn"}}, [1], "rope.scaling.type is 'yarn'"),
        ({"extra": {"llama.context_length": 16}}, [1], "33 tokens exceed .* context of 16"),
        ({"embedding": "Q4_1"}, [1], "token_embd.weight is of 4 bits"),
        ({"matrix": "Q5_1"}, [1], "attn_q.weight has ggml type 7; this engine reads F32, F16"),
        ({}, [264], "token 264 is outside the vocabulary of 264"),
        ({}, ["x"], "'x' is no number"),
        ({}, [1, "--max-tokens", 0], "--max-tokens must be at least 1"),
    ],
)
def test_refusals(engine, tmp_path, options, ids, message):
    path = synthetic.write(tmp_path / "m.gguf", **options)
    result = subprocess.run([engine, path, *map(str, ids)], capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == ""
    assert re.search(message, result.stderr)


@pytest.mark.parametrize("keep", [0, 10, 100, 5000, -100])
def test_damaged_files(engine, tmp_path, keep):
    path = synthetic.write(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:keep])
    result = subprocess.run([engine, path, "1"], capture_output=True, text=True)
    assert result.returncode == 1 and str(path) in result.stderr


def test_every_flipped_header_byte_ends_in_order(engine, tmp_path):
    """Damage is refused or harmless: never a crash, never without an end."""
    path = synthetic.write(tmp_path / "m.gguf", layers=1, hidden=32, intermediate=32)
    good = path.read_bytes()
    rng = np.random.default_rng(5)
    for at in rng.choice(24 + 600, 40, replace=False):
        bad = bytearray(good)
        bad[at] ^= 1 << rng.integers(8)
        path.write_bytes(bad)
        result = subprocess.run(
            [engine, path, "1", "--max-tokens", "1"], capture_output=True, timeout=60
        )
        assert result.returncode in (0, 1), (at, result)
