"""Rotary embeddings of models: the tables of each way of stretching a context, and `get_rope`.

An embedding is made once and called with arrays of any kind:

    rope = aiter.get_rope(128, 128, 131072, 500000.0, rope_scaling={"rope_type": "llama3", ...})
    query, key = rope(positions, query, key)

The tables are computed with NumPy in single precision, as Hugging Face and vLLM compute them, and
kept as `cos_cache` and `sin_cache`, (rows, 1, 1, rotary_dim / 2) `aiter.Array`s, of which copies are
made on other devices when these are first used.
"""

from __future__ import annotations

import math

from . import _aiter
from .rope import _POSITIONS, _turn, mrope_fwd

__all__ = [
    "DeepseekScalingRotaryEmbedding",
    "DualChunkRotaryEmbedding",
    "DynamicNTKScalingRotaryEmbedding",
    "LinearScalingRotaryEmbedding",
    "Llama3RotaryEmbedding",
    "MRotaryEmbedding",
    "Phi3LongRoPEScaledRotaryEmbedding",
    "ProportionalRotaryEmbedding",
    "RotaryEmbedding",
    "YaRNScalingRotaryEmbedding",
    "get_rope",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .typing import ArrayLike, ArrayT, DType, Stream


def _stored(table, dtype):
    """An f32 NumPy array, rounded, as an aiter.Array of dtype with the extents (rows, 1, 1, width)."""
    import numpy as np

    table = np.ascontiguousarray(table, np.float32)[:, None, None, :]
    name = str(dtype).removeprefix("torch.")
    if name == "bfloat16":  # NumPy cannot: to nearest, ties to even
        bits = table.view(np.uint32)
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        return _aiter.view(_aiter.asarray(bits.astype(np.uint16), None, None), "bfloat16")
    return _aiter.asarray(table.astype(name), None, None)


class _Tables:
    """cos and sin, on the device where they are asked for."""

    def __init__(self, cos, sin, dtype):
        self.host = _stored(cos, dtype), _stored(sin, dtype)
        self._elsewhere = {}

    def beside(self, x):
        device = tuple(map(int, x.__dlpack_device__()))
        if device[0] in (1, 3, 11):  # memory of the host
            return self.host
        if device not in self._elsewhere:
            self._elsewhere[device] = tuple(_aiter.to_device(t, device) for t in self.host)
        return self._elsewhere[device]


class RotaryEmbedding:
    """Angles position / base^(2 i / rotary_dim) for pair i (Su et al. 2021).

    head_size, rotary_dim: dimensions of a head, and how many of them turn.
    max_position_embeddings: positions, or the positions before scaling, where there is one.
    is_neox_style: pairs are (i, i + rotary_dim / 2); otherwise (2 i, 2 i + 1).
    dtype: of the tables, "float32", "float16" or "bfloat16"; queries may have another.
    """

    def __init__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position_embeddings: int,
        base: float,
        is_neox_style: bool = True,
        dtype: DType = "float32",
    ) -> None:
        self.head_size = head_size
        self.rotary_dim = rotary_dim
        self.max_position_embeddings = max_position_embeddings
        self.base = base
        self.is_neox_style = is_neox_style
        self.dtype = dtype
        self._tables = _Tables(*self._cos_sin(), dtype)
        self.cos_cache, self.sin_cache = self._tables.host

    def _inv_freq(self, base: float):
        """The angle per position of each pair."""
        import numpy as np

        exponents = np.arange(0, self.rotary_dim, 2, dtype=np.float32) / np.float32(self.rotary_dim)
        return np.float32(1) / np.power(np.float32(base), exponents)

    def _cos_sin(self):
        """The tables before rounding to dtype."""
        return self._table(self._inv_freq(self.base), self.max_position_embeddings)

    @staticmethod
    def _table(inv_freq, positions, scale=1.0):
        """scale * cos and sin of positions (or of 0 to their number) times inv_freq."""
        import numpy as np

        if not isinstance(positions, np.ndarray):
            positions = np.arange(positions)
        angles = np.outer(positions.astype(np.float32), inv_freq.astype(np.float32))
        return np.cos(angles) * np.float32(scale), np.sin(angles) * np.float32(scale)

    def __call__(
        self,
        positions: ArrayLike,
        query: ArrayT,
        key: ArrayT | None = None,
        offsets: ArrayLike | None = None,
        is_nope_first: bool = False,
        *,
        out: ArrayT | tuple[ArrayT, ArrayT] | None = None,
        stream: Stream = None,
    ) -> ArrayT | tuple[ArrayT, ArrayT]:
        """Turn query and key, (..., heads * head_size) or (..., heads, head_size), by positions (...).

        offsets: added to positions (as many, of their dtype).
        out: (query_out, key_out), or query_out alone when key is None; may be the inputs.
        Returns (query, key), or the query alone when key is None.
        """
        return self._apply(
            self._tables.beside(query), positions, query, key, offsets, is_nope_first, out, stream
        )

    def _apply(self, tables, positions, query, key, offsets, is_nope_first, out, stream):
        return _turn(
            query,
            key,
            *tables,
            0 if self.is_neox_style else 1,
            nope_first=is_nope_first,
            rows=_POSITIONS,
            positions=positions,
            offsets=None if offsets is None else offsets.reshape(positions.shape),
            head_size=self.head_size if query.ndim == positions.ndim + 1 else 0,
            out=out,
            stream=stream,
        )

    def forward(self, *args, **kwargs):
        return self(*args, **kwargs)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(head_size={self.head_size}, rotary_dim={self.rotary_dim}, "
            f"max_position_embeddings={self.max_position_embeddings}, base={self.base}, "
            f"is_neox_style={self.is_neox_style})"
        )


