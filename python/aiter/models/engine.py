"""Continuous batching: prompts of different lengths share the steps of one model.

Every step runs one token of each sequence that is past its prompt, and fills the rest of the
step with pieces of prompts.  Sequences that end give their cache blocks back, and waiting ones
enter.  A sequence enters when the pool has the blocks for its whole length, so none is ever thrown
out.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Iterator
from collections.abc import Sequence as Seq
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.  temperature 0: the best one; top_k 0 and top_p 1: from all.

    The choice depends on the logits, the seed and the token's position alone, so the same prompt
    gives the same text whatever else is in the batch.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if not self.temperature >= 0:
            raise ValueError(f"temperature is {self.temperature}, expected at least 0")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}, expected at least 0 (0 = all)")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, expected above 0 and at most 1")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed is {self.seed}, expected 0 to 2**63 - 1")


class BlockPool:
    """The blocks of a paged cache: a fixed number, handed out in any order."""

    def __init__(self, blocks: int):
        self.blocks = blocks
        self._free = list(range(blocks - 1, -1, -1))

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        if count > len(self._free):
            raise ValueError(f"{count} blocks asked for, {len(self._free)} are free")
        return [self._free.pop() for _ in range(count)]

    def give_back(self, blocks: list[int]) -> None:
        self._free += reversed(blocks)


class Sequence:
    """A prompt and its continuation.  finish: None while running, then "stop" or "length"."""

    def __init__(self, prompt: Seq[int], max_tokens: int, sampling: Sampling, stop: frozenset[int]):
        self.tokens = list(prompt)
        self.prompt_length = len(self.tokens)
        self.max_tokens = max_tokens
        self.sampling = sampling
        self.stop = stop
        self.computed = 0  # leading tokens whose keys and values are in the cache
        self.blocks: list[int] = []
        self.finish: str | None = None

    @property
    def generated(self) -> list[int]:
        return self.tokens[self.prompt_length :]

    @property
    def longest(self) -> int:
        """Tokens in the cache at the end: the last generated one is never put there."""
        return self.prompt_length + self.max_tokens - 1


class Chunk(NamedTuple):
    """tokens[start : start + count] of a sequence, to be computed in one step."""

    sequence: Sequence
    start: int
    count: int

    @property
    def reaches_end(self) -> bool:
        """Whether the logits of the last token are wanted: the next token follows from them."""
        return self.start + self.count == len(self.sequence.tokens)


class Scheduler:
    """Decides what each step computes.

    max_batch: sequences at a time.  max_tokens: tokens in a step, at least max_batch.
    """

    def __init__(self, pool: BlockPool, block_size: int, max_batch: int, max_tokens: int):
        if max_batch < 1 or max_tokens < max_batch:
            raise ValueError(
                f"max_batch is {max_batch}, max_tokens {max_tokens}; expected 1 <= max_batch <= "
                "max_tokens"
            )
        self.pool, self.block_size = pool, block_size
        self.max_batch, self.max_tokens = max_batch, max_tokens
        self.waiting: collections.deque[Sequence] = collections.deque()
        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        needed = self._blocks(sequence)
        if needed > self.pool.blocks:
            raise ValueError(
                f"a sequence of {sequence.longest + 1} tokens needs {needed} cache blocks of "
                f"{self.block_size}; the cache has {self.pool.blocks}"
            )
        self.waiting.append(sequence)

    def schedule(self) -> list[Chunk]:
        """The next step, chunks of a single token first; empty when all is done."""
        self._admit()
        budget = self.max_tokens - len(self.running)  # every running sequence advances
        chunks = []
        for s in self.running:
            extra = min(len(s.tokens) - s.computed - 1, budget)
            budget -= extra
            chunks.append(Chunk(s, s.computed, 1 + extra))
        chunks.sort(key=lambda c: c.count > 1)
        return chunks

    def computed(self, chunk: Chunk) -> None:
        """The chunk's keys and values are in the cache."""
        chunk.sequence.computed += chunk.count

    def append(self, sequence: Sequence, token: int) -> None:
        """The token that follows; ends the sequence and frees its blocks where it is the last."""
        sequence.tokens.append(token)
        if token in sequence.stop:
            sequence.finish = "stop"
        elif len(sequence.tokens) == sequence.prompt_length + sequence.max_tokens:
            sequence.finish = "length"
        if sequence.finish:
            self.remove(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, finished or not."""
        if sequence in self.running:
            self.running.remove(sequence)
            self.pool.give_back(sequence.blocks)
            sequence.blocks = []
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def _blocks(self, sequence: Sequence) -> int:
        return -(-sequence.longest // self.block_size)

    def _admit(self) -> None:
        """In the order of arrival, so that a long prompt is not passed by for ever."""
        while self.waiting and len(self.running) < self.max_batch:
            needed = self._blocks(self.waiting[0])
            if needed > self.pool.free:
                return
            sequence = self.waiting.popleft()
            sequence.blocks = self.pool.take(needed)
            self.running.append(sequence)


@dataclasses.dataclass
class Speed:
    """Tokens and seconds of the steps with prompt tokens in them, and of those without."""

    prefill_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_tokens: int = 0
    decode_seconds: float = 0.0

    def add(self, chunks: list[Chunk], seconds: float) -> None:
        tokens = sum(c.count for c in chunks)
        if any(c.start < c.sequence.prompt_length for c in chunks):
            self.prefill_tokens += tokens
            self.prefill_seconds += seconds
        else:
            self.decode_tokens += tokens
            self.decode_seconds += seconds

    def __str__(self) -> str:
        def rate(name: str, tokens: int, seconds: float) -> str:
            per_second = f", {tokens / seconds:.1f} tokens/s" if tokens else ""
            return f"{name}: {tokens} tokens{per_second}"

        return "; ".join(
            (
                rate("prefill", self.prefill_tokens, self.prefill_seconds),
                rate("decode", self.decode_tokens, self.decode_seconds),
            )
        )


class Engine:
    """Generates text with a model: `add` sequences, then `step` until `idle`.

    model: `aiter.models.llama.Llama`, or anything with its `config`, `cache`, `max_batch`,
    `max_tokens`, `forward` and `sample`.
    """

    def __init__(self, model):
        self.model = model
        self.speed = Speed()
        cache = model.cache
        self.scheduler = Scheduler(
            BlockPool(cache.blocks), cache.block_size, model.max_batch, model.max_tokens
        )

    def add(
        self,
        prompt: Seq[int],
        max_tokens: int,
        sampling: Sampling = Sampling(),
        stop: Seq[int] = (),
    ) -> Sequence:
        """Queue a prompt; max_tokens: how many to generate unless a token of `stop` ends it."""
        config = self.model.config
        if not len(prompt):
            raise ValueError("the prompt is empty")
        if max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}, expected at least 1")
        if len(prompt) + max_tokens > config.context:
            raise ValueError(
                f"a prompt of {len(prompt)} tokens and {max_tokens} new ones exceed the model's "
                f"context of {config.context}"
            )
        wrong = next((t for t in prompt if not 0 <= t < config.vocab), None)
        if wrong is not None:
            raise ValueError(f"token {wrong} is outside the vocabulary of {config.vocab}")
        sequence = Sequence(prompt, max_tokens, sampling, frozenset(stop))
        self.scheduler.add(sequence)
        return sequence

    @property
    def idle(self) -> bool:
        return not (self.scheduler.waiting or self.scheduler.running)

    def step(self) -> list[tuple[Sequence, int]]:
        """Run one step; returns the sequences that got a token, with it."""
        start = time.perf_counter()
        chunks = self.scheduler.schedule()
        if not chunks:
            return []
        logits = self.model.forward(chunks)
        ends = [c.sequence for c in chunks if c.reaches_end]
        tokens = self.model.sample(logits, ends) if ends else []
        for chunk in chunks:
            self.scheduler.computed(chunk)
        for sequence, token in zip(ends, tokens, strict=True):
            self.scheduler.append(sequence, token)
        self.speed.add(chunks, time.perf_counter() - start)
        return list(zip(ends, tokens, strict=True))

    def run(self) -> Iterator[tuple[Sequence, int]]:
        """Step until all sequences have ended; yields each token as it comes."""
        while not self.idle:
            yield from self.step()

    def generate(self, prompts: Seq[Seq[int]], max_tokens: int, **options) -> list[list[int]]:
        """The continuations of several prompts; options are those of `add`."""
        sequences = [self.add(p, max_tokens, **options) for p in prompts]
        collections.deque(self.run(), maxlen=0)
        return [s.generated for s in sequences]
