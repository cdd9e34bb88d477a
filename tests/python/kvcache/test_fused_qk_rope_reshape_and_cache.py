"""fused_qk_rope_reshape_and_cache and ..._concat_and_cache_mla: the operators one after the other."""

import aiter
import cases_fused_qk_rope_reshape_and_cache as cases
import ml_dtypes
import numpy as np
import paged
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


def copied(arguments):
    return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in arguments.items()}


def bits(x):
    return x.view(np.uint8) if x.dtype.itemsize == 1 else x


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fused_qk_rope_reshape_and_cache(case, row):
    """Norm and rotation beside float64; the caches are exactly those of the resulting key."""
    arguments = cases.make(case)
    before = copied(arguments)
    (q64, q_size), (key64, key_size) = cases.reference(**arguments)
    key_out, v_out = np.empty_like(arguments["key"]), np.empty_like(arguments["value"])
    q_out = call(arguments, k_out=key_out, v_out=v_out)
    normed = "norm" in case
    terms, roundings = case.head_dim if normed else 2, 3 if normed else 1
    if case.get("values") != "special":
        assert_close(q_out, q64, terms=terms, scale=roundings * q_size, what="q_out")
        assert_close(key_out, key64, terms=terms, scale=roundings * key_size, what="key_out")
    assert_equal(v_out, arguments["value"], "v_out")
    for name, expected in cases.cache_reference(case, before, key_out).items():
        if expected is not None:
            assert_equal(bits(arguments[name]), bits(expected), name)
    if arguments["quant"] == "page":
        return
    # The same without the turned key and the value as results.
    alone = cases.make(case)
    assert_equal(call(alone), q_out)
    assert alone["key_cache"].tobytes() == arguments["key_cache"].tobytes()


@pytest.mark.parametrize("norm", [None, "plain"])
@pytest.mark.parametrize("neox", [True, False])
def test_operators_one_after_the_other(norm, neox, row):
    """The bits of rotary_embedding_fwd, or of fused_qk_norm_rope, where sums have the same order; within
    three roundings elsewhere."""
    more = {"norm": norm} if norm else {}
    case = aiter.testing.Case("edge", tokens=9, **cases.SMALL, dtype="bf16", neox=neox, **more)
    a = cases.make(case)
    key_out = np.empty_like(a["key"])
    q_out = call(a, k_out=key_out)
    if norm:
        want = aiter.fused_qk_norm_rope(
            a["q"], a["key"], None, a["q_weight"], a["k_weight"], a["cos"], a["sin"], a["pos"],
            cases.EPS, neox,
        )  # fmt: skip
    else:
        want = aiter.rotary_embedding_fwd(
            a["pos"], a["q"], a["key"], case.head_dim, a["cos"], a["sin"], neox
        )
    same_order = row[0] == "cpu_simd" or (not norm and row[0].startswith("hip"))
    for got, expected in zip((q_out, key_out), want, strict=True):
        if same_order:
            assert_equal(got, expected)
        else:
            size = 1 + np.abs(expected.astype(np.float64))
            assert_close(got, expected.astype(np.float64), case.head_dim, 3 * size)


@pytest.mark.parametrize("code", ["float8_e4m3fn", "int8"])
def test_codes_as_results(code, row):
    """k_out and v_out of the cache's dtype get the codes that the cache gets."""
    case = aiter.testing.Case(
        "edge", tokens=9, **cases.SMALL, dtype="bf16", cache=code, scales="heads"
    )
    a = cases.make(case)
    k_out, v_out = (np.zeros(a[n].shape, a["key_cache"].dtype) for n in ("key", "value"))
    call(a, k_out=k_out, v_out=v_out)
    for name, codes in (("key_cache", k_out), ("value_cache", v_out)):
        rows = a[name].reshape(-1, *a[name].shape[2:])
        assert_equal(bits(codes), bits(rows[a["slot_mapping"]]), name)
    with pytest.raises(ValueError, match="key_out has dtype"):
        call(a | {"quant": "token", "k_scale": np.ones((2, 48), np.float32),
                  "v_scale": np.ones((2, 48), np.float32)}, k_out=k_out)  # fmt: skip


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


