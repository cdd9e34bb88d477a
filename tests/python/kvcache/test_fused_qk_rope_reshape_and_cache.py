"""fused_qk_rope_reshape_and_cache and ..._concat_and_cache_mla: the operators one after the other."""

import aiter
import cases_fused_qk_rope_reshape_and_cache as cases
import cases_reshape_and_cache as plain
import ml_dtypes
import numpy as np
import pytest
from aiter.testing import assert_close, assert_equal, using, variants
from paged import quant

CASES = [c for c in cases.CASES if c.tag != "perf"]
OP = "fused_qk_rope_reshape_and_cache"


@pytest.fixture(params=variants(OP), ids="-".join)
def row(request):
    with using(OP, *request.param):
        yield request.param


def call(arguments, **options):
    names = ("q", "key", "value", "key_cache", "value_cache", "slot_mapping", "pos", "cos", "sin")
    rest = {k: v for k, v in arguments.items() if k not in names}
    return aiter.fused_qk_rope_reshape_and_cache(*(arguments[n] for n in names), **rest, **options)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fused_qk_rope_reshape_and_cache(case, row):
    """The rotation beside float64; the caches are exactly those of the turned key."""
    arguments = cases.make(case)
    writing = {
        k: v.copy() if isinstance(v, np.ndarray) else v
        for k, v in arguments.items()
        if k not in ("q", "pos", "cos", "sin", "is_neox", "nope_first")
    }
    (q64, q_size), (key64, key_size) = cases.reference(**arguments)
    key_out = np.empty_like(arguments["key"])
    q_out = call(arguments, k_out=key_out)
    assert_close(q_out, q64, terms=2, scale=q_size, what="q_out")
    assert_close(key_out, key64, terms=2, scale=key_size, what="key_out")
    want = plain.reference(**(writing | {"key": key_out}), layout=case.get("layout", "flash"))
    for name, expected in zip(("key_cache", "value_cache"), want, strict=False):
        got = arguments[name]
        if got.itemsize == 1:
            got, expected = got.view(np.uint8), expected.view(np.uint8)
        assert_equal(got, expected, name)
    # The same without the turned key as a result.
    alone = cases.make(case)
    assert_equal(call(alone), q_out)
    assert alone["key_cache"].tobytes() == arguments["key_cache"].tobytes()


def test_in_place(row):
    case = CASES[0]
    apart, together = cases.make(case), cases.make(case)
    key_out = np.empty_like(apart["key"])
    q_out = call(apart, k_out=key_out)
    call(together, q_out=together["q"], k_out=together["key"])
    assert_equal(together["q"], q_out)
    assert_equal(together["key"], key_out)
    assert_equal(together["key_cache"], apart["key_cache"])


@pytest.mark.parametrize("name", ["q", "key", "value", "slot_mapping", "pos", "cos", "sin"])
def test_every_argument_matters(name, row):
    before, after = cases.make(CASES[0]), cases.make(CASES[0])
    changed = after[name]
    after[name] = changed[::-1].copy() if changed.dtype.kind == "i" else changed * 2
    results = []
    for arguments in (before, after):
        q_out = call(arguments)
        results.append((q_out, arguments["key_cache"], arguments["value_cache"]))
    changes = [(a != b).any() for a, b in zip(*results, strict=True)]
    rope = [True, True, False]
    assert changes == {
        "q": [True, False, False],
        "key": [False, True, False],
        "value": [False, False, True],
        "slot_mapping": [False, True, True],
    }.get(name, rope)


def test_slots_and_positions_out_of_range(row):
    """The CPU refuses them. A GPU skips the cache, and does not turn; canaries stay."""
    arguments = cases.make(CASES[0])
    around = np.full((5, 16, 2, 32), 7, arguments["key_cache"].dtype)
    arguments["key_cache"] = around[1:-1]
    for name, values in (("slot_mapping", [48, 2**31 - 1]), ("pos", [50, -1])):
        bad = dict(arguments)
        bad[name] = bad[name].copy()
        bad[name][:2] = values
        try:
            q_out = call(bad)
        except ValueError as e:
            assert f"{name if name != 'pos' else 'positions'}" in str(e)
            assert (around == 7).all()
        else:
            assert (around[[0, -1]] == 7).all()
            if name == "pos":
                assert_equal(q_out[:2], arguments["q"][:2])


# ---- MLA ----------------------------------------------------------------------------------------

LATENT, ROPE, PAGES, BLOCK, TOKENS = 64, 16, 4, 4, 9