class LinearScalingRotaryEmbedding(RotaryEmbedding):
    """Positions divided by a factor (position interpolation, Chen et al. 2023).

    scaling_factors: one, or several, whose tables lie one after the other; `offsets` of a call then
        choose, from scaling_factor_to_offset.
    """

    def __init__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position_embeddings: int,
        base: float,
        is_neox_style: bool,
        scaling_factors: float | list[float],
        dtype: DType = "float32",
    ) -> None:
        if isinstance(scaling_factors, (int, float)):
            scaling_factors = [scaling_factors]
        self.scaling_factors = [float(f) for f in scaling_factors]
        self.scaling_factor_to_offset: dict[float, int] = {}
        super().__init__(head_size, rotary_dim, max_position_embeddings, base, is_neox_style, dtype)

    def _cos_sin(self):
        import numpy as np

        tables, rows = [], 0
        for factor in self.scaling_factors:
            self.scaling_factor_to_offset[factor] = rows
            positions = np.arange(
                math.ceil(self.max_position_embeddings * factor), dtype=np.float32
            ) / np.float32(factor)
            tables.append(self._table(self._inv_freq(self.base), positions))
            rows += len(positions)
        return tuple(np.concatenate(parts) for parts in zip(*tables, strict=True))


class DynamicNTKScalingRotaryEmbedding(RotaryEmbedding):
    """A base that grows with the length (NTK-aware scaling), for the longest context."""

    def __init__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position_embeddings: int,
        base: float,
        is_neox_style: bool,
        scaling_factor: float,
        dtype: DType = "float32",
    ) -> None:
        self.scaling_factor = scaling_factor
        super().__init__(head_size, rotary_dim, max_position_embeddings, base, is_neox_style, dtype)

    def _cos_sin(self):
        longest = self.max_position_embeddings * self.scaling_factor
        growth = self.scaling_factor * longest / self.max_position_embeddings
        growth -= self.scaling_factor - 1
        base = self.base * growth ** (self.rotary_dim / (self.rotary_dim - 2))
        return self._table(self._inv_freq(base), math.ceil(longest))


def _yarn_mscale(scale, mscale=1.0):
    """By how much attention logits grow with the context, as a factor of queries and keys."""
    return 1.0 if scale <= 1 else 0.1 * mscale * math.log(scale) + 1.0


