"""exponential: every row on every case against float64; the same bits everywhere; the distribution."""

import aiter
import cases_exponential as cases
import numpy as np
import pytest
from aiter.testing import assert_close, assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
SEED, OFFSET = 0x0123456789ABCDEF, 0xFEDCBA9876543210


@pytest.fixture(params=variants("exponential"), ids="-".join)
def row(request):
    with using("exponential", *request.param):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_exponential(case, row):
    out = cases.make(case)
    assert aiter.exponential(out, seed=SEED, offset=OFFSET, **cases.options(case)) is out
    for r in range(case.rows):
        want = cases.reference(SEED, OFFSET, r, case.n, **cases.options(case))
        assert_close(out[r], want)


def test_the_same_bits_everywhere(row):
    """Bit for bit what NumPy makes of the same operations."""
    got = aiter.exponential(np.empty((2, 5000), np.float32), 2.0, seed=SEED)
    less, u = zip(*(cases.uniforms(SEED, 0, n, 5000) for n in range(2)), strict=True)
    want = model(np.array(less), np.array(u)) * np.float32(0.5) + np.float32(1e-10)
    assert_equal(got, want)


def model(less, u):
    """-log(u) with the operations of the contract's code, in float32."""
    f = np.float32
    upper = less > 0.5
    words = np.where(upper, u, less) * 2.0**32 - 0.5
    part = (words.astype(np.int64).astype(f) + f(0.5)) * f(2.0**-32)
    bits = part.view(np.int32)
    e = np.where(upper, (bits - 0x3F400000) >> 23, 0)
    d = np.where(upper, (bits - (e << 23)).astype(np.int32).view(f) - f(1), -part)
    s = d / (d + f(2))
    z = s * s
    p = z * f(1 / 13) + f(1 / 11)
    for i in (9, 7, 5, 3, 1):
        p = p * z + f(1 / i)
    n = (-e).astype(f)
    return n * f(0.693359375) - ((s + s) * p + n * f(2.12194440e-4))


def test_all_the_words_there_are():
    """Both ends of u, and the middle."""
    words = np.array([0, 1, 2, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.float64)
    less, u = (words + 0.5) * 2.0**-32, (2.0**32 - words - 0.5) * 2.0**-32
    want = np.where(less < 0.5, -np.log1p(-less), -np.log(u))
    assert_close(model(less, u), want)


def test_the_distribution():
    """Kolmogorov and Smirnov: the largest distance from 1 - exp(-lambd x), at 1 - 1e-6."""
    x = np.sort(aiter.exponential(np.empty(200_000, np.float32), 2.5, seed=4))
    distance = np.abs(1 - np.exp(-2.5 * x.astype(np.float64)) - (np.arange(x.size) + 0.5) / x.size)
    assert distance.max() < 2.69 / np.sqrt(x.size)


def test_seeds_of_each_row(row):
    seeds, offsets = np.array([7, -1, 2**62]), np.array([0, 3, 2**40])
    out = aiter.exponential(np.empty((3, 100), np.float32), seed=seeds, offset=offsets)
    for r in range(3):
        want = cases.reference(int(seeds[r]) % 2**64, int(offsets[r]), 0, 100)
        assert_close(out[r], want)


def test_strides(row):
    wide = np.full((4, 3, 50), 7, np.float32)
    view = wide[::2, 1:, 3:40]
    aiter.exponential(view, seed=SEED)
    for r in range(4):
        assert_close(view[r // 2, r % 2], cases.reference(SEED, 0, r, 37))
    view[:] = 7
    assert (wide == 7).all()


def test_every_option_matters():
    base = {"lambd": 1.0, "eps": 0.0, "seed": 1, "offset": 0}
    want = aiter.exponential(np.empty(40, np.float32), **base)
    for name, value in {"lambd": 2.0, "eps": 0.5, "seed": 2, "offset": 1}.items():
        got = aiter.exponential(np.empty(40, np.float32), **base | {name: value})
        assert (got != want).all(), name


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"out": np.zeros(4)}, "out has dtype float64"),
        ({"out": np.zeros((4, 8), np.float32)[:, ::2]}, "out has last stride 2"),
        ({"lambd": 0.0}, "opts.lambd is 0, expected"),
        ({"lambd": float("nan")}, "opts.lambd is nan"),
        ({"eps": -1.0}, "opts.eps is -1, expected 0 to 1"),
        ({"seed": np.zeros(3, np.int64)}, r"seed has shape \(3,\), expected \(2,\)"),
    ],
)
def test_bad_input(arguments, message):
    out = np.full((2, 4), 7, np.float32)
    with pytest.raises(ValueError, match="exponential: " + message):
        aiter.exponential(**{"out": out} | arguments)
    assert (out == 7).all()
