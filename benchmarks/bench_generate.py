"""`aiter generate` beside llama-cpp-python: prefill and decode tokens/s, and the logits' errors.

    python benchmarks/bench_generate.py [--peer PYTHON] [--profile] [options]

PYTHON is a Python that has llama-cpp-python (see peer_llama.py).  Both run the same file with the
same number of threads, in turns; the printed rates are medians of the rounds.  --profile prints
where the time of a step goes, operator by operator.
"""

from __future__ import annotations

import argparse
import collections
import statistics
import sys
import tempfile
import time
from pathlib import Path

import aiter
import numpy as np
from aiter.models import smollm2
from aiter.models.engine import Chunk, Engine, Sampling, Sequence
from aiter.models.gguf_file import GgufFile
from aiter.models.llama import BLOCK_SIZE, Llama
from aiter.models.tokenizer import Tokenizer
from aiter.testing import bench
from peer_llama import Peer

TESTS = Path(__file__).parents[1] / "tests/python/models"
CONTEXT = 1024


class Ours:
    """The same questions as the peer's."""

    def __init__(self, file, activations, dtype):
        self.model = Llama(
            file, activations=activations, dtype=dtype, cache_blocks=CONTEXT // BLOCK_SIZE
        )

    def prefill(self, tokens):
        engine = Engine(self.model)
        engine.add(tokens, 1)
        start = time.perf_counter()
        engine.step()
        return time.perf_counter() - start

    def decode(self, tokens, count):
        engine = Engine(self.model)
        sequence = engine.add(tokens, count + 1)
        engine.step()
        start = time.perf_counter()
        while not engine.idle:
            engine.step()
        return time.perf_counter() - start, sequence.generated

    def logits(self, tokens):
        sequence = Sequence(tokens, 1, Sampling(), frozenset())
        sequence.blocks = list(range(-(-len(tokens) // BLOCK_SIZE)))
        return np.array(self.model.forward([Chunk(sequence, 0, len(tokens))], every_token=True))


def compare(args, file, text):
    sys.path.insert(0, str(TESTS))
    from reference_llama import Reference, relative_error

    ours = Ours(file, args.activations, args.dtype)
    peer = Peer(args.peer, file.path, args.threads, CONTEXT) if args.peer else None
    if peer:
        print(f"peer: llama-cpp-python {peer.info['version']}, {peer.info['system'].strip()}")
    seconds = collections.defaultdict(list)
    for _ in range(args.rounds):
        seconds["prefill", "ours"].append(ours.prefill(text[: args.prefill]))
        if peer:
            answer = peer.ask("prefill", tokens=text[: args.prefill])
            seconds["prefill", "peer"].append(answer["seconds"])
        took, ids = ours.decode(text[: args.prompt], args.decode)
        seconds["decode", "ours"].append(took)
        if peer:
            answer = peer.ask("decode", tokens=text[: args.prompt], count=args.decode)
            seconds["decode", "peer"].append(answer["seconds"])
    for what, count in (("prefill", args.prefill), ("decode", args.decode)):
        rates = {
            who: [count / s for s in seconds[what, who]]
            for who in ("ours", "peer")
            if seconds[what, who]
        }
        line = f"{what:8} {count} tokens"
        for who, values in rates.items():
            line += (
                f"   {who} {statistics.median(values):7.1f} tokens/s"
                f" ({min(values):.1f} to {max(values):.1f})"
            )
        if peer:
            ratio = statistics.median(rates["ours"]) / statistics.median(rates["peer"])
            line += f"   ratio {ratio:.2f}"
        print(line, flush=True)

    weights = sum(t.data.nbytes for t in file.tensors.values())
    rate = bench.read_rate()
    limit = rate / weights
    decode = args.decode / statistics.median(seconds["decode", "ours"])
    print(
        f"ceiling  {weights / 1e6:.1f} MB of weights a token at {rate / 1e9:.1f} GB/s read:"
        f" {limit:.0f} tokens/s; decode reaches {100 * decode / limit:.0f} %"
    )
    if args.error:
        tokens = text[: args.error]
        reference = Reference(file.path).logits(tokens)
        line = f"error    of {args.error} positions' logits: "
        line += f"ours {relative_error(ours.logits(tokens), reference):.2e}"
        if peer:
            with tempfile.NamedTemporaryFile(suffix=".npy") as out:
                peer.ask("logits", tokens=tokens, out=out.name)
                line += f", peer {relative_error(np.load(out.name), reference):.2e}"
        print(line)
    if peer:
        peer.close()


class Timer:
    """Sums the time of an operator's calls."""

    def __init__(self, function):
        self.function, self.seconds, self.calls = function, 0.0, 0

    def __call__(self, *args, **kwargs):
        start = time.perf_counter()
        result = self.function(*args, **kwargs)
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return result


OPERATORS = (
    "embedding", "rms_norm", "rmsnorm2d_fwd_with_add", "gemm_a16w4", "gemm_a16w8", "gemm_a16w16",
    "rotary_embedding_fwd", "reshape_and_cache_flash", "paged_attention_decode",
    "flash_attn_varlen_func", "silu_and_mul", "greedy_sample",
)  # fmt: skip


def profile(args, file, text):
    """Where the time of a decode step goes, operator by operator."""
    timers = {name: Timer(getattr(aiter, name)) for name in OPERATORS}
    plain = Ours(file, args.activations, args.dtype)
    for name, timer in timers.items():
        setattr(aiter, name, timer)
    timed = Ours(file, args.activations, args.dtype)
    for what in ("decode", "prefill"):
        walls = []
        for _ in range(args.rounds):
            for name, timer in timers.items():
                setattr(aiter, name, timer.function)
            if what == "decode":
                walls.append(plain.decode(text[: args.prompt], args.decode)[0])
            else:
                walls.append(plain.prefill(text[: args.prefill]))
            for name, timer in timers.items():
                setattr(aiter, name, timer)
        wall = statistics.median(walls)
        totals = collections.defaultdict(list)
        for _ in range(args.rounds):
            if what == "decode":
                engine = Engine(timed.model)
                engine.add(text[: args.prompt], args.decode + 1)
                engine.step()
            else:
                engine = Engine(timed.model)
                engine.add(text[: args.prefill], 1)
            for timer in timers.values():
                timer.seconds, timer.calls = 0.0, 0
            while not engine.idle:
                engine.step()
            for name, timer in timers.items():
                totals[name].append((timer.seconds, timer.calls))
        steps = args.decode if what == "decode" else 1
        print(f"{what}: {1e6 * wall / steps:.0f} us a step without timers")
        inside = 0.0
        for name, samples in sorted(totals.items(), key=lambda t: -statistics.median(t[1])[0]):
            took, calls = statistics.median_low(samples)
            if calls:
                inside += took
                print(
                    f"  {name:26} {calls / steps:5.0f} calls {1e6 * took / steps:9.1f} us"
                    f" {1e6 * took / calls:9.2f} us each {100 * took / wall:5.1f} %"
                )
        print(f"  {'outside of operators':38} {1e6 * (wall - inside) / steps:9.1f} us")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", default=None, help="GGUF file (default SmolLM2-135M-Instruct)")
    add("--peer", metavar="PYTHON", help="a Python with llama-cpp-python")
    add("--threads", type=int, default=aiter.get_num_threads())
    add("--rounds", type=int, default=5)
    add("--prefill", type=int, default=512, help="tokens of the prefill")
    add("--prompt", type=int, default=16, help="tokens before the decode")
    add("--decode", type=int, default=128, help="decoded tokens")
    add("--error", type=int, default=256, help="positions whose logits are compared; 0 = none")
    add("--activations", type=int, default=16)
    add("--dtype", default="float32")
    add("--profile", action="store_true")
    args = parser.parse_args()

    aiter.set_num_threads(args.threads)
    file = GgufFile(args.model or smollm2.path())
    text = Tokenizer(file).encode((TESTS / "data/prompt.txt").read_text())
    text = (text * (CONTEXT // len(text) + 1))[:CONTEXT]
    print(f"{bench.machine()}; activations of {args.activations} bits, {args.dtype} in between")
    if args.profile:
        profile(args, file, text)
    else:
        compare(args, file, text)


if __name__ == "__main__":
    main()