def make_mla(dtype, seed=0, heads=None):
    rng = np.random.default_rng(seed)
    middle = () if heads is None else (heads,)

    def array(*shape):
        return rng.standard_normal(shape).astype(dtype)

    angles = rng.random((20, ROPE // 2)) * 6
    slots = rng.permutation(PAGES * BLOCK)[:TOKENS]
    slots[3] = -1
    return {
        "q_nope": array(TOKENS, 3, LATENT),
        "q_pe": array(TOKENS, 3, ROPE),
        "kv_c": array(TOKENS, *middle, LATENT),
        "k_pe": array(TOKENS, *middle, ROPE),
        "slot_mapping": slots,
        "positions": rng.integers(0, 20, TOKENS),
        "cos_cache": np.cos(angles).astype(dtype),
        "sin_cache": np.sin(angles).astype(dtype),
    }


@pytest.mark.parametrize("heads", [None, 2])
@pytest.mark.parametrize("neox", [True, False])
@pytest.mark.parametrize("nope_first", [True, False])
@pytest.mark.parametrize("code", [None, "float8_e4m3fn", "float8_e4m3fnuz"])
def test_mla(code, nope_first, neox, heads, row):
    arguments = make_mla(ml_dtypes.bfloat16, heads=heads)
    middle = () if heads is None else (heads,)
    dtype = quant.dtype_of(code) if code else arguments["kv_c"].dtype
    cache = np.full((PAGES, BLOCK, *middle, LATENT + ROPE), 7, dtype)
    k_scale, q_scale = np.array([0.5], np.float32), np.array([0.37], np.float32)
    scales = {"k_scale": k_scale, "q_scale": q_scale} if code else {}
    rope = arguments["positions"], arguments["cos_cache"], arguments["sin_cache"], neox, False
    q_pe, q_size = cases.turned(arguments["q_pe"], *rope)
    k_pe, k_size = cases.turned(arguments["k_pe"].reshape(TOKENS, -1, ROPE), *rope)

    got = aiter.fused_qk_rope_concat_and_cache_mla(
        **arguments, kv_cache=cache, is_neox=neox, is_nope_first=nope_first,
        out_dtype=code, **scales,
    )  # fmt: skip

    def check(line, nope, pe, size, scale):
        """The latent part exactly, the one that turns within its bound and a rounding to codes."""
        cut = LATENT if nope_first else ROPE
        parts = line[..., :cut], line[..., cut:]
        latent, turned = parts if nope_first else parts[::-1]
        if not code:
            np.testing.assert_array_equal(latent, nope)
            return assert_close(turned, pe.reshape(turned.shape), 2, size.reshape(turned.shape))
        want = quant.encode(nope.astype(np.float32) * (np.float32(1) / scale), code)
        np.testing.assert_array_equal(latent.view(np.uint8), want.view(np.uint8))
        error = np.abs(turned.astype(np.float64) * scale - pe.reshape(turned.shape))
        step = np.abs(pe) * 2.0**-4 + size * 2.0**-8 + scale * 2.0**-9
        assert (error <= step.reshape(turned.shape)).all()

    check(got, arguments["q_nope"], q_pe, q_size, q_scale)
    rows = cache.reshape(PAGES * BLOCK, *cache.shape[2:])
    used = arguments["slot_mapping"] >= 0
    slots = arguments["slot_mapping"][used]
    k_pe, k_size = k_pe.reshape(arguments["k_pe"].shape), k_size.reshape(arguments["k_pe"].shape)
    check(rows[slots], arguments["kv_c"][used], k_pe[used], k_size[used], k_scale)
    others = np.setdiff1d(np.arange(PAGES * BLOCK), slots)
    assert (rows[others].astype(np.float32) == 7).all()


def test_mla_in_segments_and_wider_queries(row):
    arguments = make_mla(ml_dtypes.bfloat16)
    code = "float8_e4m3fn"
    paged = np.zeros((PAGES, BLOCK, LATENT + ROPE), np.uint8)
    segments = np.zeros((PAGES, BLOCK * (LATENT + ROPE)), np.uint8)
    scale = np.array([0.5], np.float32)
    q_out = np.full((TOKENS, 3, 128), 7, np.uint8)
    options = {"cache_dtype": code, "k_scale": scale, "q_scale": scale}
    want = aiter.fused_qk_rope_concat_and_cache_mla(
        **arguments, kv_cache=paged, q_out=np.zeros((TOKENS, 3, 80), np.uint8), **options
    )
    aiter.fused_qk_rope_concat_and_cache_mla_seg(
        **arguments, kv_cache=segments, q_out=q_out, **options
    )
    np.testing.assert_array_equal(q_out[..., :80], want)
    assert (q_out[..., 80:] == 7).all()
    cut = BLOCK * LATENT
    np.testing.assert_array_equal(
        segments[:, :cut].reshape(PAGES, BLOCK, LATENT), paged[..., :LATENT]
    )
    np.testing.assert_array_equal(
        segments[:, cut:].reshape(PAGES, BLOCK, ROPE), paged[..., LATENT:]
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"pos": np.zeros(3, np.int64)}, r"positions has shape \(3,\), expected \(2,\)"),
        ({"pos": np.array([0, 9])}, "positions has 9"),
        ({"key": np.ones((2, 1, 6), np.float32)}, r"key has shape \(2, 1, 6\), expected \(2, any"),
        ({"cos": np.ones((8, 3), np.float32)}, "sin_cache has shape|cos_cache has shape"),
        ({"slot_mapping": np.array([0, 8])}, r"slot_mapping\[1\] is 8, expected less than"),
        ({"k_scale": np.ones(1, np.float32)}, "key_cache has dtype float32, expected int8"),
        ({"q_out": np.ones((2, 1, 3), np.float32)}, "q_out has shape"),
        (
            {"cos": np.ones((8, 3), np.float32), "sin": np.ones((8, 3), np.float32)},
            "q has 4 dims a head, expected 6, twice the width of cos_cache, to 1024",
        ),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    ones = np.ones((2, 1, 4), np.float32)
    call_with = {
        "q": ones,
        "key": ones,
        "value": ones,
        "key_cache": np.full((2, 4, 1, 4), 7, np.float32),
        "value_cache": np.full((2, 4, 1, 4), 7, np.float32),
        "slot_mapping": np.array([1, 0]),
        "pos": np.array([1, 0]),
        "cos": np.ones((8, 2), np.float32),
        "sin": np.ones((8, 2), np.float32),
        "is_neox": True,
    } | arguments
    before = call_with["key_cache"].copy()
    with pytest.raises(ValueError, match=f"{OP}: ({message})"):
        call(call_with)
    np.testing.assert_array_equal(call_with["key_cache"], before)