class YaRNScalingRotaryEmbedding(RotaryEmbedding):
    """Slow pairs interpolated, fast ones left alone, a ramp between (YaRN, Peng et al. 2023).

    max_position_embeddings: positions that the model was trained on; the tables have scaling_factor
        times as many.
    beta_fast, beta_slow: turns over the trained context, above which a pair is left alone, and below
        which it is interpolated.
    truncate: round the ends of the ramp to whole pairs (False: GPT-OSS).
    """

    def __init__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position_embeddings: int,
        base: float,
        is_neox_style: bool,
        scaling_factor: float,
        dtype: DType = "float32",
        *,
        extrapolation_factor: float = 1,
        attn_factor: float = 1,
        beta_fast: float = 32,
        beta_slow: float = 1,
        truncate: bool = True,
    ) -> None:
        self.scaling_factor = scaling_factor
        self.extrapolation_factor = extrapolation_factor
        self.attn_factor = attn_factor
        self.beta_fast = beta_fast
        self.beta_slow = beta_slow
        self.truncate = truncate
        self.mscale = self._mscale()
        super().__init__(head_size, rotary_dim, max_position_embeddings, base, is_neox_style, dtype)

    def _mscale(self) -> float:
        return float(_yarn_mscale(self.scaling_factor) * self.attn_factor)

    def _pair_of_turns(self, turns: float) -> float:
        """The pair that makes so many turns over the trained context."""
        period = self.max_position_embeddings / (turns * 2 * math.pi)
        return self.rotary_dim * math.log(period) / (2 * math.log(self.base))

    def _inv_freq(self, base: float):
        import numpy as np

        extrapolated = super()._inv_freq(base)
        interpolated = extrapolated / np.float32(self.scaling_factor)
        low, high = self._pair_of_turns(self.beta_fast), self._pair_of_turns(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.rotary_dim - 1)
        if low == high:
            high += 0.001
        pairs = np.arange(self.rotary_dim // 2, dtype=np.float32)
        ramp = np.clip((pairs - np.float32(low)) / np.float32(high - low), 0, 1)
        kept = (1 - ramp) * np.float32(self.extrapolation_factor)
        return interpolated * (1 - kept) + extrapolated * kept

    def _cos_sin(self):
        rows = math.ceil(self.max_position_embeddings * self.scaling_factor)
        return self._table(self._inv_freq(self.base), rows, self.mscale)


class DeepseekScalingRotaryEmbedding(YaRNScalingRotaryEmbedding):
    """YaRN with DeepSeek's two magnitudes, of the rotary part (mscale) and of all dimensions."""

    def __init__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position_embeddings: int,
        base: float,
        is_neox_style: bool,
        scaling_factor: float,
        dtype: DType = "float32",
        *,
        mscale: float = 1,
        mscale_all_dim: float = 0,
        **yarn: Any,
    ) -> None:
        self._mscales = float(mscale), float(mscale_all_dim)
        super().__init__(
            head_size,
            rotary_dim,
            max_position_embeddings,
            base,
            is_neox_style,
            scaling_factor,
            dtype,
            **yarn,
        )

    def _mscale(self) -> float:
        rotary, everywhere = (_yarn_mscale(self.scaling_factor, m) for m in self._mscales)
        return rotary / everywhere * self.attn_factor


class Llama3RotaryEmbedding(RotaryEmbedding):
    """Pairs of long waves slowed down by a factor, of short ones left alone, a ramp between."""

    def __init__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position_embeddings: int,
        base: float,
        is_neox_style: bool,
        dtype: DType,
        scaling_factor: float,
        low_freq_factor: float,
        high_freq_factor: float,
        orig_max_position: int,
    ) -> None:
        self.scaling_factor = scaling_factor
        self.low_freq_factor = low_freq_factor
        self.high_freq_factor = high_freq_factor
        self.orig_max_position = orig_max_position
        super().__init__(head_size, rotary_dim, max_position_embeddings, base, is_neox_style, dtype)

    def _inv_freq(self, base: float):
        import numpy as np

        inv_freq = super()._inv_freq(base)
        slowed = inv_freq / np.float32(self.scaling_factor)
        waves = np.float32(2 * math.pi) / inv_freq
        turns = np.float32(self.orig_max_position) / waves  # over the trained context
        low, high = self.low_freq_factor, self.high_freq_factor
        smooth = (turns - np.float32(low)) / np.float32(high - low) if low != high else 0
        between = (1 - smooth) * slowed + smooth * inv_freq
        long = waves > self.orig_max_position / low
        short = waves < self.orig_max_position / high
        return np.where(short, inv_freq, np.where(long, slowed, between)).astype(np.float32)


