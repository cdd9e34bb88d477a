"""Problems, data and references of top_k_top_p_sampling, for its test and its bench."""

import numpy as np
from aiter.testing import Case, dtype_of

DTYPES = ("bf16", "fp16", "fp32")
FILTERS = (
    {},
    {"top_k": 1},
    {"top_k": 5},
    {"top_p": 0.0},
    {"top_p": 0.3},
    {"top_p": 0.9},
    {"min_p": 0.1},
    {"top_k": 20, "top_p": 0.7},
    {"top_k": 20, "top_p": 0.7, "order": "joint"},
    {"top_k": 50, "top_p": 0.95, "min_p": 0.02},
)
KINDS = ("logits", "probs")


def _case(tag, kind="logits", batch=16, vocab=1000, dtype="fp32", values="normal", **filters):
    return Case(tag, kind=kind, batch=batch, vocab=vocab, dtype=dtype, values=values, **filters)


CASES = [
    *(_case("smoke", kind=k, dtype=d, **f) for k in KINDS for d in DTYPES for f in FILTERS),
    *(_case("edge", vocab=v, top_k=7, top_p=0.8) for v in (1, 2, 15, 16, 17, 63, 64, 65, 129, 4097)),
    # top_k around the number of blocks of 64, and past the vocabulary.
    *(_case("edge", vocab=1000, top_k=k) for k in (15, 16, 17, 200, 999, 1000, 1001, -1)),
    *(_case("edge", values="ties", kind=k, **f) for k in KINDS for f in FILTERS),
    *(_case("edge", values="special", kind=k, **f) for k in KINDS for f in FILTERS),
    *(_case("edge", temperature=t, **f) for t in (0.0, 1e-39, 0.3, 2.5, 1e30) for f in FILTERS),
    _case("edge", batch=0),
    *(_case("model", batch=b, vocab=v, values="peaked", dtype="bf16", top_k=50, top_p=0.9)
      for b, v in ((4, 49152), (4, 151936), (1, 151936))),
    *(_case("perf", batch=b, vocab=v, values=s, **f)
      for v in (49152, 151936) for b in (1, 64) for s in ("normal", "peaked")
      for f in ({}, {"top_k": 50}, {"top_p": 0.9}, {"top_k": 50, "top_p": 0.9})),
]  # fmt: skip


def make(case, seed=0):
    """Logits or probabilities of a case as a NumPy array."""
    rng = np.random.default_rng(seed)
    shape = case.batch, case.vocab
    x = rng.standard_normal(shape)
    if case.values == "ties":
        x = rng.integers(0, 4, shape).astype(np.float64)
    elif case.values == "peaked":  # as a language model's: a few tokens have nearly all the mass
        x = (
            x * 2
            - 8 * np.log1p(rng.permuted(np.broadcast_to(np.arange(case.vocab), shape), axis=1)) / 4
        )
    if case.kind == "probs":
        x = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
        x /= x.sum(axis=-1, keepdims=True)
    x = x.astype(np.float32)
    if case.values == "special":
        x[0, 10:20] = np.nan
        x[1, :990] = -np.inf
        x[2, 5] = np.inf
        x[3] = np.nan
        x[4] = -np.inf
        x[5] = 0
        x[6, ::3] = -1e30
        x[7] = -1
        x[8] *= 1e-36
        x[9] *= 1e-44
    return x.astype(dtype_of(case.dtype))


def options(case):
    """Keyword arguments of the Python function."""
    found = {
        name: case[name] for name in ("top_k", "top_p", "min_p", "temperature") if name in case
    }
    return found | ({"filter_apply_order": case.order} if "order" in case else {})


# ---- the contract in float64: which tokens are kept, and with what probability -----------------------


