"""SmolLM2-135M-Instruct, teacher-forced on a text, against the float64 forward of its weights."""

from pathlib import Path

import numpy as np
import pytest
from aiter.models import smollm2
from aiter.models.engine import Chunk, Sampling, Sequence
from aiter.models.gguf_file import GgufFile
from aiter.models.llama import Llama
from aiter.models.tokenizer import Tokenizer
from reference_llama import Reference, relative_error, top1_agreement

PROMPT = Path(__file__).with_name("data") / "prompt.txt"
TOKENS = 256
# Activation bits -> relative error of the logits, and the gap between the reference's two best
# logits beyond which the best one must be the same.
BOUND = {16: (1e-3, 0.05), 8: (1e-2, 0.5)}


@pytest.fixture(scope="module")
def file():
    path = smollm2.installed() or smollm2.cached()
    if not path:
        pytest.skip(f"{smollm2.PACKAGE} {smollm2.VERSION} is not installed")
    return GgufFile(path)


@pytest.fixture(scope="module")
def tokens(file):
    tokens = Tokenizer(file).encode(PROMPT.read_text())[:TOKENS]
    assert len(tokens) == TOKENS
    return tokens


@pytest.fixture(scope="module")
def reference(file, tokens):
    return Reference(file.path).logits(tokens)


def sequence_of(model, tokens):
    s = Sequence(tokens, 1, Sampling(), frozenset())
    s.blocks = list(range(-(-len(tokens) // model.cache.block_size)))
    return s


@pytest.mark.parametrize("activations", BOUND)
def test_logits(file, tokens, reference, activations):
    model = Llama(file, activations=activations, cache_blocks=TOKENS // 16)
    chunk = Chunk(sequence_of(model, tokens), 0, TOKENS)
    logits = np.array(model.forward([chunk], every_token=True))
    error, gap = BOUND[activations]
    assert relative_error(logits, reference) < error
    agreeing, compared = top1_agreement(logits, reference, gap)
    assert agreeing == compared > TOKENS / 2


def test_decode_equals_prefill(file, tokens, reference):
    model = Llama(file, cache_blocks=TOKENS // 16)
    s = sequence_of(model, tokens)
    model.forward([Chunk(s, 0, TOKENS - 32)])
    logits = [np.array(model.forward([Chunk(s, i, 1)], every_token=True))
              for i in range(TOKENS - 32, TOKENS)]  # fmt: skip
    assert relative_error(np.concatenate(logits), reference[-32:]) < BOUND[16][0]
