"""top_k_top_p_sampling: every row on every case, for every instruction set, bit for bit against a
NumPy model of the contract, whose distribution is in turn compared with float64."""

import aiter
import cases_top_k_top_p_sampling as cases
import numpy as np
import pytest
from aiter.testing import assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
FUNCTIONS = {
    "logits": aiter.top_k_top_p_sampling_from_logits,
    "probs": aiter.top_k_top_p_sampling_from_probs,
}
ROWS = variants("top_k_top_p_sampling")


@pytest.fixture(params=ROWS, ids="-".join)
def row(request):
    with using("top_k_top_p_sampling", *request.param):
        yield


_wanted = {}


def wanted(case, x, seed, offset):
    """Tokens by the NumPy model; kept, as every row of the operator asks for the same."""
    key = str(case)
    if key not in _wanted:
        tokens = [
            cases.token(r, case.kind, seed, offset, n, **cases.options(case))
            for n, r in enumerate(x)
        ]
        _wanted[key] = np.array(tokens, np.int32)
    return _wanted[key]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bit_for_bit(case, row):
    x = cases.make(case)
    seed, offset = 0x0123456789ABCDEF, 0xFEDCBA9876543210
    got = FUNCTIONS[case.kind](x, seed=seed, offset=offset, **cases.options(case))
    assert_equal(got, wanted(case, x, seed, offset))


@pytest.mark.parametrize("filters", [*cases.FILTERS, {"top_k": 3000}], ids=str)
@pytest.mark.parametrize("batch, vocab, dtype", [(1, 151936, "fp32"), (40, 8200, "bf16")])
@pytest.mark.parametrize("row", [r for r in ROWS if "cuda" in r[1]] or [None])
def test_rows_that_blocks_share(row, batch, vocab, dtype, filters):
    if row is None:
        pytest.skip("for NVIDIA GPUs")
    for kind in cases.KINDS:
        case = cases._case("", kind=kind, batch=batch, vocab=vocab, dtype=dtype, **filters)
        x = cases.make(case)
        with using("top_k_top_p_sampling", *row):
            got = FUNCTIONS[kind](x, seed=5, offset=2, **cases.options(case))
        assert_equal(got, wanted(case, x, 5, 2))