def distribution(
    row, kind, top_k=0, top_p=1.0, min_p=0.0, temperature=1.0, filter_apply_order=None
):
    """Probability of each token of a row with finite logits or ordinary probabilities."""
    row = row.astype(np.float64)
    if kind == "logits":
        if temperature == 0:
            w = np.arange(row.size) == np.argmax(row)
            return w.astype(np.float64)
        w = np.exp((row - row.max()) / temperature)
    else:
        w = row / row.max()
    order = filter_apply_order or ("top_k_first" if kind == "logits" else "joint")
    w = np.where(w >= min_p, w, 0)
    exceeding = np.array([(row > v).sum() for v in row])
    before = w.sum()
    if top_k > 0:
        w = np.where(exceeding < top_k, w, 0)
    if top_p < 1:
        share = top_p * (w.sum() if order == "top_k_first" else before)
        mass_above = np.array([w[row > v].sum() for v in row])
        w = np.where((mass_above < share) | (exceeding == 0), w, 0)
    return w / w.sum()


# ---- the same bit for bit: Philox and integer weights ------------------------------------------------


def philox(key, counter):
    """Philox 4x32-10 of a 64-bit key and four 32-bit counter words: four words."""
    c, (k0, k1) = list(counter), (key & 0xFFFFFFFF, key >> 32)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k0, b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k1, a & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def numbers(seed, offset, n):
    """The 64-bit numbers of a draw."""
    i = 0
    while True:
        words = philox(seed % 2**64, [offset & 0xFFFFFFFF, (offset >> 32) & 0xFFFFFFFF, n, i])
        yield words[0] | words[1] << 32
        yield words[2] | words[3] << 32
        i += 1


def integer_weights(x, kind, min_p, temperature):
    """The weights in 2^-28 of the largest, or None where the row is decided greedily."""
    f = np.float32
    x = x.astype(f)
    largest = np.nanmax(x) if (~np.isnan(x)).any() else f(-np.inf)
    with np.errstate(all="ignore"):
        scale = f(1.44269504) / f(temperature)
    if not np.isfinite(largest) or not scale < np.inf or (kind == "probs" and largest <= 0):
        return None
    if kind == "logits":
        with np.errstate(over="ignore", invalid="ignore"):
            y = (x - largest) * scale
        y = np.where(y > f(-30), y, f(-30))
        n = np.rint(y)
        t = y - n
        p = np.full_like(t, 0.001326472731307149)
        for c in (
            0.009671512991189957,
            0.05550733581185341,
            0.24022242426872253,
            0.6931470036506653,
            1,
        ):
            p = p * t + f(c)
        q = (np.ldexp(p, n.astype(int) + 28) + f(0.5)).astype(np.int64)
        top = 2**28
    else:
        exponent = max(int(np.frexp(largest)[1]) - 1, 28 - 127)
        with np.errstate(invalid="ignore"):
            w = x * f(2.0 ** (27 - exponent))
        q = (np.where(w > 0, w, f(0)) + f(0.5)).astype(np.int64)
        top = int(q[np.nanargmax(x)])
    q = np.where(q >= np.ceil(float(f(min_p)) * top), q, 0)
    return q if q.any() else None


def greedy(row):
    row = row.astype(np.float64)
    there = np.flatnonzero(~np.isnan(row))
    return int(there[np.argmax(row[there])]) if there.size else -1


def token(
    x,
    kind,
    seed,
    offset,
    n,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    temperature=1.0,
    filter_apply_order=None,
):
    """The token of a row, bit for bit."""
    q = integer_weights(x, kind, min_p, temperature)
    if q is None:
        return greedy(x)
    x = x.astype(np.float64)
    order = filter_apply_order or ("top_k_first" if kind == "logits" else "joint")
    whole = int(q.sum())
    there = np.sort(x[~np.isnan(x)])
    kept = ~np.isnan(x)
    if 0 < top_k < there.size:
        kept &= x >= there[-top_k]
    mass = int(q[kept].sum())
    if mass == 0:
        return greedy(x)
    limit = None
    if top_p < 1:
        limit = max(
            1, int(np.ceil(float(np.float32(top_p)) * (mass if order == "top_k_first" else whole)))
        )
    for number in numbers(seed, offset, n):
        target = number * mass >> 64
        found = int(np.searchsorted(np.cumsum(np.where(kept, q, 0)), target, side="right"))
        if limit is None:
            return found
        kept &= x > x[found]
        mass = int(q[kept].sum())
        if mass < limit:
            return found