class ProportionalRotaryEmbedding(RotaryEmbedding):
    """The first rotary_dim / 2 of head_size / 2 pairs turn, at the speeds of a whole head (Gemma 4).

    The other pairs have the angle 0.
    """

    def __init__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position_embeddings: int,
        base: float,
        is_neox_style: bool = True,
        dtype: DType = "float32",
    ) -> None:
        self.rope_angles = rotary_dim // 2
        super().__init__(head_size, head_size, max_position_embeddings, base, is_neox_style, dtype)

    def _inv_freq(self, base: float):
        inv_freq = super()._inv_freq(base)
        inv_freq[self.rope_angles :] = 0
        return inv_freq


class Phi3LongRoPEScaledRotaryEmbedding(RotaryEmbedding):
    """A factor of its own for each pair, one list for short contexts, one for long (LongRoPE).

    A call is long when a position exceeds original_max_position_embeddings. `long=` of a call decides
    without looking, which on a GPU waits for the positions.
    """

    def __init__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position_embeddings: int,
        original_max_position_embeddings: int,
        base: float,
        is_neox_style: bool,
        dtype: DType,
        short_factor: list[float],
        long_factor: list[float],
        short_mscale: float | None = None,
        long_mscale: float | None = None,
    ) -> None:
        if not is_neox_style:
            raise ValueError(
                "Phi3LongRoPEScaledRotaryEmbedding: is_neox_style is False, expected True"
            )
        self.original_max_position_embeddings = original_max_position_embeddings
        self.short_factor, self.long_factor = list(short_factor), list(long_factor)
        scale = max_position_embeddings / original_max_position_embeddings
        mscale = 1.0
        if scale > 1:
            mscale = math.sqrt(1 + math.log(scale) / math.log(original_max_position_embeddings))
        self.short_mscale = mscale if short_mscale is None else short_mscale
        self.long_mscale = mscale if long_mscale is None else long_mscale
        super().__init__(head_size, rotary_dim, max_position_embeddings, base, is_neox_style, dtype)

    def _cos_sin(self):
        """The short tables, then the long ones."""
        import numpy as np

        parts = []
        for name, rows in (
            ("short", self.original_max_position_embeddings),
            ("long", self.max_position_embeddings),
        ):
            factors = np.array(getattr(self, name + "_factor"), np.float32)
            if factors.shape != (self.rotary_dim // 2,):
                raise ValueError(
                    f"Phi3LongRoPEScaledRotaryEmbedding: {name}_factor has {factors.size} numbers, "
                    f"expected rotary_dim / 2 = {self.rotary_dim // 2}"
                )
            inv_freq = self._inv_freq(self.base) / factors
            parts.append(self._table(inv_freq, rows, getattr(self, name + "_mscale")))
        return tuple(np.concatenate(tables) for tables in zip(*parts, strict=True))

    def __call__(
        self,
        positions: ArrayLike,
        query: ArrayT,
        key: ArrayT | None = None,
        offsets: ArrayLike | None = None,
        is_nope_first: bool = False,
        *,
        long: bool | None = None,
        out: ArrayT | tuple[ArrayT, ArrayT] | None = None,
        stream: Stream = None,
    ) -> ArrayT | tuple[ArrayT, ArrayT]:
        """As RotaryEmbedding's; long: whether by the long tables; None = look at the positions."""
        short_rows = self.original_max_position_embeddings
        if long is None:
            seen = _aiter.to_device(positions, "cpu").numpy() if _is_own(positions) else positions
            long = bool((seen > short_rows).any())
        tables = self._tables.beside(query)
        if long:
            tables = tuple(t[short_rows:] for t in tables)
        return self._apply(tables, positions, query, key, offsets, is_nope_first, out, stream)


def _is_own(x):
    return isinstance(x, _aiter.Array)


class MRotaryEmbedding(RotaryEmbedding):
    """Sections of the pairs turn by time, height and width (Qwen-VL); positions (3, ...) or (...).

    mrope_section: pairs of each, with the sum rotary_dim / 2. mrope_interleaved: see `mrope_fwd`.
    """

    def __init__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position_embeddings: int,
        base: float,
        is_neox_style: bool = True,
        dtype: DType = "float32",
        mrope_section: list[int] | None = None,
        mrope_interleaved: bool = False,
    ) -> None:
        if mrope_section and sum(mrope_section) != rotary_dim // 2:
            raise ValueError(
                f"MRotaryEmbedding: mrope_section is {list(mrope_section)}, expected the sum "
                f"rotary_dim / 2 = {rotary_dim // 2}"
            )
        self.mrope_section = mrope_section
        self.mrope_interleaved = mrope_interleaved
        super().__init__(head_size, rotary_dim, max_position_embeddings, base, is_neox_style, dtype)

    def _apply(self, tables, positions, query, key, offsets, is_nope_first, out, stream):
        # (tokens,) of text, or (3, tokens); queries are (tokens, heads * size) or (.., heads, size)
        if positions.ndim == 1:
            return super()._apply(
                tables, positions, query, key, offsets, is_nope_first, out, stream
            )
        if not self.mrope_section:
            raise ValueError("MRotaryEmbedding: positions have rank 2, expected mrope_section")
        if offsets is not None:
            raise ValueError("MRotaryEmbedding: offsets are given, expected None with sections")
        return mrope_fwd(
            positions,
            query,
            key,
            self.head_size,
            *tables,
            self.mrope_section,
            self.is_neox_style,
            self.mrope_interleaved,
            is_nope_first,
            out=out,
            stream=stream,
        )


