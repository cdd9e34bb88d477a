"""get_rope and the embeddings: tables against scalar float64 formulas, calls against the reference."""

import math

import aiter
import numpy as np
import pytest
from aiter.testing import assert_close, assert_equal, dtype_of, variants

DIM, BASE, ROWS = 16, 10000.0, 64

# Numbers of Hugging Face configurations: Llama 3.1, Phi 3 (shortened), DeepSeek V2, GPT-OSS, Qwen.
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0 + 0.1 * i for i in range(DIM // 2)],
    "long_factor": [1.0 + 2.0 * i for i in range(DIM // 2)],
    "original_max_position_embeddings": 16,
}
DEEPSEEK = YARN | {"rope_type": "deepseek_yarn", "mscale": 0.707, "mscale_all_dim": 0.5}


def speed(i, base=BASE):
    return base ** (-2 * i / DIM)


def yarn_speed(i, factor=4.0, trained=32, fast=32, slow=1, truncate=True):
    def pair_of(turns):
        return DIM * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(BASE))

    low, high = pair_of(fast), pair_of(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, DIM - 1)
    ramp = min(max((i - low) / (high - low), 0), 1)
    return speed(i) / factor * ramp + speed(i) * (1 - ramp)


def llama3_speed(i):
    wave = 2 * math.pi / speed(i)
    if wave < 32 / 4.0:
        return speed(i)
    if wave > 32 / 1.0:
        return speed(i) / 8.0
    smooth = (32 / wave - 1.0) / (4.0 - 1.0)
    return (1 - smooth) * speed(i) / 8.0 + smooth * speed(i)


def table(rows, speed_of, scale=1.0, position=lambda p: p):
    angles = np.array([[position(p) * speed_of(i) for i in range(DIM // 2)] for p in range(rows)])
    return scale * np.cos(angles), scale * np.sin(angles)


def ntk_base():
    factor = 4.0
    return BASE * (factor * factor - (factor - 1)) ** (DIM / (DIM - 2))


YARN_SCALE = 0.1 * math.log(4.0) + 1
LONG_SCALE = math.sqrt(1 + math.log(4) / math.log(16))


def long_tables():
    parts = [
        table(rows, lambda i, f=LONG[name]: speed(i) / f[i], LONG_SCALE)
        for name, rows in (("short_factor", 16), ("long_factor", ROWS))
    ]
    return tuple(np.concatenate(t) for t in zip(*parts, strict=True))


@pytest.mark.parametrize(
    "scaling, kind, want",
    [
        (None, "RotaryEmbedding", table(ROWS, speed)),
        ({"rope_type": "default"}, "RotaryEmbedding", table(ROWS, speed)),
        ({"type": "linear", "factor": 4.0}, "LinearScalingRotaryEmbedding",
         table(4 * ROWS, speed, position=lambda p: p / 4)),
        ({"rope_type": "dynamic", "factor": 4.0}, "DynamicNTKScalingRotaryEmbedding",
         table(4 * ROWS, lambda i: speed(i, ntk_base()))),
        (YARN, "YaRNScalingRotaryEmbedding", table(128, yarn_speed, YARN_SCALE)),
        (YARN | {"attn_factor": 2.0, "beta_fast": 8, "beta_slow": 2, "truncate": False},
         "YaRNScalingRotaryEmbedding",
         table(128, lambda i: yarn_speed(i, fast=8, slow=2, truncate=False), 2 * YARN_SCALE)),
        (DEEPSEEK, "DeepseekScalingRotaryEmbedding",
         table(128, yarn_speed, (0.0707 * math.log(4) + 1) / (0.05 * math.log(4) + 1))),
        (LLAMA3, "Llama3RotaryEmbedding", table(ROWS, llama3_speed)),
        (LONG, "Phi3LongRoPEScaledRotaryEmbedding", long_tables()),
        ({"rope_type": "default", "mrope_section": [2, 3, 3]}, "MRotaryEmbedding", table(ROWS, speed)),
        ({"type": "mrope", "mrope_section": [2, 3, 3]}, "MRotaryEmbedding", table(ROWS, speed)),
    ],
)  # fmt: skip
def test_tables(scaling, kind, want):
    rope = aiter.get_rope(DIM, DIM, ROWS, BASE, True, scaling)
    assert type(rope).__name__ == kind
    for cache, expected in zip((rope.cos_cache, rope.sin_cache), want, strict=True):
        assert cache.shape == (len(expected), 1, 1, DIM // 2)
        # Angles up to 256 in single precision.
        np.testing.assert_allclose(cache.numpy().reshape(expected.shape), expected, atol=4e-5)


def test_the_ramps_are_ramps():
    """The parameters above meet pairs of all three sorts, or the formulas were not tested."""
    ratios = {round(llama3_speed(i) / speed(i), 6) for i in range(DIM // 2)}
    assert {1.0, 0.125} < ratios
    ratios = {round(yarn_speed(i) / speed(i), 6) for i in range(DIM // 2)}
    assert {1.0, 0.25} < ratios


def test_proportional():
    rope = aiter.get_rope(DIM, 8, ROWS, BASE, True, {"rope_type": "proportional"})
    cos, sin = table(ROWS, lambda i: speed(i) if i < 4 else 0.0)
    np.testing.assert_allclose(rope.cos_cache.numpy()[:, 0, 0], cos, atol=1e-5)
    np.testing.assert_allclose(rope.sin_cache.numpy()[:, 0, 0], sin, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtypes(dtype):
    rope = aiter.get_rope(DIM, DIM, ROWS, BASE, dtype=dtype)
    exact = aiter.get_rope(DIM, DIM, ROWS, BASE)
    assert_equal(rope.cos_cache.numpy(), exact.cos_cache.numpy().astype(dtype_of(dtype)))


def turned(x, cos, sin, positions, neox=True):
    """The heads x (tokens, heads, size) by a float64 table."""
    c, s = cos[positions][:, None], sin[positions][:, None]
    half = c.shape[-1]
    x = x.astype(np.float64)
    y = x.copy()
    i, j = (
        (slice(half), slice(half, 2 * half))
        if neox
        else (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
    )
    y[..., i] = x[..., i] * c - x[..., j] * s
    y[..., j] = x[..., j] * c + x[..., i] * s
    return y


def data(tokens=5, heads=(3, 1), size=24):
    rng = np.random.default_rng(0)
    q, k = (rng.standard_normal((tokens, h, size)).astype(np.float32) for h in heads)
    return rng.integers(0, 16, tokens), q, k


@pytest.mark.parametrize("neox", [True, False])
@pytest.mark.parametrize("flat", [True, False])
def test_call(neox, flat):
    rope = aiter.get_rope(24, DIM, ROWS, BASE, neox)
    positions, q, k = data()
    want = [turned(x, *table(ROWS, speed), positions, neox) for x in (q, k)]
    tensors = [x.reshape(5, -1) if flat else x for x in (q, k)]
    for got, w in zip(rope(positions, *tensors), want, strict=True):
        np.testing.assert_allclose(got.reshape(w.shape), w, atol=1e-5)
    np.testing.assert_allclose(rope(positions, tensors[0]).reshape(q.shape), want[0], atol=1e-5)
    # Batch and sequence; in place.
    batch = [x.reshape(1, 5, *x.shape[1:]) for x in tensors]
    result = rope(positions[None], *batch, out=tuple(batch))
    assert result[0] is batch[0]
    np.testing.assert_allclose(tensors[1].reshape(k.shape), want[1], atol=1e-5)


def test_offsets_choose_the_scaling():
    rope = aiter.LinearScalingRotaryEmbedding(24, DIM, 16, BASE, True, [1.0, 2.0, 4.0])
    assert rope.scaling_factor_to_offset == {1.0: 0, 2.0: 16, 4.0: 48}
    positions, q, k = data()
    offsets = np.array([0, 16, 48, 16, 0])
    got, _ = rope(positions, q, k, offsets)
    factors = np.array([1, 2, 4, 2, 1])
    for t in range(5):
        one = table(ROWS, speed, position=lambda p, f=factors[t]: p / f)
        want = turned(q[t : t + 1], *one, positions[t : t + 1])
        np.testing.assert_allclose(got[t : t + 1], want, atol=1e-5)


def test_long_contexts():
    rope = aiter.get_rope(DIM, DIM, ROWS, BASE, True, LONG)
    positions, q, k = data(size=DIM)
    cos, sin = long_tables()
    np.testing.assert_allclose(rope(positions, q, k)[0], turned(q, cos, sin, positions), atol=1e-5)
    positions[2] = 17  # longer than the short tables: all tokens turn by the long ones
    want = turned(q, cos[16:], sin[16:], positions)
    np.testing.assert_allclose(rope(positions, q, k)[0], want, atol=1e-5)
    assert_equal(rope(positions, q, long=True), rope(positions, q))
    assert_equal(rope(aiter.asarray(positions), q), rope(positions, q))


def test_sections():
    scaling = {"rope_type": "default", "mrope_section": [2, 3, 3]}
    rope = aiter.get_rope(24, DIM, ROWS, BASE, True, scaling)
    positions, q, k = data()
    np.testing.assert_allclose(
        rope(positions, q, k)[1], turned(k, *table(ROWS, speed), positions), atol=1e-5
    )
    three = np.random.default_rng(2).integers(0, ROWS, (3, 5))
    cos, sin = table(ROWS, speed)
    by = {
        False: [0, 0, 1, 1, 1, 2, 2, 2],
        True: [0, 1, 2, 0, 1, 2, 0, 1],  # H until 3 * 3, W until 3 * 3; the last pair is H's
    }
    for woven in by:
        rope = aiter.get_rope(24, DIM, ROWS, BASE, True, scaling | {"mrope_interleaved": woven})
        rows = three[by[woven]].T
        c, s = (t[rows, np.arange(8)] for t in (cos, sin))
        want = turned(q, c, s, np.arange(5))
        np.testing.assert_allclose(rope(three, q, k)[0], want, atol=1e-5)
    with pytest.raises(ValueError, match="offsets are given"):
        rope(three, q, k, three)
    with pytest.raises(ValueError, match="expected mrope_section"):
        aiter.MRotaryEmbedding(24, DIM, ROWS, BASE)(three, q, k)


def test_dual_chunk():
    config = {"chunk_size": 12, "local_size": 4, "sparse_attention_config": {}}
    rope = aiter.get_rope(24, DIM, ROWS, BASE, dual_chunk_attention_config=config)
    positions, q, k = data()
    positions[0] = 40
    query, key = rope(positions, q.reshape(5, -1), k.reshape(5, -1))
    rows = [
        positions % 8,
        np.minimum(positions % 8 + 8, 12),
        np.full(5, 12),
        positions % 8 + 8,
        positions % 8 + 12,
    ]
    tables = table(ROWS, speed)
    want = [turned(q, *tables, r).reshape(5, -1) for r in rows]
    np.testing.assert_allclose(query, np.concatenate(want, -1), atol=1e-5)
    np.testing.assert_allclose(key, turned(k, *tables, positions % 8).reshape(5, -1), atol=1e-5)


def test_the_same_object_for_the_same_arguments():
    one = aiter.get_rope(DIM, DIM, ROWS, BASE, True, dict(LLAMA3))
    assert aiter.get_rope(DIM, DIM, ROWS, BASE, True, dict(LLAMA3)) is one
    assert aiter.get_rope(DIM, DIM, ROWS, BASE, True, LLAMA3 | {"factor": 4.0}) is not one
    half = aiter.get_rope(DIM, DIM, ROWS, BASE, partial_rotary_factor=0.5)
    assert half.rotary_dim == 8 and "rotary_dim=8" in repr(half)


def test_bad_scaling():
    with pytest.raises(ValueError, match="rope_type is 'spline'"):
        aiter.get_rope(DIM, DIM, ROWS, BASE, True, {"rope_type": "spline"})
    with pytest.raises(KeyError, match="low_freq_factor"):
        aiter.get_rope(DIM, DIM, ROWS, BASE, True, {"rope_type": "llama3", "factor": 8.0})
    with pytest.raises(ValueError, match="long_factor has 2 numbers, expected rotary_dim / 2 = 8"):
        aiter.get_rope(DIM, DIM, ROWS, BASE, True, LONG | {"long_factor": [1.0, 2.0]})
    with pytest.raises(ValueError, match="mrope_section is"):
        aiter.MRotaryEmbedding(DIM, DIM, ROWS, BASE, mrope_section=[1, 2, 3])


def test_other_kinds():
    torch = pytest.importorskip("torch")
    rope = aiter.get_rope(DIM, DIM, ROWS, BASE, dtype=torch.bfloat16)
    assert str(torch.from_dlpack(rope.cos_cache).dtype) == "torch.bfloat16"
    positions, q, k = data(size=DIM)
    tensors = [torch.from_numpy(x).bfloat16() for x in (q, k)]
    got = rope(torch.from_numpy(positions), *tensors)[0]
    want = rope(positions, tensors[0].float().numpy(), k)[0]
    assert_close(got.float().numpy().astype(dtype_of("bf16")), want, scale=np.abs(want) + 1e-3)
    dual = aiter.get_rope(
        DIM, DIM, ROWS, BASE, dual_chunk_attention_config={"chunk_size": 12, "local_size": 4}
    )
    query, _ = dual(torch.from_numpy(positions), *(x.reshape(5, -1) for x in tensors))
    assert query.shape == (5, 5 * 3 * DIM)


@pytest.mark.parametrize(
    "device", sorted({v[1] for v in variants("rotary_embedding") if ":" in v[1]})
)
def test_tables_follow_the_query(device):
    rope = aiter.get_rope(DIM, DIM, ROWS, BASE)
    positions, q, k = data(size=DIM)
    moved = [aiter.to_device(aiter.asarray(x), device) for x in (positions, q, k)]
    got = rope(*moved)
    for g, w in zip(got, rope(positions, q, k), strict=True):
        np.testing.assert_allclose(aiter.to_device(g, "cpu").numpy(), w, atol=1e-6)
