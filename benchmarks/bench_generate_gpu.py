"""`aiter generate` on a GPU: decode tokens/s of a model of random weights, beside its roofline.

    python benchmarks/bench_generate_gpu.py [--model 8B] [--weights bf16|q4|q8] [--batch 1]

The roofline is the time that the weights and the cache of a step take at the rate of a copy.
"""

import argparse
import collections
import statistics
import time

import aiter
import ml_dtypes
import numpy as np
from aiter.models.engine import Engine
from aiter.models.gguf_file import Int4Weight, Int8Weight
from aiter.models.llama import BLOCK_SIZE, Llama

# layers, hidden, intermediate, heads, kv_heads, vocab, tied
MODELS = {
    "135M": (30, 576, 1536, 9, 3, 49152, True),
    "1B": (16, 2048, 8192, 32, 8, 128256, True),
    "8B": (32, 4096, 14336, 32, 8, 128256, False),
}
Tensor = collections.namedtuple("Tensor", "shape")


class RandomFile:
    """What Llama asks of a GgufFile.  Matrices repeat the same million random numbers."""

    def __init__(self, model: str, weights: str):
        layers, hidden, intermediate, heads, kv_heads, vocab, tied = MODELS[model]
        self.path, self.kind = model, weights
        numbers = {
            "block_count": layers,
            "context_length": 8192,
            "embedding_length": hidden,
            "feed_forward_length": intermediate,
            "attention.head_count": heads,
            "attention.head_count_kv": kv_heads,
            "attention.layer_norm_rms_epsilon": 1e-5,
            "rope.freq_base": 10000.0,
        }
        self.metadata = {"general.architecture": "llama"}
        self.metadata |= {f"llama.{k}": v for k, v in numbers.items()}
        kv = hidden // heads * kv_heads
        shapes = {"token_embd": (vocab, hidden), "output_norm": (hidden,)}
        if not tied:
            shapes["output"] = (vocab, hidden)
        for i in range(layers):
            shapes |= {
                f"blk.{i}.attn_norm": (hidden,),
                f"blk.{i}.attn_q": (hidden, hidden),
                f"blk.{i}.attn_k": (kv, hidden),
                f"blk.{i}.attn_v": (kv, hidden),
                f"blk.{i}.attn_output": (hidden, hidden),
                f"blk.{i}.ffn_norm": (hidden,),
                f"blk.{i}.ffn_gate": (intermediate, hidden),
                f"blk.{i}.ffn_up": (intermediate, hidden),
                f"blk.{i}.ffn_down": (hidden, intermediate),
            }
        self.tensors = {f"{k}.weight": Tensor(s) for k, s in shapes.items()}
        rng = np.random.default_rng(0)
        self._floats = (0.02 * rng.standard_normal((1 << 20) + 7)).astype(ml_dtypes.bfloat16)
        self._bytes = rng.integers(0, 256, (1 << 20) + 7).astype(np.uint8)

    def weight(self, name: str):
        shape = self.tensors[name].shape
        if len(shape) == 1:
            return np.ones(shape, np.float32)
        if name.startswith("token_embd") or self.kind == "bf16":
            return np.resize(self._floats, shape)
        n, k = shape
        scale = np.full((n, k // 32), 0.002 if self.kind == "q4" else 0.0002, np.float16)
        if self.kind == "q4":
            return Int4Weight(np.resize(self._bytes, (n, k // 2)), scale, -8 * scale)
        return Int8Weight(np.resize(self._bytes.view(np.int8), shape), scale)


def weight_bytes(model: Llama) -> int:
    """Of one step: everything but the rows of the embedding that are not looked up."""
    linears = [model._head]
    for layer in model._layers:
        linears += [layer.qkv, layer.output, layer.gate_up, layer.down]
    return sum(w.nbytes for linear in linears for _, weight, _ in linear._parts for w in weight)


def copy_rate(device: str) -> float:
    """Bytes read and written per second by torch's fastest copy kernel."""
    import torch

    a = torch.empty(1 << 28, device=device)
    b = torch.empty_like(a)
    times = []
    for _ in range(10):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        torch.add(a, 0, out=b)
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return 2 * a.nbytes / statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", choices=MODELS, default="1B")
    add("--weights", choices=("bf16", "q4", "q8"), default="bf16")
    add("--batch", type=int, nargs="+", default=[1, 64])
    add("--prompt", type=int, default=16)
    add("--tokens", type=int, default=128)
    add("--device", default="cuda:0")
    args = parser.parse_args()

    rate = copy_rate(args.device)
    batch = max(args.batch)
    length = args.prompt + args.tokens
    model = Llama(
        RandomFile(args.model, args.weights),
        dtype="bfloat16",
        max_batch=batch,
        max_tokens=max(batch, 512),
        cache_blocks=batch * -(-length // BLOCK_SIZE),
        device=args.device,
    )
    config, weights = model.config, weight_bytes(model)
    print(
        f"{aiter.device_info(args.device)['name']}, copy {rate / 1e9:.0f} GB/s; {args.model},"
        f" {args.weights}: {weights / 1e9:.2f} GB of weights a step"
    )
    for batch in args.batch:
        steps = []
        engine = Engine(model)
        for i in range(batch):
            engine.add([1 + i] * args.prompt, args.tokens)
        while not engine.idle:
            start = time.perf_counter()
            tokens = len(engine.step())
            if tokens == batch:
                steps.append(time.perf_counter() - start)
        seconds = statistics.median(steps[4:])
        graph, stream = model._graphs[batch], model._stream
        start = time.perf_counter()
        for _ in range(20):
            graph.launch(stream)
        stream.synchronize()
        device = (time.perf_counter() - start) / 20
        cache = batch * length * config.layers * 2 * config.kv_heads * config.head_dim * 2
        roofline = (weights + cache) / rate
        print(
            f"batch {batch:3}: {batch / seconds:9.1f} tokens/s, {1e6 * seconds:7.0f} us a step,"
            f" {1e6 * device:7.0f} us on the device; roofline {1e6 * roofline:7.0f} us:"
            f" {seconds / roofline:.2f}x, {device / roofline:.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