class DualChunkRotaryEmbedding:
    """The five queries of dual chunk attention (An et al. 2024), side by side, and its keys.

    A call returns query (..., 5 * heads * head_size): within the chunk, of the chunk before, of all
    chunks before that, and the critical forms of the last two; and key (..., heads * head_size).
    """

    def __init__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position_embeddings: int,
        base: float,
        is_neox_style: bool,
        dtype: DType,
        chunk_size: int,
        local_size: int,
    ) -> None:
        import numpy as np

        self.head_size = head_size
        self.rotary_dim = rotary_dim
        self.max_position_embeddings = max_position_embeddings
        self.base = base
        self.is_neox_style = is_neox_style
        self.chunk_size = chunk_size
        self.local_size = local_size
        self.chunk_len = length = chunk_size - local_size
        within = np.arange(length)

        def embedding(positions):
            return _Chosen(head_size, rotary_dim, positions, base, is_neox_style, dtype)

        self._key = embedding(np.arange(max_position_embeddings) % length)
        succeeding = embedding(np.minimum(within + length, chunk_size))
        self._queries = [
            (embedding(within), False),
            (succeeding, False),
            (succeeding, True),  # by its last row
            (embedding(within + length), False),
            (embedding(within + chunk_size), False),
        ]

    def __call__(
        self,
        positions: ArrayLike,
        query: ArrayT,
        key: ArrayT,
        offsets: ArrayLike | None = None,
        *,
        stream: Stream = None,
    ) -> tuple[ArrayT, ArrayT]:
        """positions (...), query and key (..., heads * head_size)."""
        if offsets is not None:
            positions = positions + offsets
        rows = positions % self.chunk_len
        last = rows * 0 + (self.chunk_len - 1)
        queries = [e(last if at_end else rows, query, stream=stream) for e, at_end in self._queries]
        return _concatenated(queries), self._key(positions, key, stream=stream)


class _Chosen(RotaryEmbedding):
    """A table of the given positions."""

    def _cos_sin(self):
        return self._table(self._inv_freq(self.base), self.max_position_embeddings)


def _concatenated(arrays):
    """Along the last dimension, by the arrays' own library."""
    first = arrays[0]
    if hasattr(first, "__array_namespace__"):
        return first.__array_namespace__().concat(arrays, axis=-1)
    if type(first).__module__.split(".")[0] == "torch":
        import torch

        return torch.cat(arrays, dim=-1)
    import numpy as np

    return np.concatenate(arrays, axis=-1)


