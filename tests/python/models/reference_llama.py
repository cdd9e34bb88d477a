"""A Llama forward in float64 NumPy, written from the architecture and read with the gguf package.

It shares nothing with the library: neither its GGUF reader nor its operators.
"""

from __future__ import annotations

import gguf
import numpy as np


class Reference:
    """The dequantized weights of a GGUF file; `logits` is the teacher-forced forward."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.tensors = {t.name: t for t in reader.tensors}

        def meta(name, default=None):
            field = reader.fields.get("llama." + name)
            return default if field is None else field.contents()

        self.layers = meta("block_count")
        self.heads = meta("attention.head_count")
        self.kv_heads = meta("attention.head_count_kv", self.heads)
        self.head_dim = meta("attention.key_length", meta("embedding_length") // self.heads)
        self.eps = meta("attention.layer_norm_rms_epsilon")
        self.theta = meta("rope.freq_base", 10000.0)
        self.rope_dim = meta("rope.dimension_count", self.head_dim)
        self.linear = meta("rope.scaling.factor", 1.0)

    def weight(self, name):
        t = self.tensors[name]
        return gguf.dequantize(t.data, t.tensor_type).astype(np.float64)

    def logits(self, tokens):
        """(tokens, vocab) float64: row i predicts token i + 1."""
        embedding = self.weight("token_embd.weight")
        x = embedding[np.asarray(tokens)]
        cos, sin = self._rope_tables(len(tokens))
        for i in range(self.layers):
            x = x + self._attention(i, self._norm(x, f"blk.{i}.attn_norm"), cos, sin)
            x = x + self._mlp(i, self._norm(x, f"blk.{i}.ffn_norm"))
        x = self._norm(x, "output_norm")
        output = self.weight("output.weight") if "output.weight" in self.tensors else embedding
        return x @ output.T

    def _norm(self, x, name):
        return (
            x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.weight(name + ".weight")
        )

    def _rope_tables(self, count):
        frequency = self.theta ** (-np.arange(0, self.rope_dim, 2) / self.rope_dim)
        if "rope_freqs.weight" in self.tensors:
            frequency = frequency / self.weight("rope_freqs.weight")
        angle = np.arange(count)[:, None] / self.linear * frequency
        return np.cos(angle)[:, None], np.sin(angle)[:, None]  # (tokens, 1 head, rope_dim / 2)

    def _rope(self, x, cos, sin):
        """GGUF stores q and k of this architecture for rotation of adjacent pairs."""
        x = x.copy()
        a, b = x[..., 0 : self.rope_dim : 2].copy(), x[..., 1 : self.rope_dim : 2].copy()
        x[..., 0 : self.rope_dim : 2] = a * cos - b * sin
        x[..., 1 : self.rope_dim : 2] = a * sin + b * cos
        return x

    def _attention(self, i, x, cos, sin):
        n = len(x)
        q, k, v = (
            (x @ self.weight(f"blk.{i}.attn_{name}.weight").T).reshape(n, -1, self.head_dim)
            for name in "qkv"
        )
        q, k = self._rope(q, cos, sin), self._rope(k, cos, sin)
        out = np.empty_like(q)
        future = np.triu(np.full((n, n), -np.inf), 1)
        for h in range(self.heads):
            group = h * self.kv_heads // self.heads
            score = q[:, h] @ k[:, group].T / np.sqrt(self.head_dim) + future
            p = np.exp(score - score.max(-1, keepdims=True))
            out[:, h] = p @ v[:, group] / p.sum(-1, keepdims=True)
        return out.reshape(n, -1) @ self.weight(f"blk.{i}.attn_output.weight").T

    def _mlp(self, i, x):
        gate, up = (x @ self.weight(f"blk.{i}.ffn_{name}.weight").T for name in ("gate", "up"))
        return (gate / (1 + np.exp(-gate)) * up) @ self.weight(f"blk.{i}.ffn_down.weight").T


def relative_error(logits, reference):
    """||logits - reference|| / ||reference|| over all positions."""
    return float(np.linalg.norm(logits - reference) / np.linalg.norm(reference))


def top1_agreement(logits, reference, gap):
    """(agreeing, compared) positions, of those whose two best reference logits are > gap apart."""
    best = np.partition(reference, -2, axis=-1)[:, -2:]
    clear = best[:, 1] - best[:, 0] > gap
    same = np.argmax(logits, -1) == np.argmax(reference, -1)
    return int((same & clear).sum()), int(clear.sum())