def test_philox_known_answers():
    """Random123's known answers for philox4x32-10."""
    known = [
        (0, [0] * 4, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (2**64 - 1, [2**32 - 1] * 4, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (0x299F31D0A4093822, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
         "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]  # fmt: skip
    for key, counter, answer in known:
        assert " ".join(f"{w:08x}" for w in cases.philox(key, counter)) == answer


def test_the_stream_is_philox(row):
    """Of 65536 equal tokens, the token drawn is the top 16 bits of the number."""
    x = np.zeros((40, 65536), np.float32)
    got = aiter.top_k_top_p_sampling_from_logits(x, seed=2**64 - 3, offset=2**63 + 5)
    want = [next(cases.numbers(2**64 - 3, 2**63 + 5, n)) >> 48 for n in range(40)]
    assert_equal(got, np.array(want, np.int32))


# The 1 - 1e-6 quantile of chi-square by Wilson and Hilferty; seeds are fixed, so that a test that
# passes goes on passing.
def chi_square_limit(freedom):
    return freedom * (1 - 2 / (9 * freedom) + 4.7534 * np.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.parametrize("kind", cases.KINDS)
@pytest.mark.parametrize("filters", cases.FILTERS, ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies(kind, filters, temperature):
    """Membership in the kept set, and frequencies within it, over 40000 draws of one row."""
    case = cases._case("", kind=kind, batch=1, vocab=60, temperature=temperature, **filters)
    options = cases.options(case)
    if kind == "probs":
        del options["temperature"]
    x = cases.make(case, seed=5)
    draws = 40000
    got = FUNCTIONS[kind](x, indices=np.zeros(draws, np.int32), seed=11, **options)
    counts = np.bincount(got, minlength=case.vocab)
    p = cases.distribution(x[0], kind, **options)
    assert counts[p == 0].sum() == 0
    assert statistic(counts, p * draws) < chi_square_limit(max(1, (p > 0).sum() - 1))


def statistic(counts, expected):
    rare = (expected > 0) & (expected < 5)  # taken together
    common = expected >= 5
    pairs = [*zip(counts[common], expected[common], strict=True)]
    if expected[rare].sum() > 0:
        pairs.append((counts[rare].sum(), expected[rare].sum()))
    return sum((c - e) ** 2 / e for c, e in pairs)


def test_the_test_of_frequencies_would_notice():
    """Negative control: 5 % too much of the likeliest token."""
    case = cases._case("", batch=1, vocab=60)
    x = cases.make(case, seed=5)
    got = aiter.top_k_top_p_sampling_from_logits(x, indices=np.zeros(40000, np.int32), seed=11)
    p = cases.distribution(x[0], "logits")
    p[p.argmax()] *= 1.2
    assert statistic(np.bincount(got, minlength=60), p / p.sum() * 40000) > chi_square_limit(59)


def test_all_rows_of_a_big_vocabulary_are_kept_tokens(row):
    """Membership at a language model's size, every row with thresholds of its own."""
    case = cases._case("", batch=6, vocab=8192, values="peaked", dtype="bf16")
    x = cases.make(case)
    top_k = np.array([1, 3, 0, 40, 4000, 100], np.int32)
    top_p = np.array([1, 0.5, 0.2, 0.9, 0.99, 1], np.float32)
    got = aiter.top_k_top_p_sampling_from_logits(x, top_k, top_p, seed=3)
    for r in range(6):
        assert cases.distribution(x[r], "logits", int(top_k[r]), float(top_p[r]))[got[r]] > 0


def test_options_of_each_row(row):
    """Arrays of options give what the numbers give, row by row."""
    case = cases._case("", batch=8)
    x = cases.make(case)
    arrays = {
        "top_k": np.array([0, 1, 5, 20, 999, 1000, 5000, -1]),
        "top_p": np.array([1, 0.9, 0.5, 0.1, 0, 0.3, 0.8, 0.99], np.float32),
        "min_p": np.array([0, 0, 0.1, 0.2, 0, 0, 0.01, 1], np.float32),
        "temperature": np.array([1, 0, 0.5, 2, 1, 0.7, 3, 1], np.float32),
        "seed": np.array([7, 2**62, -1, 0, 1, 2, 3, 4]),
        "offset": np.array([0, 1, 2, 2**40, 4, 5, 6, 7], np.int64),
    }
    got = aiter.top_k_top_p_sampling_from_logits(x, **arrays)
    for b in range(8):
        own = {name: values[b : b + 1] for name, values in arrays.items()}
        assert aiter.top_k_top_p_sampling_from_logits(x[b : b + 1], **own)[0] == got[b]
        numbers = {name: values[b].item() for name, values in arrays.items() if name != "seed"}
        want = cases.token(
            x[b], "logits", int(arrays["seed"][b]), numbers.pop("offset"), 0, **numbers
        )
        assert want == got[b]


def test_batch_invariance(row):
    """A row with its own seed gets its token wherever it stands, and whoever shares the batch."""
    case = cases._case("", batch=12, top_p=0.9)
    x = cases.make(case)
    seeds = np.arange(100, 112)
    want = aiter.top_k_top_p_sampling_from_logits(x, 0, 0.9, seed=seeds, offset=4)
    for order in (np.arange(12)[::-1], np.array([5, 5, 2]), np.array([7])):
        got = aiter.top_k_top_p_sampling_from_logits(x[order], 0, 0.9, seed=seeds[order], offset=4)
        assert_equal(got, want[order])
        got = aiter.top_k_top_p_sampling_from_logits(
            x, 0, 0.9, seed=seeds[order], offset=4, indices=order.copy()
        )
        assert_equal(got, want[order])


def test_threads_agree():
    x = cases.make(cases._case("", batch=64, vocab=5000))
    with using(threads=1):
        one = aiter.top_k_top_p_sampling_from_logits(x, 40, 0.9, seed=1)
    with using(threads=3):
        assert_equal(aiter.top_k_top_p_sampling_from_logits(x, 40, 0.9, seed=1), one)


def test_a_vocabulary_of_more_than_the_blocks():
    """Past 64 * 8192 tokens the blocks grow."""
    x = np.zeros((2, 700_001), np.float16)
    x[0, -1], x[1, 600_000] = 30, 30
    assert_equal(
        aiter.top_k_top_p_sampling_from_logits(x, 0, 0.9), np.array([700_000, 600_000], np.int32)
    )
    got = aiter.top_k_top_p_sampling_from_logits(np.zeros_like(x), seed=9)
    want = [(next(cases.numbers(9, 0, n)) * 700_001 * 2**28 >> 64) >> 28 for n in range(2)]
    assert_equal(got, np.array(want, np.int32))


def test_every_option_matters():
    x = np.repeat(cases.make(cases._case("", batch=1)), 500, axis=0)
    base = {"top_k": 50, "top_p": 0.8, "temperature": 1.0, "min_p": 0.0, "seed": 1, "offset": 0}
    changed = {"top_k": 5, "top_p": 0.3, "temperature": 3.0, "min_p": 0.5, "seed": 2, "offset": 1}
    want = aiter.top_k_top_p_sampling_from_logits(x, **base)
    for name, value in {
        **changed,
        "filter_apply_order": "joint",
        "indices": np.arange(500)[::-1].copy(),
    }.items():
        got = aiter.top_k_top_p_sampling_from_logits(x, **base | {name: value})
        assert (got != want).any() or name == "indices", name


def test_out_and_aliases():
    x = cases.make(cases._case("", kind="probs", batch=4))
    out = np.zeros(4, np.int64)
    assert aiter.top_p_sampling_from_probs(x, None, 0.8, seed=3, out=out) is out
    assert_equal(out, aiter.top_k_top_p_sampling_from_probs(x, top_p=0.8, seed=3).astype(np.int64))


F = np.float32


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"logits": np.ones((2, 0), F)}, "input has vocab 0"),
        ({"logits": np.ones((2, 8))}, "input has dtype float64"),
        ({"logits": np.ones((2, 8), F)[:, ::2]}, "input has last stride 2, expected 1"),
        ({"logits": np.ones((3, 8), F)}, r"out has shape \(2,\), expected \(3,\)"),
        ({"indices": np.array([0, 2])}, "indices has 2 at flat index 1, expected less than 2"),
        ({"indices": np.array([0, -1])}, "indices has -1 at flat index 1, expected at least 0"),
        ({"temperature": -1.0}, "opts.temperature is -1, expected 0 to"),
        ({"temperature": float("inf")}, "opts.temperature is inf"),
        (
            {"temperature": np.array([1, np.nan], F)},
            "temperature has nan at flat index 1, expected 0 to",
        ),
        ({"temperature": np.ones(2)}, "temperature has dtype float64, expected float32"),
        ({"top_p": 1.5}, "opts.top_p is 1.5, expected 0 to 1"),
        ({"top_p": float("nan")}, "opts.top_p is nan"),
        ({"top_p": np.array([0.5, 2], F)}, "top_p has 2 at flat index 1, expected 0 to 1"),
        ({"min_p": np.ones(3, F)}, r"min_p has shape \(3,\), expected \(2,\)"),
        ({"top_k": np.ones(2, F)}, "top_k has dtype float32, expected int32 or int64"),
        ({"seed": np.ones((2, 1), np.int64)}, r"seed has shape \(2, 1\), expected \(2,\)"),
    ],
)
def test_bad_input(arguments, message):
    out = np.full(2, 7, np.int32)
    with pytest.raises(ValueError, match="top_k_top_p_sampling: " + message):
        aiter.top_k_top_p_sampling_from_logits(
            **{"logits": np.ones((2, 8), F), "out": out} | arguments
        )
    assert (out == 7).all()


def test_bad_order():
    with pytest.raises(ValueError, match="filter_apply_order is 'both'"):
        aiter.top_k_top_p_sampling_from_logits(np.ones((2, 8), F), filter_apply_order="both")
