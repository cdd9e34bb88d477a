"""Models of the Llama architecture, read from GGUF files."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .gguf_file import GgufFile


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