@pytest.mark.parametrize("quant", ["token", "page"])
def test_in_place_with_scales(quant, row):
    """q, key and value are slices of one array, which takes the results."""
    case = aiter.testing.Case(
        "edge", tokens=9, **cases.SMALL, dtype="bf16", cache="float8_e4m3fn", norm="plain",
        layout="asm", scales=quant,
    )  # fmt: skip
    apart, together = cases.make(case), cases.make(case)
    key_out = np.empty_like(apart["key"])
    q_out = call(apart, k_out=key_out)
    qkv = np.concatenate([together[n] for n in ("q", "key", "value")], 1)
    q, key, value = np.split(qkv, [case.q_heads, case.q_heads + case.heads], 1)
    call(together | {"q": q, "key": key, "value": value}, q_out=q, k_out=key)
    for got, want in ((q, q_out), (key, key_out), (value, apart["value"])):
        assert_equal(got, want)
    for name in ("key_cache", "value_cache", "k_scale", "v_scale"):
        assert together[name].tobytes() == apart[name].tobytes(), name


@pytest.mark.parametrize("name", ["q_weight", "k_weight", "eps", "gemma_norm", "mrope_section"])
def test_every_option_of_the_norm_matters(name, row):
    case = aiter.testing.Case(
        "edge", tokens=9, **cases.SMALL, dtype="fp32", norm="plain", sections=(4, 6, 6), woven=False
    )
    before, after = cases.make(case), cases.make(case)
    after[name] = {"eps": 1.0, "gemma_norm": True, "mrope_section": (6, 4, 6)}.get(name)
    q_before, q_after = call(before), call(after)
    changes = (q_before != q_after).any(), (before["key_cache"] != after["key_cache"]).any()
    assert changes == (name != "k_weight", name != "q_weight")


def test_nan_in_unused_slots_and_tokens_stays_where_it_is(row):
    """Padding, a skipped token and stored slots change no other."""
    case = aiter.testing.Case(
        "edge", tokens=9, **cases.SMALL, dtype="bf16", cache="float8_e4m3fn", norm="plain",
        layout="asm", scales="token",
    )  # fmt: skip
    clean, poisoned = cases.make(case), cases.make(case)
    for arguments in (clean, poisoned):
        arguments["slot_mapping"][4] = -1
    used = clean["slot_mapping"][clean["slot_mapping"] >= 0]
    for n in ("q", "key", "value"):
        poisoned[n][4] = np.nan
    for n in ("key_cache", "value_cache"):
        poisoned[n].view(np.uint8)[...] = 0x7F
    for n in ("k_scale", "v_scale"):
        poisoned[n][...] = np.nan
    want, got = call(clean), call(poisoned)
    others = np.arange(9) != 4
    assert_equal(got[others], want[others])
    for n in ("k_scale", "v_scale"):
        assert_equal(poisoned[n][:, used], clean[n][:, used], n)
        assert np.isnan(np.delete(poisoned[n], used, 1)).all()
    for which in ("key", "value"):
        for slot in range(case.pages * case.block):
            rows = [
                paged.read(a[f"{which}_cache"], "asm", which, slot).view(np.uint8)
                for a in (poisoned, clean)
            ]
            np.testing.assert_array_equal(rows[0], rows[1] if slot in used else 0x7F)


def test_offsets_of_64_bits(row):
    """Pages 2^32 elements apart, in memory that is never touched between them."""
    import mmap

    if ":" in row[1]:
        pytest.skip("the copy on the device would be of all the memory between")
    with mmap.mmap(-1, (1 << 34) + 4096, flags=mmap.MAP_PRIVATE | 0x4000) as memory:  # NORESERVE
        far = np.frombuffer(memory, np.float32, 64)
        cache = np.lib.stride_tricks.as_strided(far, (2, 4, 1, 8), (1 << 34, 128, 32, 4))
        near = np.zeros((2, 4, 1, 8), np.float32)
        key = np.arange(16, dtype=np.float32).reshape(2, 1, 8)
        k_out = np.empty_like(key)
        ones = np.ones((2, 4), np.float32)
        aiter.fused_qk_rope_reshape_and_cache(
            key, key, key, cache, near, np.array([4, 1]), np.array([0, 1]), ones, ones, eps=0.5,
            k_out=k_out,
        )  # fmt: skip
        np.testing.assert_array_equal(cache[1, 0], k_out[0])
        np.testing.assert_array_equal(cache[0, 1], k_out[1])
        np.testing.assert_array_equal(near[1, 0], key[0])
        del far, cache


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
        ({"pos": np.zeros(3, np.int64)}, "positions has extent 3 in dimension 0, expected x's 2"),
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
