"""Problems, data and reference of random_sample, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

DTYPES = ("bf16", "fp16", "fp32")


def _case(tag, batch=6, vocab=1000, dtype="fp32", values="normal", **options):
    return Case(tag, batch=batch, vocab=vocab, dtype=dtype, values=values, **options)


CASES = [
    *(_case("smoke", dtype=d, **o) for d in DTYPES
      for o in ({}, {"temperature": 0.3}, {"temperature": 5.0}, {"lambd": 4.0, "eps": 0.01})),
    *(_case("edge", vocab=v) for v in (1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 129, 257)),
    *(_case("edge", values="special", dtype=d, temperature=t) for d in DTYPES for t in (1.0, 0.0)),
    *(_case("edge", values="ties", temperature=t) for t in (1.0, 0.0, 1e-9, 1e-5, 1e30)),
    *(_case("edge", values=v, temperature=t) for v in ("huge", "masked") for t in (1.0, 1e-5)),
    _case("edge", batch=0),
    *(_case("model", batch=b, vocab=151936, dtype=d, values="peaked", place="cpu")
      for b in (1, 2) for d in DTYPES),
    *(_case("perf", batch=b, vocab=v, dtype="bf16", values=s) for v in (49152, 151936)
      for b in (1, 64) for s in ("normal", "peaked")),
]  # fmt: skip


def make(case, seed=0):
    """Logits of a case as a NumPy array."""
    rng = np.random.default_rng(seed)
    shape = case.batch, case.vocab
    x = 2 * rng.standard_normal(shape)
    if case.values == "ties":
        x = rng.integers(0, 3, shape).astype(np.float64)
    elif case.values == "huge":
        x *= 1e37
    elif case.values == "masked":
        x[:, : case.vocab * 9 // 10] = -np.inf
    elif case.values == "peaked":
        x = rng.permuted(np.broadcast_to(-2 * np.log1p(np.arange(case.vocab)), shape), axis=1)
    elif case.values == "special":
        x[0, ::3] = np.nan
        x[1] = np.nan
        x[2] = -np.inf
        x[3, [7, 500]] = np.inf
        x[4] = -np.inf
        x[4, 600] = -50
        x[5, 0] = np.nan
    return x.astype(dtype_of(case.dtype))


def options(case):
    return {name: case[name] for name in ("lambd", "eps") if name in case}


def noise(case, seed, offset):
    """The noise of all rows, in the float32 of the library (bit for bit: test_exponential)."""
    import aiter

    out = np.empty((case.batch, case.vocab), np.float32)
    return aiter.exponential(out, case.get("lambd", 1.0), eps=0.0, seed=seed, offset=offset)


def reference(logits, noise, temperature=1.0, eps=1e-10):
    """Tokens by float64, in logarithms: softmax(x / t) / noise is largest where these are."""
    tokens = []
    eps = np.float64(np.float32(eps))
    for x, q, t in zip(logits.astype(np.float64), noise.astype(np.float64),
                       np.broadcast_to(np.float32(temperature), len(logits)), strict=True):  # fmt: skip
        t = np.float64(t)
        with np.errstate(all="ignore"):
            score = x if t == 0 else x / max(t, np.float64(np.float32(1e-5))) - np.log(q + eps)
        there = np.flatnonzero(~np.isnan(score))
        tokens.append(there[np.argmax(score[there])] if there.size else -1)
    return np.array(tokens, np.int32)