_made: dict[tuple, RotaryEmbedding | DualChunkRotaryEmbedding] = {}


def _key(value):
    """Something that can be hashed, for lists and dicts."""
    if isinstance(value, dict):
        return tuple(sorted((k, _key(v)) for k, v in value.items()))
    return tuple(value) if isinstance(value, list) else value


def get_rope(
    head_size: int,
    rotary_dim: int,
    max_position: int,
    base: float,
    is_neox_style: bool = True,
    rope_scaling: dict[str, Any] | None = None,
    dtype: DType | None = None,
    partial_rotary_factor: float = 1.0,
    dual_chunk_attention_config: dict[str, Any] | None = None,
) -> RotaryEmbedding | DualChunkRotaryEmbedding:
    """The rotary embedding of a model's configuration; the same object for the same arguments.

    rope_scaling: Hugging Face's `rope_scaling`, of rope_type "default", "linear", "dynamic", "yarn",
        "deepseek_yarn", "llama3", "longrope" ("su"), "mrope" or "proportional".
    dtype: of the tables; None = "float32".
    partial_rotary_factor: the part of rotary_dim that turns.
    Raises ValueError for another rope_type, KeyError where rope_scaling lacks a number.
    Source: AITER get_rope.
    """
    dtype = "float32" if dtype is None else str(dtype).removeprefix("torch.")
    if partial_rotary_factor < 1.0:
        rotary_dim = int(rotary_dim * partial_rotary_factor)
    scaling = rope_scaling or {}
    dual = dual_chunk_attention_config
    if dual is not None:
        dual = {k: dual[k] for k in ("chunk_size", "local_size")}
    common = (head_size, rotary_dim, max_position, base, is_neox_style)
    key = (*common, _key(scaling), _key(dual), dtype)
    if key not in _made:
        if dual is not None:
            _made[key] = DualChunkRotaryEmbedding(*common, dtype, **dual)
        else:
            _made[key] = _scaled(common, scaling, dtype)
    return _made[key]


def _scaled(common, scaling, dtype):
    head_size, rotary_dim, max_position, base, is_neox_style = common
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    trained = scaling.get("original_max_position_embeddings", max_position)

    def chosen(*names):
        return {name: scaling[name] for name in names if name in scaling}

    if kind in ("default", "mrope"):
        if "mrope_section" in scaling:
            return MRotaryEmbedding(*common, dtype, **chosen("mrope_section", "mrope_interleaved"))
        return RotaryEmbedding(*common, dtype)
    if kind == "linear":
        return LinearScalingRotaryEmbedding(*common, scaling.get("factor", 1.0), dtype)
    if kind == "dynamic":
        return DynamicNTKScalingRotaryEmbedding(*common, scaling.get("factor", 1.0), dtype)
    if kind == "proportional":
        return ProportionalRotaryEmbedding(*common, dtype)
    if kind == "llama3":
        factors = (scaling[n] for n in ("factor", "low_freq_factor", "high_freq_factor"))
        return Llama3RotaryEmbedding(*common, dtype, *factors, trained)
    if kind in ("yarn", "deepseek_yarn"):
        names = ["extrapolation_factor", "attn_factor", "beta_fast", "beta_slow", "truncate"]
        deepseek = kind == "deepseek_yarn"
        make = DeepseekScalingRotaryEmbedding if deepseek else YaRNScalingRotaryEmbedding
        names += ["mscale", "mscale_all_dim"] if deepseek else []
        return make(
            head_size,
            rotary_dim,
            trained,
            base,
            is_neox_style,
            scaling.get("factor", 1.0),
            dtype,
            **chosen(*names),
        )
    if kind in ("su", "longrope"):
        return Phi3LongRoPEScaledRotaryEmbedding(
            head_size,
            rotary_dim,
            max_position,
            trained,
            base,
            is_neox_style,
            dtype,
            scaling["short_factor"],
            scaling["long_factor"],
            **chosen("short_mscale", "long_mscale"),
        )
    raise ValueError(
        f"get_rope: rope_type is {kind!r}, expected default, linear, dynamic, yarn, deepseek_yarn, "
        f"llama3, longrope, su, mrope or proportional"
    )
