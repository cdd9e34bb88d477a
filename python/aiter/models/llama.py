"""Models of the Llama architecture: read from GGUF files, run on libaiter's operators alone."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

import aiter

from .gguf_file import GgufFile, Int4Weight, Int8Weight, dequantize

if TYPE_CHECKING:
    from .engine import Chunk, Sequence

BLOCK_SIZE = 16  # tokens in a block of the paged cache


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """The numbers of a model.  `from_gguf` refuses, with the reason, what would not run exactly.

    GGUF stores the rows of q and k permuted, so that RoPE turns adjacent pairs (GPT-J style)
    whatever style the model was trained in.  rope_dim: the leading part of a head that turns.
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    rms_eps: float
    rope_dim: int
    rope_theta: float
    rope_linear_factor: float  # positions are divided by it
    tied: bool  # the output matrix is the embedding

    @classmethod
    def from_gguf(cls, file: GgufFile) -> LlamaConfig:
        arch = file.metadata.get("general.architecture")
        if arch != "llama":
            raise NotImplementedError(
                f"{file.path}: general.architecture is {arch!r}; only 'llama' is supported"
            )

        def meta(name: str, default: Any = None) -> Any:
            value = file.metadata.get("llama." + name, default)
            if value is None:
                raise ValueError(f"{file.path} has no llama.{name}")
            if isinstance(value, list) and name in ("attention.head_count", "feed_forward_length"):
                raise NotImplementedError(f"{file.path}: llama.{name} differs between layers")
            return value

        def refuse_unless(name: str, allowed: tuple, default: Any) -> None:
            value = meta(name, default)
            if value not in allowed:
                raise NotImplementedError(
                    f"{file.path}: llama.{name} is {value!r}; supported: {allowed}"
                )

        hidden, heads = meta("embedding_length"), meta("attention.head_count")
        if heads < 1 or hidden < 1:
            raise ValueError(f"{file.path}: {heads} heads, hidden size {hidden}")
        head_dim = meta("attention.key_length", hidden // heads)
        kv_heads = meta("attention.head_count_kv", heads)
        if kv_heads < 1 or heads % kv_heads:
            raise ValueError(f"{file.path}: {heads} heads do not divide among {kv_heads} kv heads")
        rope_dim = meta("rope.dimension_count", head_dim)
        if rope_dim % 2 or not 0 < rope_dim <= head_dim:
            raise ValueError(
                f"{file.path}: llama.rope.dimension_count is {rope_dim}, head {head_dim}"
            )
        refuse_unless("expert_count", (0,), 0)
        refuse_unless("attention.value_length", (head_dim,), head_dim)
        refuse_unless("rope.scaling.type", ("none", "linear"), "none")
        scaled = meta("rope.scaling.type", "none") == "linear"
        config = cls(
            layers=meta("block_count"),
            hidden=hidden,
            intermediate=meta("feed_forward_length"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            vocab=file.tensors["token_embd.weight"].shape[0]
            if "token_embd.weight" in file.tensors
            else 0,
            context=meta("context_length"),
            rms_eps=meta("attention.layer_norm_rms_epsilon"),
            rope_dim=rope_dim,
            rope_theta=meta("rope.freq_base", 10000.0),
            rope_linear_factor=meta("rope.scaling.factor", 1.0) if scaled else 1.0,
            tied="output.weight" not in file.tensors,
        )
        config._check_tensors(file)
        return config

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that the forward reads, with its shape."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes = {
            "token_embd.weight": (self.vocab, self.hidden),
            "output_norm.weight": (self.hidden,),
        }
        if not self.tied:
            shapes["output.weight"] = (self.vocab, self.hidden)
        for i in range(self.layers):
            shapes |= {
                f"blk.{i}.attn_norm.weight": (self.hidden,),
                f"blk.{i}.attn_q.weight": (q, self.hidden),
                f"blk.{i}.attn_k.weight": (kv, self.hidden),
                f"blk.{i}.attn_v.weight": (kv, self.hidden),
                f"blk.{i}.attn_output.weight": (self.hidden, q),
                f"blk.{i}.ffn_norm.weight": (self.hidden,),
                f"blk.{i}.ffn_gate.weight": (self.intermediate, self.hidden),
                f"blk.{i}.ffn_up.weight": (self.intermediate, self.hidden),
                f"blk.{i}.ffn_down.weight": (self.hidden, self.intermediate),
            }
        return shapes

    def rope_tables(self, positions: int, rope_freqs: np.ndarray | None = None):
        """cos and sin, each (positions, rope_dim / 2) float64; rope_freqs: divisors (Llama 3.1)."""
        frequency = self.rope_theta ** (-np.arange(0, self.rope_dim, 2) / self.rope_dim)
        if rope_freqs is not None:
            frequency = frequency / rope_freqs
        angle = np.arange(positions)[:, None] / self.rope_linear_factor * frequency
        return np.cos(angle), np.sin(angle)

    def _check_tensors(self, file: GgufFile) -> None:
        expected = self.tensor_shapes()
        for name, shape in expected.items():
            if name not in file.tensors:
                raise ValueError(f"{file.path} has no tensor {name}, expected with shape {shape}")
            if file.tensors[name].shape != shape:
                raise ValueError(
                    f"{file.path}: {name} has shape {file.tensors[name].shape}, expected {shape}"
                )
        extra = sorted(file.tensors.keys() - expected.keys() - {"rope_freqs.weight"})
        if extra:  # attention biases, experts, q/k norms: the result would be wrong without them
            raise NotImplementedError(
                f"{file.path}: tensors that this forward does not use: {', '.join(extra[:4])}"
                + (f" and {len(extra) - 4} more" if len(extra) > 4 else "")
            )


class Arena:
    """Memory for weights, one behind the other in pieces of many MB.

    NumPy asks the system for huge pages for such pieces.  A decode step reads all weights once, and
    with small pages that takes a sixth longer (Zen 5).
    """

    PIECE = 64 << 20

    def __init__(self, device: str):
        self.device = device
        self._piece = np.empty(0, np.uint8)

    def store(self, values: np.ndarray):
        """An aiter.Array of values, aligned to 64 bytes; on a GPU, in memory of its own."""
        if self.device != "cpu":
            return aiter.to_device(np.ascontiguousarray(values), self.device)
        skip = -self._piece.ctypes.data % 64
        if skip + values.nbytes > self._piece.nbytes:
            self._piece = np.empty(max(self.PIECE, values.nbytes + 64), np.uint8)
            skip = -self._piece.ctypes.data % 64
        place = self._piece[skip : skip + values.nbytes].view(values.dtype).reshape(values.shape)
        place[...] = values
        self._piece = self._piece[skip + values.nbytes :]
        return aiter.asarray(place)


class Linear:
    """out = x times the transpose of a weight (N, K), in whichever format the file has it.

    Several weights are stacked along N, as one product where their formats agree.
    """

    def __init__(self, weights: list, dtype: str, activations: int, arena: Arena):
        groups: list[list] = []
        for w in weights:
            if groups and type(groups[-1][0]) is type(w):
                groups[-1].append(w)
            else:
                groups.append([w])
        self._parts = []
        first = 0
        for group in groups:
            product, weight = _product(group, dtype, f"{activations}bit", arena.device)
            weight = [arena.store(w) for w in weight]
            rows = sum(w.shape[0] for w in group)
            columns = slice(first, first + rows) if len(groups) > 1 else None
            self._parts.append((product, weight, columns))
            first += rows

    def __call__(self, x, out, stream) -> None:
        for product, weight, columns in self._parts:
            product(x, *weight, out=out if columns is None else out[:, columns], stream=stream)


def _product(group: list, dtype: str, activation: str, device: str):
    """The operator for weights of one kind, and these stacked in the form that it reads fastest.

    The CPU reads packed weights, a GPU their rows.
    """

    def stacked(field: str):
        return np.concatenate([getattr(w, field) for w in group])

    if isinstance(group[0], Int4Weight):
        gemm, pack, fields = aiter.gemm_a16w4, aiter.gemm_a16w4_pack, ("codes", "scale", "min")
    elif isinstance(group[0], Int8Weight):
        gemm, pack, fields = aiter.gemm_a16w8, aiter.gemm_a16w8_pack, ("codes", "scale")
    else:
        return aiter.gemm_a16w16, [_cast(np.concatenate(group), dtype)]
    rows = [stacked(f) for f in fields]
    return functools.partial(gemm, activation=activation), rows if device != "cpu" else [
        pack(*rows)
    ]


def _cast(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        import ml_dtypes

        return values.astype(ml_dtypes.bfloat16)
    return np.ascontiguousarray(values, dtype)


def _array(values: np.ndarray, dtype: str, device: str):
    return aiter.to_device(_cast(values, dtype), device)


def _table(weight, dtype: str, device: str) -> tuple:
    """table and scale of the embedding lookup."""
    if isinstance(weight, Int8Weight):
        return aiter.to_device(weight.codes, device), aiter.to_device(weight.scale, device)
    return _array(dequantize(weight), dtype, device), None


@dataclasses.dataclass
class Layer:
    attention_norm: Any
    qkv: Linear
    output: Linear
    mlp_norm: Any
    gate_up: Linear
    down: Linear
    keys: Any  # the layer's part of the paged cache: (blocks, block, kv_heads, head_dim)
    values: Any


class PagedCache:
    """Keys and values of all layers, in blocks of `block_size` tokens."""

    def __init__(self, config: LlamaConfig, blocks: int, dtype: str, device: str = "cpu"):
        self.blocks, self.block_size = blocks, BLOCK_SIZE
        shape = (blocks, BLOCK_SIZE, config.kv_heads, config.head_dim)
        self.layers = [
            (aiter.zeros(shape, dtype, device), aiter.zeros(shape, dtype, device))
            for _ in range(config.layers)
        ]


class _Views:
    """What one step reads and writes: the leading rows of a `_Step`'s arrays.

    count: tokens; singles: sequences with one of them, which come first; pieces: the others.
    """

    def __init__(self, step: _Step, count: int, singles: int, pieces: int):
        config = step.config
        self.count, self.singles, self.pieces = count, singles, pieces
        for name in ("tokens", "positions", "slots", "stream", "normed", "projected", "gate_up",
                     "activated"):  # fmt: skip
            setattr(self, name, getattr(step, name)[:count])
        heads, attended = step.qkv[:count], step.attended[:count]
        self.qkv = heads.reshape((count, -1))
        self.q = heads[:, : config.heads]
        self.k = heads[:, config.heads : config.heads + config.kv_heads]
        self.v = heads[:, config.heads + config.kv_heads :]
        self.attended = attended.reshape((count, -1))
        self.single_q, self.piece_q = self.q[:singles], self.q[singles:]
        self.single_out, self.piece_out = attended[:singles], attended[singles:]
        for name in ("table", "lengths"):
            rows = getattr(step, name)
            setattr(self, "single_" + name, rows[:singles])
            setattr(self, "piece_" + name, rows[singles : singles + pieces])
        self.piece_starts = step.starts[: pieces + 1]


class _Step:
    """Preallocated arrays of the largest step, and the integers that describe the current one."""

    def __init__(
        self, config: LlamaConfig, batch: int, tokens: int, longest: int, dtype: str, device: str
    ):
        self.config = config
        blocks = -(-longest // BLOCK_SIZE)
        # filled as NumPy arrays, read by the operators as aiter.Arrays
        self._integers = _Integers(4 * tokens + batch * (blocks + 4) + 1 + 7 * 16, device)
        self._tokens, self.tokens = self._integers.take((tokens,))
        self._positions, self.positions = self._integers.take((tokens,))
        self._slots, self.slots = self._integers.take((tokens,))
        self._table, self.table = self._integers.take((batch, blocks))
        self._lengths, self.lengths = self._integers.take((batch,))
        self._starts, self.starts = self._integers.take((batch + 1,))
        self._ends, self._ends_array = self._integers.take((batch,))

        heads = config.heads + 2 * config.kv_heads
        empty = functools.partial(aiter.empty, dtype=dtype, device=device)
        self.stream = empty((tokens, config.hidden))
        self.normed = empty((tokens, config.hidden))
        self.projected = empty((tokens, config.hidden))
        self.qkv = empty((tokens, heads, config.head_dim))
        self.attended = empty((tokens, config.heads, config.head_dim))
        self.gate_up = empty((tokens, 2 * config.intermediate))
        self.activated = empty((tokens, config.intermediate))
        self.last = empty((batch, config.hidden))
        self.logits = aiter.empty((batch, config.vocab), device=device)
        self.chosen = aiter.empty(batch, "int32", device)
        self._views = functools.lru_cache(maxsize=64)(functools.partial(_Views, self))

    def fill(self, chunks: list[Chunk]) -> _Views:
        singles = count = 0
        for row, (sequence, start, n) in enumerate(chunks):
            blocks = sequence.blocks
            self._table[row, : len(blocks)] = blocks
            self._lengths[row] = start + n
            if n == 1:
                singles += 1
                self._tokens[count] = sequence.tokens[start]
                self._positions[count] = start
                block, offset = divmod(start, BLOCK_SIZE)
                self._slots[count] = blocks[block] * BLOCK_SIZE + offset
            else:
                positions = np.arange(start, start + n)
                piece = slice(count, count + n)
                self._tokens[piece] = sequence.tokens[start : start + n]
                self._positions[piece] = positions
                self._slots[piece] = (
                    np.take(blocks, positions // BLOCK_SIZE) * BLOCK_SIZE + positions % BLOCK_SIZE
                )
                self._starts[row - singles + 1] = count + n - singles
            count += n
        ends = self._rows_of_ends(chunks)
        self._ends[: len(ends)] = ends
        self._integers.upload()
        return self._views(count, singles, len(chunks) - singles)

    def ends(self, chunks: list[Chunk]):
        """The rows whose logits are wanted."""
        return self._ends_array[: len(self._rows_of_ends(chunks))]

    @staticmethod
    def _rows_of_ends(chunks: list[Chunk]) -> list[int]:
        behind = itertools.accumulate(c.count for c in chunks)
        return [row - 1 for c, row in zip(chunks, behind, strict=True) if c.reaches_end]


class _Integers:
    """Arrays of integers in one piece of memory, on the host and, in one copy, on the device."""

    def __init__(self, count: int, device: str):
        self._host = np.zeros(count, np.int32)
        self._device = aiter.asarray(self._host)  # on the CPU the same memory
        self._copied = device != "cpu"
        if self._copied:
            self._device = aiter.to_device(self._host, device)
        self._used = 0

    def take(self, shape: tuple[int, ...]):
        """Zeros as a NumPy array, and as the aiter.Array that it becomes by `upload`."""
        count = math.prod(shape)
        part = slice(self._used, self._used + count)
        self._used = -(-part.stop // 16) * 16
        return self._host[part].reshape(shape), self._device[part].reshape(shape)

    def upload(self) -> None:
        if self._copied:
            self._device[:] = self._host


class Llama:
    """The weights of a model, its paged cache, and the forward over a batch of sequences.

    dtype: of the activations between the operators: "float32", "float16" or "bfloat16".
    activations: bits (8 or 16) to which products with quantized weights may round them.
    cache_blocks: blocks of BLOCK_SIZE tokens, by default enough for max_batch full contexts.  The
        cache is of dtype, or float16 under float32.
    max_batch, max_tokens: sequences and tokens in a step.
    device: "cpu", "cuda:N" or "hip:N".
    """

    def __init__(
        self,
        file: GgufFile,
        *,
        dtype: str = "float32",
        activations: int = 16,
        cache_blocks: int | None = None,
        max_batch: int = 1,
        max_tokens: int = 512,
        device: str = "cpu",
    ):
        if dtype not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"dtype is {dtype!r}, expected float32, float16 or bfloat16")
        if activations not in (8, 16):
            raise ValueError(f"activations is {activations}, expected 8 or 16")
        self.config = config = LlamaConfig.from_gguf(file)
        self.max_batch, self.max_tokens = max_batch, max(max_tokens, max_batch)
        if cache_blocks is None:
            cache_blocks = max_batch * -(-config.context // BLOCK_SIZE)
        self.cache = PagedCache(
            config, cache_blocks, "float16" if dtype == "float32" else dtype, device
        )

        def vector(name: str):
            return _array(dequantize(file.weight(name)), "float32", device)

        arena = Arena(device)

        def linear(*names: str) -> Linear:
            return Linear([file.weight(n) for n in names], dtype, activations, arena)

        def layer(i: int) -> Layer:
            def name(part: str) -> str:
                return f"blk.{i}.{part}.weight"

            return Layer(
                vector(name("attn_norm")),
                linear(name("attn_q"), name("attn_k"), name("attn_v")),
                linear(name("attn_output")),
                vector(name("ffn_norm")),
                linear(name("ffn_gate"), name("ffn_up")),
                linear(name("ffn_down")),
                *self.cache.layers[i],
            )

        self._layers = [layer(i) for i in range(config.layers)]
        self._output_norm = vector("output_norm.weight")
        self._embedding = _table(file.weight("token_embd.weight"), dtype, device)
        self._head = linear("token_embd.weight" if config.tied else "output.weight")
        freqs = "rope_freqs.weight"
        divisors = dequantize(file.weight(freqs), np.float64) if freqs in file.tensors else None
        longest = min(config.context, cache_blocks * BLOCK_SIZE)
        self._rope = [_array(t, "float32", device) for t in config.rope_tables(longest, divisors)]
        self._step = _Step(config, self.max_batch, self.max_tokens, longest, dtype, device)
        self._device = device
        # On a GPU steps of one token for each sequence are recorded, by their number of sequences.
        self._stream = None if device == "cpu" else aiter.Stream(device)
        self._graphs: dict[int, aiter.Graph | None] = {}
        self._workspace = self._decode_workspace()

    def _decode_workspace(self):
        """Memory for paged_attention_decode at any batch, or None where it needs none."""
        step, layer = self._step, self._layers[0]
        out, q = step.attended, step.qkv[:, : self.config.heads]
        most = max(
            aiter.paged_attention_decode_workspace(
                q[:n], layer.keys, layer.values, step.table[:n], out[:n]
            )
            for n in range(1, self.max_batch + 1)
        )
        return aiter.empty(most, "uint8", self._device) if most else None

    def forward(self, chunks: list[Chunk], every_token: bool = False):
        """Compute chunks, those of a single token first; returns logits, an aiter.Array float32.

        A row for the last token of each chunk that reaches its sequence's end, or with every_token
        for each token.
        """
        if self._stream is None:
            return self._compute(self._step.fill(chunks), chunks, every_token)
        self._stream.synchronize()  # the step before may still read its integers
        views = self._step.fill(chunks)
        decode = views.count == views.singles and all(c.reaches_end for c in chunks)
        if decode and not every_token:
            logits = self._replay(views, chunks)
        else:
            logits = self._compute(views, chunks, every_token)
        self._stream.synchronize()
        return logits

    def _replay(self, v: _Views, chunks: list[Chunk]):
        """Compute a step of single tokens: the first time call by call, then by a graph of them."""
        if v.count not in self._graphs:
            self._graphs[v.count] = None
            return self._compute(v, chunks, False)
        if self._graphs[v.count] is None:
            with aiter.capture(self._stream) as recording:
                self._compute(v, chunks, False)
            self._graphs[v.count] = recording.graph
        self._graphs[v.count].launch(self._stream)
        return self._step.logits[: v.count]

    def _compute(self, v: _Views, chunks: list[Chunk], every_token: bool):
        config, stream = self.config, self._stream
        eps = config.rms_eps
        cos, sin = self._rope
        aiter.embedding(v.tokens, *self._embedding, out=v.stream, stream=stream)
        aiter.rms_norm(v.stream, self._layers[0].attention_norm, eps, out=v.normed, stream=stream)
        next_norms = [layer.attention_norm for layer in self._layers[1:]] + [self._output_norm]
        for layer, next_norm in zip(self._layers, next_norms, strict=True):
            layer.qkv(v.normed, v.qkv, stream)
            # GGUF has the rows of q and k in the order of the GPT-J style
            aiter.rotary_embedding_fwd(
                v.positions, v.q, v.k, config.head_dim, cos, sin, False, out=(v.q, v.k),
                stream=stream,
            )  # fmt: skip
            aiter.reshape_and_cache_flash(
                v.k, v.v, layer.keys, layer.values, v.slots, stream=stream
            )
            self._attend(v, layer)
            layer.output(v.attended, v.projected, stream)
            aiter.rmsnorm2d_fwd_with_add(
                v.projected, v.stream, layer.mlp_norm, eps, out=v.normed, residual_out=v.stream,
                stream=stream,
            )  # fmt: skip
            layer.gate_up(v.normed, v.gate_up, stream)
            aiter.silu_and_mul(v.gate_up, out=v.activated, stream=stream)
            layer.down(v.activated, v.projected, stream)
            aiter.rmsnorm2d_fwd_with_add(
                v.projected, v.stream, next_norm, eps, out=v.normed, residual_out=v.stream,
                stream=stream,
            )  # fmt: skip
        if every_token:
            logits = aiter.empty((v.count, config.vocab), device=self._device)
            self._head(v.normed, logits, stream)
            return logits
        ends = self._step.ends(chunks)
        if len(ends) == 0:
            return None
        rows = v.normed
        if len(ends) < v.count:  # a gather is a lookup
            rows = aiter.embedding(ends, v.normed, out=self._step.last[: len(ends)], stream=stream)
        logits = self._step.logits[: len(ends)]
        self._head(rows, logits, stream)
        if stream is not None:  # on a GPU it costs less than to come back for it
            aiter.greedy_sample(logits, out=self._step.chosen[: len(ends)], stream=stream)
        return logits

    def _attend(self, v: _Views, layer: Layer) -> None:
        if v.singles:
            aiter.paged_attention_decode(
                v.single_q, layer.keys, layer.values, v.single_lengths, v.single_table,
                workspace=self._workspace, out=v.single_out, stream=self._stream,
            )  # fmt: skip
        if v.pieces:
            aiter.flash_attn_varlen_func(
                v.piece_q, layer.keys, layer.values, v.piece_starts, None, causal=True,
                block_table=v.piece_table, seqused_k=v.piece_lengths, out=v.piece_out,
                stream=self._stream,
            )  # fmt: skip

    def sample(self, logits, sequences: list[Sequence]) -> list[int]:
        """The next token of each sequence, from its row of logits and its way of sampling."""
        out = self._step.chosen[: len(sequences)]
        ways = [s.sampling for s in sequences]
        if all(way.temperature == 0 for way in ways):
            if self._stream is None:
                aiter.greedy_sample(logits, out=out)
            out = aiter.to_device(out, "cpu")
        else:
            out = aiter.empty(len(ways), "int32")
            aiter.top_k_top_p_sampling_from_logits(
                aiter.to_device(logits, "cpu"),
                np.array([way.top_k for way in ways], np.int32),
                np.array([way.top_p for way in ways], np.float32),
                temperature=np.array([way.temperature for way in ways], np.float32),
                seed=np.array([way.seed for way in ways], np.int64),
                offset=np.array([len(s.tokens) for s in sequences], np.int64),
                out=out,
            )
        return out.numpy().tolist()
