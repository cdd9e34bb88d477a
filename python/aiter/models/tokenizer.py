"""Text to token ids and back, from the vocabulary inside a GGUF file."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .gguf_file import GgufFile

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# tokenizer.ggml.pre -> the patterns that cut a text into words before merging
_WORDS = {
    "gpt-2": [_GPT2],
    "smollm": [r"\p{N}", _GPT2],
    "llama-bpe": [_LLAMA3],
    "llama3": [_LLAMA3],
    "llama-v3": [_LLAMA3],
}


class Tokenizer:
    """Byte-level BPE ("gpt2") and SentencePiece BPE ("llama") vocabularies.

    eos_ids: the ids that end a text or a turn.
    """

    def __init__(self, file: GgufFile):
        try:
            import tokenizers
        except ImportError as e:
            raise ImportError(f"tokenizing needs the 'tokenizers' package: {e}") from e
        self._meta = meta = file.metadata
        self._where = file.path
        self.tokens: list[str] = self._get("tokens")
        self._types: list[int] = self._get("token_type")
        if len(self._types) != len(self.tokens):
            raise ValueError(
                f"{file.path}: {len(self.tokens)} tokens, {len(self._types)} token types"
            )
        self.bos_id: int | None = meta.get("tokenizer.ggml.bos_token_id")
        self.eos_ids = self._end_ids()
        model = self._get("model")
        # SentencePiece begins a text with a space of its own
        self._space_prefix = model == "llama" and meta.get("tokenizer.ggml.add_space_prefix", True)
        if model == "gpt2":
            self._bpe = self._byte_level(tokenizers)
            self._bytes = self._byte_level_bytes()
        elif model == "llama":
            self._bpe = self._sentencepiece(tokenizers)
            self._bytes = self._sentencepiece_bytes()
        else:
            raise NotImplementedError(
                f"{file.path}: tokenizer.ggml.model is {model!r}; 'gpt2' and 'llama' are known"
            )
        self._add_bos = bool(meta.get("tokenizer.ggml.add_bos_token", model == "llama"))
        self._add_special_tokens(tokenizers)

    # --- use -------------------------------------------------------------------------------------

    def encode(self, text: str, *, bos: bool | None = None) -> list[int]:
        """Token ids of text; special tokens written out in it ("<|im_start|>") become their ids.

        bos: whether to begin with the beginning-of-text token; None follows the file.
        """
        ids = self._bpe.encode(text, add_special_tokens=False).ids
        bos = self._add_bos if bos is None else bos
        if bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return ids

    def decode(self, ids) -> str:
        """The text of ids without special tokens; bytes that are no UTF-8 become U+FFFD."""
        stream = self.stream()
        text = "".join(stream.add(i) for i in ids) + stream.finish()
        return text[1:] if self._space_prefix and text.startswith(" ") else text

    def stream(self) -> TextStream:
        """A decoder that is fed one token at a time."""
        return TextStream(self._bytes)

    def apply_chat_template(self, messages: list[dict[str, str]]) -> str:
        """The prompt of a conversation, by the file's template.

        messages: {"role": "user", "content": ...}, ...  A template is a Jinja program that comes
        with the file, so jinja2's sandbox runs it.
        """
        template = self._meta.get("tokenizer.chat_template")
        if template is None:
            raise NotImplementedError(f"{self._where} has no chat template; give a raw prompt")
        try:
            import jinja2.sandbox
        except ImportError as e:
            raise ImportError(f"chat templates need the 'jinja2' package: {e}") from e
        env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        env.globals["raise_exception"] = _template_error
        special = {"bos_token": self.bos_id, "eos_token": self._meta.get(
            "tokenizer.ggml.eos_token_id")}  # fmt: skip
        names = {k: "" if i is None else self.tokens[i] for k, i in special.items()}
        return env.from_string(template).render(
            messages=messages, add_generation_prompt=True, **names
        )

    # --- construction ----------------------------------------------------------------------------

    def _get(self, name: str) -> Any:
        key = "tokenizer.ggml." + name
        if key not in self._meta:
            raise ValueError(f"{self._where} has no {key}")
        return self._meta[key]

    def _end_ids(self) -> frozenset[int]:
        names = ("eos_token_id", "eot_token_id", "eom_token_id")
        ids = {self._meta.get("tokenizer.ggml." + n) for n in names}
        # files of older converters name only one of the tokens that end a turn
        common = {"<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "</s>"}
        ids |= {i for i, t in enumerate(self.tokens) if t in common and self._types[i] == _CONTROL}
        return frozenset(ids - {None})

    def _byte_level(self, tokenizers):
        pre = self._meta.get("tokenizer.ggml.pre", "gpt-2")
        if pre not in _WORDS:
            raise NotImplementedError(
                f"{self._where}: tokenizer.ggml.pre is {pre!r}; known: {', '.join(_WORDS)}"
            )
        pairs = [tuple(m.split(" ", 1)) for m in self._get("merges")]
        bpe = tokenizers.Tokenizer(
            tokenizers.models.BPE(
                vocab={t: i for i, t in enumerate(self.tokens)},
                merges=pairs,
                ignore_merges=pre in ("llama-bpe", "llama3", "llama-v3"),
            )
        )
        split = tokenizers.pre_tokenizers.Split
        bpe.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
            [split(tokenizers.Regex(r), "isolated") for r in _WORDS[pre]]
            + [tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        return bpe

    def _sentencepiece(self, tokenizers):
        vocab = {t: i for i, t in enumerate(self.tokens)}
        scores = self._get("scores")
        # SentencePiece merges the pair whose result scores best: the same order as a merge list
        merges = []
        for token, i in vocab.items():
            if self._types[i] in (_NORMAL, _USER_DEFINED):
                halves = ((token[:n], token[n:]) for n in range(1, len(token)))
                merges += [(-scores[i], vocab[a], vocab[b], a, b) for a, b in halves
                           if a in vocab and b in vocab]  # fmt: skip
        merges.sort()
        unknown = self._meta.get("tokenizer.ggml.unknown_token_id", 0)
        bpe = tokenizers.Tokenizer(
            tokenizers.models.BPE(
                vocab=vocab,
                merges=[m[3:] for m in merges],
                unk_token=self.tokens[unknown],
                fuse_unk=True,
                byte_fallback=True,
            )
        )
        normal = tokenizers.normalizers
        steps = [normal.Replace(" ", "\u2581")]
        if self._space_prefix:
            steps.insert(0, normal.Prepend("\u2581"))
        bpe.normalizer = normal.Sequence(steps)
        return bpe

    def _add_special_tokens(self, tokenizers) -> None:
        def added(kind: int):
            return [
                tokenizers.AddedToken(t, special=kind == _CONTROL, normalized=False)
                for t, k in zip(self.tokens, self._types, strict=True)
                if k == kind
            ]

        self._bpe.add_special_tokens(added(_CONTROL))
        self._bpe.add_tokens(added(_USER_DEFINED))

    def _byte_level_bytes(self) -> list[bytes]:
        to_byte = _byte_alphabet()

        def spell(token: str, kind: int) -> bytes:
            if kind == _CONTROL:
                return b""
            if kind == _USER_DEFINED or any(c not in to_byte for c in token):
                return token.encode()
            return bytes(to_byte[c] for c in token)

        return [spell(t, k) for t, k in zip(self.tokens, self._types, strict=True)]

    def _sentencepiece_bytes(self) -> list[bytes]:
        def spell(token: str, kind: int) -> bytes:
            if kind == _BYTE:  # "<0x0A>"
                return bytes([int(token[3:5], 16)])
            if kind in (_CONTROL, _UNUSED):
                return b""
            return token.replace("\u2581", " ").encode()

        return [spell(t, k) for t, k in zip(self.tokens, self._types, strict=True)]


class TextStream:
    """Turns tokens into text as they come; a character cut between tokens waits for its rest."""

    def __init__(self, token_bytes: list[bytes]):
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        return self._utf8.decode(self._token_bytes[token])

    def finish(self) -> str:
        """What is left at the end: U+FFFD for an unfinished character."""
        return self._utf8.decode(b"", final=True)


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character for each byte: itself where printable, else from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def _template_error(message: str):
    raise ValueError(f"chat template: {message}")
