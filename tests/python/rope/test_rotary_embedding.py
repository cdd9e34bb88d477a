"""rotary_embedding_fwd: every row on every case, for every instruction set."""

import aiter
import cases_rotary_embedding as cases
import numpy as np
import pytest
from aiter.testing import assert_close, assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
ROWS = variants("rotary_embedding")


@pytest.fixture(params=ROWS, ids="-".join)
def row(request):
    with using("rotary_embedding", *request.param):
        yield


def run(case, positions, query, key, cos, sin, **options):
    size = case.head_size if case.get("flat") else 0
    return aiter.rotary_embedding_fwd(
        positions,
        query,
        key,
        size,
        cos,
        sin,
        case.style == "neox",
        case.get("nope_first", False),
        **options,
    )


def check(case, got, x, positions, cos, sin):
    nope_first = case.get("nope_first", False)
    want, scale = cases.reference(positions, x, case.head_size, cos, sin, case.style, nope_first)
    assert_close(got, want, terms=2, scale=scale)
    still = case.head_size - case.rotary
    if still:  # copied exactly
        part = slice(0, still) if nope_first else slice(-still, None)
        shape = (-1, case.head_size)
        assert_equal(got.reshape(shape)[:, part], x.reshape(shape)[:, part])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rotary_embedding(case, row):
    positions, query, key, cos, sin = cases.make(case)
    got = run(case, positions, query, key, cos, sin)
    for y, x in zip(got if key is not None else [got], (query, key), strict=False):
        check(case, y, x, positions, cos, sin)


@pytest.mark.parametrize("isa", [isa for row, isa in ROWS if row == "cpu_simd"])
def test_more_than_the_caches(isa):
    """An output that goes past the caches is what is computed in place."""
    case = cases._case("", tokens=2100, heads=(32, 8), head_size=128, dtype="bf16")
    positions, query, key, cos, sin = cases.make(case)
    with using("rotary_embedding", "cpu_simd", isa):
        got = run(case, positions, query, key, cos, sin)
        run(case, positions, query, key, cos, sin, out=(query, key))
    assert_equal(got[0], query)
    assert_equal(got[1], key)


@pytest.mark.parametrize("case", [c for c in CASES if c.tag == "edge"], ids=str)
def test_in_place(case, row):
    positions, query, key, cos, sin = cases.make(case)
    want = run(case, positions, query, key, cos, sin)
    if key is None:
        assert run(case, positions, query, None, cos, sin, out=query) is query
        assert_equal(query, want)
        return
    got = run(case, positions, query, key, cos, sin, out=(query, key))
    assert got[0] is query and got[1] is key
    assert_equal(query, want[0])
    assert_equal(key, want[1])


@pytest.mark.parametrize("style", cases.STYLES)
@pytest.mark.parametrize("flat", [False, True])
def test_fused_qkv_in_place(style, flat, row):
    """q and k are slices of one (tokens, (heads + 2 kv_heads) * head_size) tensor."""
    case = cases._case(
        "", heads=(4, 2), head_size=32, rotary=20, style=style, dtype="fp32", flat=flat
    )
    positions, *_, cos, sin = cases.make(case)
    fused = np.random.default_rng(1).standard_normal((5, 8 * 32)).astype(np.float32)
    before = fused.copy()
    if flat:
        query, key = fused[:, : 4 * 32], fused[:, 4 * 32 : 6 * 32]
    else:
        heads = fused.reshape(5, 8, 32)
        query, key = heads[:, :4], heads[:, 4:6]
    copies = query.copy(), key.copy()
    run(case, positions, query, key, cos, sin, out=(query, key))
    check(case, query, copies[0], positions, cos, sin)
    check(case, key, copies[1], positions, cos, sin)
    np.testing.assert_array_equal(fused[:, 6 * 32 :], before[:, 6 * 32 :])


def test_strided_positions_and_caches(row):
    case = cases.CASES[0]
    positions, query, key, cos, sin = cases.make(case)
    want = run(case, positions, query, key, cos, sin)
    both = np.concatenate([cos, sin], axis=-1)  # one cache, as vLLM keeps it
    half = cos.shape[-1]
    got = run(case, np.repeat(positions, 3)[::3], query, key, both[:, :half], both[:, half:])
    assert_equal(got[0], want[0])
    assert_equal(got[1], want[1])


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("style", cases.STYLES)
@pytest.mark.parametrize("shift", [0, 1])
def test_beyond_the_caches(style, dtype, shift):
    """Outputs that are written past the caches, aligned and not, give what small ones give."""
    case = cases._case(
        "", tokens=2200 if dtype == "fp32" else 4400, heads=(60, 4), style=style, dtype=dtype
    )
    positions, query, key, cos, sin = cases.make(case)
    memory = np.empty(query.size + shift, query.dtype)
    out = memory[shift:].reshape(query.shape)
    with using(threads=2):
        run(case, positions, query, key, cos, sin, out=(out, None))
    for part in (slice(0, 7), slice(-7, None)):
        small, _ = run(case, positions[part], query[part], key[part], cos, sin)
        assert_equal(out[part], small)


