"""random_sample and its kin: every row on every case against float64, exactly; the distribution."""

import aiter
import cases_random_sample as cases
import numpy as np
import pytest
from aiter.testing import assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
SEED, OFFSET = 0x0123456789ABCDEF, 0xFEDCBA9876543210
F = np.float32


@pytest.fixture(params=variants("random_sample"), ids="-".join)
def row(request):
    with using("random_sample", *request.param):
        yield request.param


@pytest.mark.parametrize("case", CASES, ids=str)
def test_random_sample(case, row):
    if ":" in row[1] and case.get("place") == "cpu":
        pytest.skip("for the emulator")
    x = cases.make(case)
    t = case.get("temperature", 1.0)
    options = cases.options(case)
    noise = cases.noise(case, SEED, OFFSET)
    want = cases.reference(x, noise, t, options.get("eps", 1e-10))
    got = aiter.random_sample(x, t, seed=SEED, offset=OFFSET, **options)
    assert_equal(got, want)
    options.pop("lambd", None)
    assert_equal(aiter.random_sample_outer_exponential(x, noise, t, **options), want)


def test_scores_that_floats_cannot_tell_apart(row):
    """Two scores a few parts in 1e9 apart, in either order, far from and next to each other."""
    rng = np.random.default_rng(2)
    batch, vocab = 40, 700
    x = np.full((batch, vocab), -9, F)
    noise = np.ones((batch, vocab), F)
    for b in range(batch):
        i, j = rng.choice(vocab, 2, replace=False) if b % 2 else (5, 6)
        x[b, i], noise[b, i] = 3, 1
        # exp(3) / 1 against exp(y) / q, with q rounded: nearly the same, at random larger or not.
        x[b, j] = F(3 + rng.random())
        noise[b, j] = F(np.exp(np.float64(x[b, j]) - 3))
    want = cases.reference(x, noise, 1.0)
    assert len(set((x[range(batch), want] == 3).tolist())) == 2  # both happen
    assert_equal(aiter.random_sample_outer_exponential(x, noise), want)


def test_equal_scores(row):
    x, noise = np.zeros((2, 500), F), np.ones((2, 500), F)
    noise[1, [400, 77, 300]] = 0.25
    assert_equal(aiter.random_sample_outer_exponential(x, noise), np.array([0, 77], np.int32))


def test_strange_noise(row):
    """Zero, denormal, negative, infinite and missing noise."""
    x = np.zeros((6, 300), F)
    x[:, 7] = 1
    noise = np.ones((6, 300), F)
    noise[0, 100] = 0
    noise[1, 100] = 1e-42
    noise[2, 100] = -1
    noise[3, 7] = np.inf
    noise[4, 7] = np.nan
    noise[5] = np.nan
    for eps in (0.0, 1e-10):
        want = cases.reference(x, noise, 1.0, eps)
        assert_equal(want, np.array([100, 100, 7, 0, 0, -1], np.int32))
        assert_equal(aiter.random_sample_outer_exponential(x, noise, eps=eps), want)


def test_mixed_temperatures(row):
    case = cases._case("", batch=5, vocab=300)
    x = cases.make(case)
    t = np.array([0, 1, 0.5, 0, 3], F)
    got = aiter.mixed_sample(x, t, seed=3)
    assert_equal(got, cases.reference(x, cases.noise(case, 3, 0), t))
    assert_equal(got[[0, 3]], aiter.greedy_sample(x[[0, 3]]))
    noise = np.random.default_rng(3).exponential(size=(1, 300)).astype(F)
    shared = np.broadcast_to(noise, (5, 300))
    got = aiter.mixed_sample_outer_exponential(x, shared, t)
    assert_equal(got, cases.reference(x, shared, t))


def test_batch_invariance(row):
    case = cases._case("", batch=7)
    x = cases.make(case)
    seeds = np.arange(100, 107)
    want = aiter.random_sample(x, seed=seeds, offset=4)
    for order in (np.arange(7)[::-1], np.array([5, 5, 2]), np.array([6])):
        got = aiter.random_sample(x[order], seed=seeds[order].copy(), offset=4)
        assert_equal(got, want[order])


def test_threads_agree():
    x = cases.make(cases._case("", batch=32, vocab=5000))
    with using(threads=1):
        one = aiter.random_sample(x, seed=1)
    with using(threads=3):
        assert_equal(aiter.random_sample(x, seed=1), one)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies(temperature):
    """Chi-square over 40000 draws of one row, at its 1 - 1e-6 quantile."""
    x = cases.make(cases._case("", batch=1, vocab=40), seed=5)
    draws = 40000
    got = aiter.random_sample(np.broadcast_to(x, (draws, 40)), temperature, seed=11)
    counts = np.bincount(got, minlength=40)
    p = np.exp((x[0].astype(np.float64) - x.max()) / temperature)
    p /= p.sum()
    assert statistic(counts, p * draws) < 105  # of 39 degrees of freedom or less
    p[p.argmax()] *= 1.1  # negative control
    assert statistic(counts, p / p.sum() * draws) > 105


def statistic(counts, expected):
    rare = expected < 5
    found = ((counts - expected)[~rare] ** 2 / expected[~rare]).sum()
    if rare.any():
        found += (counts[rare].sum() - expected[rare].sum()) ** 2 / expected[rare].sum()
    return found


def test_every_option_matters():
    x = np.repeat(cases.make(cases._case("", batch=1)), 300, axis=0)
    base = {"temperatures": 1.0, "lambd": 1.0, "eps": 0.0, "seed": 1, "offset": 0}
    want = aiter.random_sample(x, **base)
    changed = {"temperatures": 0.3, "eps": 0.01, "seed": 2, "offset": 1}
    for name, value in changed.items():
        assert (aiter.random_sample(x, **base | {name: value}) != want).any(), name
    # The rate cancels out but for eps.
    assert_equal(aiter.random_sample(x, **base | {"lambd": 2.0}), want)
    got = aiter.random_sample(x, **base | {"lambd": 1000.0, "eps": 0.01})
    assert (got != aiter.random_sample(x, **base | {"eps": 0.01})).any()


def test_out():
    x = cases.make(cases._case("", batch=4))
    out = np.full((4, 2), 7, np.int64)
    aiter.random_sample(x, seed=3, out=out[:, 0])
    assert_equal(out[:, 0], aiter.random_sample(x, seed=3).astype(np.int64))
    assert (out[:, 1] == 7).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"logits": np.ones((2, 0), F)}, "logits has vocab 0"),
        ({"logits": np.ones((2, 8))}, "logits has dtype float64"),
        ({"logits": np.ones((2, 16), F)[:, ::2]}, "logits has last stride 2"),
        ({"logits": np.ones((3, 8), F)}, r"exponentials has shape \(2, 8\), expected logits's"),
        ({"exponentials": np.ones((2, 8), np.float16)}, "exponentials has dtype float16"),
        ({"temperatures": -1.0}, "opts.temperature is -1"),
        ({"temperatures": np.array([1, np.nan], F)}, "temperature has nan at flat index 1"),
        ({"eps": 2.0}, "opts.eps is 2, expected 0 to 1"),
        ({"out": np.zeros(2, F)}, "out has dtype float32"),
    ],
)
def test_bad_input(arguments, message):
    out = np.full(2, 7, np.int32)
    good = {"logits": np.ones((2, 8), F), "exponentials": np.ones((2, 8), F), "out": out}
    with pytest.raises(ValueError, match="random_sample: " + message):
        aiter.random_sample_outer_exponential(**good | arguments)
    assert (out == 7).all()
