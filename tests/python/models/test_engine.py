"""Continuous batching over a model of arithmetic, whose cache holds the tokens themselves."""

import types

import pytest
from aiter.models.engine import BlockPool, Engine, Sampling, Scheduler, Sequence

VOCAB, BLOCK = 1000, 4


def next_token(tokens):
    value = 7
    for i, t in enumerate(tokens):
        value = (value * 31 + t * (i + 1)) % VOCAB
    return value


class Model:
    """Reads what a sequence has written into its own blocks, and nothing else."""

    def __init__(self, blocks=12, max_batch=3, max_tokens=8, context=100):
        self.cache = types.SimpleNamespace(blocks=blocks, block_size=BLOCK)
        self.config = types.SimpleNamespace(context=context, vocab=VOCAB)
        self.max_batch, self.max_tokens = max_batch, max_tokens
        self.memory = {}
        self.steps = []

    def forward(self, chunks):
        self.steps.append([(c.start, c.count) for c in chunks])
        assert len(chunks) <= self.max_batch
        assert sum(c.count for c in chunks) <= self.max_tokens
        ends = []
        for s, start, count in chunks:
            assert start == s.computed
            for i in range(start, start + count):
                self.memory[s.blocks[i // BLOCK], i % BLOCK] = s.tokens[i]
            if start + count == len(s.tokens):
                seen = [self.memory[s.blocks[i // BLOCK], i % BLOCK] for i in range(start + count)]
                ends.append(next_token(seen))
        return ends

    def sample(self, logits, sequences):
        assert len(logits) == len(sequences)
        return logits


def alone(prompt, count):
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


def test_a_batch_of_different_lengths_equals_one_by_one():
    prompts = [list(range(1, n)) for n in (2, 31, 5, 14, 9, 20, 3)]
    model = Model()
    engine = Engine(model)
    counts = [6, 3, 11, 1, 7, 2, 5]
    sequences = [engine.add(p, n) for p, n in zip(prompts, counts, strict=True)]
    events = list(engine.run())
    for s, p, n in zip(sequences, prompts, counts, strict=True):
        assert s.generated == alone(p, n) and s.finish == "length"
        assert [t for owner, t in events if owner is s] == s.generated
    assert engine.idle and engine.scheduler.pool.free == model.cache.blocks
    assert engine.speed.prefill_tokens + engine.speed.decode_tokens == sum(
        s.longest for s in sequences
    )
    assert any(len({c > 1 for _, c in step}) == 2 for step in model.steps)  # mixed ones
    for step in model.steps:
        singles = [count == 1 for _, count in step]
        assert singles == sorted(singles, reverse=True)


def test_a_long_prompt_is_cut_and_others_go_on():
    model = Model(max_tokens=4)
    engine = Engine(model)
    short = engine.add([1], 8)
    engine.step()
    long = engine.add(list(range(20)), 1)
    while long.finish is None:
        assert any(s is short for s, _ in engine.step()) or short.finish
    assert long.generated == alone(range(20), 1) and short.generated == alone([1], 8)


def test_stop_token():
    expected = alone([5, 6], 10)
    engine = Engine(Model())
    s = engine.add([5, 6], 10, stop=[expected[3]])
    list(engine.run())
    assert s.generated == expected[:4] and s.finish == "stop"


def test_a_sequence_waits_for_blocks_in_order():
    scheduler = Scheduler(BlockPool(4), BLOCK, 4, 16)
    first, big, small = (Sequence([1] * n, 1, Sampling(), frozenset()) for n in (8, 12, 1))
    for s in (first, big, small):
        scheduler.add(s)
    assert [c.sequence for c in scheduler.schedule()] == [first]  # big would not fit, small waits
    scheduler.computed(scheduler.schedule()[0])
    scheduler.append(first, 3)
    assert [c.sequence for c in scheduler.schedule()] == [small, big]
    assert scheduler.pool.free == 0


def test_removed_sequences_free_their_blocks():
    scheduler = Scheduler(BlockPool(4), BLOCK, 4, 16)
    s, waiting = (Sequence([1] * 16, 1, Sampling(), frozenset()) for _ in range(2))
    scheduler.add(s)
    scheduler.add(waiting)
    scheduler.schedule()
    assert scheduler.pool.free == 0
    scheduler.remove(waiting)
    scheduler.remove(s)
    assert scheduler.pool.free == 4 and not scheduler.running and not scheduler.waiting


@pytest.mark.parametrize(
    "prompt, count, message",
    [
        ([], 1, "the prompt is empty"),
        ([1], 0, "max_tokens is 0, expected at least 1"),
        ([1] * 60, 41, "60 tokens and 41 new ones exceed the model's context of 100"),
        ([1] * 40, 30, "70 tokens needs 18 cache blocks of 4; the cache has 12"),
        ([1, VOCAB], 1, "token 1000 is outside the vocabulary of 1000"),
        ([-1], 1, "token -1 is outside"),
    ],
)
def test_refusals(prompt, count, message):
    engine = Engine(Model())
    with pytest.raises(ValueError, match=message):
        engine.add(prompt, count)
    assert engine.idle


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0}, {"top_p": 2},
     {"seed": -1}],
)  # fmt: skip
def test_bad_sampling(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        Sampling(**options)