def test_every_option_matters():
    case = cases._case("", rotary=32, dtype="fp32")
    positions, query, key, cos, sin = cases.make(case)
    results = [
        aiter.rotary_embedding_fwd(positions, query, None, 0, cos, sin, neox, nope)
        for neox in (True, False)
        for nope in (True, False)
    ]
    for i, a in enumerate(results):
        assert all((a != b).any() for b in results[:i])


def test_the_bound_would_notice():
    """Negative control: positions off by one, and sin and cos swapped, must fail."""
    case = cases._case("", dtype="fp32")
    positions, query, key, cos, sin = cases.make(case)
    for wrong in (run(case, positions - 1, query, None, cos, sin),
                  run(case, positions, query, None, sin, cos)):  # fmt: skip
        with pytest.raises(AssertionError):
            check(case, wrong, query, positions, cos, sin)


GOOD = {
    "positions": np.zeros(3, np.int64),
    "query": np.ones((3, 2, 8), np.float32),
    "key": np.ones((3, 1, 8), np.float32),
    "head_size": 8,
    "cos_cache": np.ones((10, 4), np.float32),
    "sin_cache": np.zeros((10, 4), np.float32),
    "is_neox": True,
}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"positions": np.array([0, 10, 1])}, "positions has 10 at flat index 1, expected less than 10"),
        ({"positions": np.array([0, 1, -1], np.int32)}, "positions has -1 at flat index 2"),
        ({"positions": np.zeros(3, np.float32)}, "positions has dtype float32, expected int32 or int64"),
        ({"positions": np.zeros(4, np.int64)}, "query has extent 3 in dimension 0, expected positions' 4"),
        ({"query": np.ones((3, 2, 9), np.float32)}, "query has last extent 9, expected head_size = 8"),
        ({"query": np.ones((3, 20), np.float32)}, "query has last extent 20, expected a multiple of head_size = 8"),
        ({"query": np.ones((3, 16), np.float32), "head_size": 0}, r"query has rank 2, expected 3"),
        ({"key": np.ones((3, 1, 8), np.float16)}, "key has dtype float16, expected query's float32"),
        ({"query": np.ones((3, 2, 16), np.float32)[:, :, ::2]}, "query has last stride 2, expected 1"),
        ({"head_size": -1}, "opts.head_size is -1, expected at least 0"),
        ({"cos_cache": np.ones((10, 5), np.float32), "sin_cache": np.ones((10, 5), np.float32)}, "cos_cache has width 5, expected at most half of head_size = 8"),
        ({"cos_cache": np.ones((10, 4), np.int32)}, "cos_cache has dtype int32, expected float32, float16 or bfloat16"),
        ({"cos_cache": np.ones(10, np.float32)}, "cos_cache has rank 1, expected at least 2"),
        ({"sin_cache": np.ones((9, 4), np.float32)}, r"sin_cache has shape \(9, 4\), expected cos_cache's \(10, 4\)"),
    ],
)  # fmt: skip
def test_bad_input(arguments, message):
    out = (np.full((3, 2, 8), 7, np.float32), np.full((3, 1, 8), 7, np.float32))
    with pytest.raises(ValueError, match="rotary_embedding: " + message):
        aiter.rotary_embedding_fwd(**GOOD | arguments, out=out)
    assert (out[0] == 7).all() and (out[1] == 7).all()


def test_bad_output():
    with pytest.raises(ValueError, match="key_out has shape"):
        aiter.rotary_embedding_fwd(**GOOD, out=(None, np.ones((3, 2, 8), np.float32)))


def test_explain():
    function, bad = aiter.rotary_embedding_fwd, {"positions": np.full(3, 99)}
    assert aiter.explain(function, **GOOD).startswith("rotary_embedding: cpu_simd on cpu (")
    with pytest.raises(ValueError, match="has 99 at flat index 0"):  # as the call itself would
        aiter.explain(function, **GOOD | bad)
