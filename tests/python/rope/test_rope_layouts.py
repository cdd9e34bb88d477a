"""The rope_* functions: every row on every case, for every instruction set."""

import aiter
import cases_rope_layouts as cases
import numpy as np
import pytest
from aiter.testing import assert_close, assert_equal, using, variants

ROWS = variants("rotary_embedding")
CASES = cases.CASES


@pytest.fixture(params=ROWS, ids="-".join)
def row(request):
    with using("rotary_embedding", *request.param):
        yield


def name_and_tables(case, d, two):
    """The function's name but for its ending, and its arguments after x (and y)."""
    c2 = "_2c" if two else ""
    if case.kind == "sequence":
        return "rope" + c2, [d["freqs"]]
    if case.kind == "thd":
        return "rope_thd", [d["cu_seqlens"], d["freqs"]]
    if case.kind == "2d":
        tables = [d[n] for n in ("cos", "sin", "cos_w", "sin_w")]
        return "rope_2d", [*tables, d["height"], d["width_of_image"]]
    names = {"cached": "", "positions": "_positions", "offsets": "_positions_offsets"}
    index = [d[n] for n in ("positions", "offsets") if n in d]
    return f"rope_cached{names[case.kind]}{c2}", [d["cos"], d["sin"], *index]


def call(case, d, tensors, in_place=False, **more):
    """The results of a case's function for one or two tensors."""
    style = 0 if case.style == "neox" else 1
    inverse, nope_first = case.get("inverse", False), case.get("nope_first", False)
    if case.kind == "3d":
        tables = d["cos"], d["sin"]
        if style == 0:
            pytest.skip("grids have one style")
        out = tensors[0] if in_place else None
        return [aiter.rope_fwd_3d(tensors[0], d["grid"], tables, inverse=inverse, out=out)]
    if case.kind.startswith("mrope"):
        if inverse or case.get("full"):
            pytest.skip("not an option of mrope_fwd")
        q, k = tensors if len(tensors) == 2 else (tensors[0], None)
        out = (q if k is None else (q, k)) if in_place else None
        woven = case.kind == "mrope_woven"
        result = aiter.mrope_fwd(
            d["positions"], q, k, case.size, d["cos"], d["sin"], d["sections"],
            style == 0, woven, nope_first, out=out,
        )  # fmt: skip
        return list(result) if k is not None else [result]
    name, tables = name_and_tables(case, d, len(tensors) == 2)
    if in_place and not inverse:
        name += "_fwd_inplace"
    else:
        name += "_bwd" if inverse else "_fwd"
        if in_place:
            more["out"] = tensors[0] if len(tensors) == 1 else tuple(tensors)
    if case.get("transpose"):
        more["transpose_output"] = True
    options = (style, not case.get("full", False), nope_first)
    result = getattr(aiter, name)(*tensors, *tables, *options, **more)
    return [result] if len(tensors) == 1 else list(result)


def check(case, d, got, x):
    want, scale = cases.reference(case, d, x)
    # The tables' own rounding is not ours, that of angles' sines is: 2^-22 of the pair.
    assert_close(got, want, terms=4 if "freqs" in d else 2, scale=scale)


def variants_of(case):
    one = case.kind in ("thd", "2d", "3d") or case.heads[1] == 0
    return ["x"] if one else ["xy", "x"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rope(case, row):
    d = cases.make(case)
    for names in variants_of(case):
        tensors = [d[n] for n in names]
        for got, x in zip(call(case, d, tensors), tensors, strict=True):
            check(case, d, got, x)
            if case.get("transpose"):
                assert got.strides[0] < got.strides[1]


@pytest.mark.parametrize("case", [c for c in CASES if c.tag == "smoke"], ids=str)
def test_in_place(case, row):
    d = cases.make(case)
    for names in variants_of(case):
        tensors = [d[n] for n in names]
        want = call(case, d, tensors)
        copies = [x.copy() for x in tensors]
        got = call(case, d, copies, in_place=True)
        for g, c, w in zip(got, copies, want, strict=True):
            assert g is c
            assert_equal(g, w)


@pytest.mark.parametrize("kind", ["cached", "2d", "mrope"])
@pytest.mark.parametrize("style", cases.STYLES)
def test_slices(kind, style, row):
    """Heads as slices of larger ones, in place: neighbours keep their bits."""
    case = cases._case("", kind, style=style)
    d = cases.make(case)
    want = call(case, d, [d["x"]])[0]
    wide = np.full((*d["x"].shape[:-2], 3, 48), 7, d["x"].dtype)
    wide[..., 8:40] = d["x"]
    call(case, d, [wide[..., 8:40]], in_place=True)
    assert_equal(np.ascontiguousarray(wide[..., 8:40]), want)
    assert (wide[..., :8] == 7).all() and (wide[..., 40:] == 7).all()


@pytest.mark.parametrize("device", {v[1] for v in ROWS if ":" in v[1]} or {"none"})
def test_rows_outside_of_the_tables(device):
    """On a GPU such tokens are copied; nothing outside of the tables is read."""
    if device == "none":
        pytest.skip("no GPU")
    case = cases._case("", "positions", dtype="fp32")
    d = cases.make(case)
    guarded = {}
    for name in ("cos", "sin"):  # NaN before and after the table
        memory = np.full((cases.ROWS + 2, 1, 1, d["width"]), np.nan, np.float32)
        memory[1:-1] = d[name]
        guarded[name] = memory[1:-1]
    bad = d["positions"].copy()
    bad[0, 0], bad[1, 1], bad[2, 0], bad[3, 1] = -1, cases.ROWS, 2**62, -(2**62)
    options = (0, True, False)
    for row, place in ROWS:
        if place != device:
            continue
        with using("rotary_embedding", row, place):
            want = aiter.rope_cached_positions_fwd(
                d["x"], d["cos"], d["sin"], d["positions"], *options
            )
            got = aiter.rope_cached_positions_fwd(
                d["x"], guarded["cos"], guarded["sin"], bad, *options
            )
            flipped = aiter.rope_cached_positions_offsets_fwd(
                d["x"],
                guarded["cos"],
                guarded["sin"],
                d["positions"],
                bad - d["positions"],
                *options,
            )
            # A grid larger than the table, and a sequence longer than it, on other kinds of rows.
            sizes = np.array([[2**40, 3, 4], [-1, 2, 3]])
            still = aiter.rope_fwd_3d(
                d["x"], sizes[[0, 1, 1, 0, 1, 0]], (guarded["cos"], guarded["sin"])
            )
            # A sequence that begins before the tokens and is longer than the table.
            long = np.ones((cases.ROWS + 5, 1, 32), np.float32)
            bounds = np.array([-5, cases.ROWS + 3, 2**50])
            packed = aiter.rope_thd_fwd(long, bounds, guarded["cos"], *options)
        outside = np.zeros(d["lead"], bool)
        outside[[0, 1, 2, 3], [0, 1, 0, 1]] = True
        for result in (got, flipped):
            assert_equal(result[outside], d["x"][outside])
            assert_equal(result[~outside], want[~outside])
        assert_equal(still, d["x"])
        assert not np.isnan(packed).any()
        turned = (packed != long).any((1, 2))
        assert turned[: cases.ROWS - 5].all() and not turned[cases.ROWS - 5 : cases.ROWS + 3].any()


def test_every_option_matters():
    case = cases._case("", "cached", dtype="fp32", size=48)
    d = cases.make(case)
    results = [
        aiter.rope_cached_fwd(d["x"], d["cos"], d["sin"], style, reuse, nope)
        for style in (0, 1)
        for reuse in (True, False)
        for nope in (True, False)
    ]
    results.append(aiter.rope_cached_bwd(d["x"], d["cos"], d["sin"], 0, True, False))
    for i, a in enumerate(results):
        assert all((a != b).any() for b in results[:i])
    t = cases._case("", "mrope", dtype="fp32")
    d = cases.make(t)
    a, b, c = (
        aiter.mrope_fwd(d["positions"], d["x"], None, 32, d["cos"], d["sin"], s, True, woven)
        for s, woven in (((4, 6, 6), False), ((6, 5, 5), False), ((4, 6, 6), True))
    )
    assert (a != b).any() and (a != c).any() and (b != c).any()


def test_forward_then_backward_is_the_identity():
    case = cases._case("", "2d", dtype="fp32")
    d = cases.make(case)
    turned = call(case, d, [d["x"]])[0]
    back = call(cases._case("", "2d", dtype="fp32", inverse=True), d, [turned])[0]
    np.testing.assert_allclose(back, d["x"], atol=1e-5)


def test_large_angles(row):
    """Angles of a million radians, as of long contexts, are as accurate as small ones."""
    freqs = np.concatenate(
        [np.linspace(-1e6, 1e6, 4001), np.arange(8) * np.pi / 4, [2.0**22, 8e6, -0.0]]
    ).astype(np.float32)
    freqs = np.repeat(freqs[:, None], 8, 1)[:, None, None, :]
    x = np.zeros((len(freqs), 1, 1, 16), np.float32)
    x[..., :8] = 1
    got = aiter.rope_fwd(x, freqs, 0, True, False)
    angles = freqs.astype(np.float64)
    np.testing.assert_allclose(
        got, np.concatenate([np.cos(angles), np.sin(angles)], -1), atol=2**-22
    )
    freqs[0], freqs[1] = np.inf, np.nan
    got = aiter.rope_fwd(x[:2], freqs[:2], 0, True, False)
    assert np.isnan(got).all()


def test_grid_in_parts(row):
    """Each rank of a sequence-parallel group turns its part of the video."""
    case = cases._case("", "3d", style="gptj")
    d = cases.make(case)
    tables = d["cos"], d["sin"]
    whole = aiter.rope_fwd_3d(d["x"], d["grid"], tables)
    for rank in range(3):
        part = np.ascontiguousarray(d["x"][:, 10 * rank : 10 * rank + 10])
        got = aiter.rope_fwd_3d(part, d["grid"], tables, 3, rank)
        assert_equal(got, np.ascontiguousarray(whole[:, 10 * rank : 10 * rank + 10]))


def test_complex_freqs():
    case = cases._case("", "3d", style="gptj")
    d = cases.make(case)
    tables = d["cos"].reshape(cases.ROWS, -1), d["sin"].reshape(cases.ROWS, -1)
    got = aiter.rope_fwd_3d(d["x"], d["grid"], (tables[0] + 1j * tables[1]).astype(np.complex64))
    assert_equal(got, aiter.rope_fwd_3d(d["x"], d["grid"], tables))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("nope_first", [False, True])
def test_batched_rotary_embedding(flat, nope_first, row):
    """Is rope_cached_positions_offsets_2c_fwd on vLLM's shapes."""
    case = cases._case("", "offsets", size=48, rotary=32)
    d = cases.make(case)
    q, k = d["x"], d["y"]
    want = aiter.rope_cached_positions_offsets_2c_fwd(
        q, k, d["cos"], d["sin"], d["positions"], d["offsets"], 0, True, nope_first
    )
    if flat:
        q, k = q.reshape(6, 2, -1), k.reshape(6, 2, -1)
    got = aiter.batched_rotary_embedding(
        d["positions"], q, k, 48, d["cos"], d["sin"], True, nope_first, 32, d["offsets"].ravel()
    )
    for g, w in zip(got, want, strict=True):
        assert_equal(g.reshape(w.shape), w)


X = np.ones((3, 2, 4, 16), np.float32)
T = np.ones((5, 1, 1, 8), np.float32)
P = np.zeros((3, 2), np.int64)


@pytest.mark.parametrize(
    "function, arguments, message",
    [
        ("rope_fwd", (X, T[:2]), "cos has 2 rows, expected at least x's 3"),
        ("rope_fwd", (X[0, 0], T), "x has rank 2, expected at least 3"),
        ("rope_fwd", (X, np.ones((5, 9), np.float32)), "cos turns 18 dimensions, expected at most head_size, 16"),
        ("rope_fwd", (X, T.astype(np.int32)), "cos has dtype int32, expected float32, float16 or bfloat16"),
        ("rope_fwd", (X, np.ones((5, 16), np.float32)[:, ::2]), "cos has last stride 2, expected 1"),
        ("rope_2c_fwd", (X, X[:, :, :, :8], T), "y has last extent 8, expected head_size = 16"),
        ("rope_2c_fwd", (X, X[:2], T), "y has extent 2 in dimension 0, expected x's 3"),
        ("rope_2c_fwd", (X, X.astype(np.float16), T), "y has dtype float16, expected x's float32"),
        ("rope_cached_fwd", (X, T, T[:4]), r"sin has shape \(4, 1, 1, 8\), expected cos's \(5, 1, 1, 8\)"),
        ("rope_cached_positions_fwd", (X, T, T, P + 5), "positions has 5 at flat index 0, expected less than 5"),
        ("rope_cached_positions_fwd", (X, T, T, P[:, :1]), "positions has extent 1 in dimension 1, expected x's 2"),
        ("rope_cached_positions_fwd", (X, T, T, P[0]), "positions has rank 1"),
        ("rope_cached_positions_fwd", (X, T, T, P.astype(np.float32)), "positions has dtype float32, expected int32 or int64"),
        ("rope_cached_positions_offsets_fwd", (X, T, T, P + 3, P + 2),
         "positions has 3 and offsets has 2 at flat index 0, expected a sum of at least 0 and less than 5"),
        ("rope_cached_positions_offsets_fwd", (X, T, T, P, P - 1), "positions has 0 and offsets has -1"),
        ("rope_cached_positions_offsets_fwd", (X, T, T, P + 2**62, P + 2**62), "at flat index 0"),
        ("rope_cached_positions_offsets_fwd", (X, T, T, P, P.astype(np.int32)), "offsets has dtype int32, expected positions's int64"),
        ("rope_thd_fwd", (X[0], np.array([0, 6]), T), "positions has 6 at index 1, expected 0 to 2"),
        ("rope_thd_fwd", (X[0], np.array([2, 1]), T), "positions has 1 at index 1, expected 2 to 2"),
        ("rope_thd_fwd", (X[0], np.array([0, 2]), T[:1]), "has a sequence of 2 tokens at index 0, expected at most 1"),
        ("rope_thd_fwd", (X[0], np.zeros(0, np.int64), T), "positions has extent 0, expected at least 1"),
    ],
)  # fmt: skip
def test_bad_input(function, arguments, message):
    with pytest.raises(ValueError, match="rope: .*" + message):
        getattr(aiter, function)(*arguments, 0, True, False)


@pytest.mark.parametrize(
    "size, message",
    [
        ((2, 2), r"x has 2 tokens, expected opts.height \* opts.width = 2 \* 2"),
        (
            (6, 1),
            "opts.height is 6 and opts.width 1, expected 1 to the rows of cos, 5, and cos_w, 5",
        ),
        ((0, 2), "opts.height is 0"),
    ],
)
def test_bad_image(size, message):
    table = T[..., :4]
    with pytest.raises(ValueError, match=message):
        aiter.rope_2d_fwd(X, table, table, table, table, *size, 0, True, False)


def test_bad_grid_and_sections():
    with pytest.raises(ValueError, match="positions has 6 at flat index 2, expected less than 6"):
        aiter.rope_fwd_3d(X, np.array([[1, 1, 6]] * 3), (T, T))
    with pytest.raises(ValueError, match="sp_rank is 2, expected 0 to sp_size - 1 = 1"):
        aiter.rope_fwd_3d(X, np.array([[1, 1, 2]] * 3), (T, T), 2, 2)
    with pytest.raises(ValueError, match="opts.sections are 3, 3, 3, expected a sum of 8 pairs"):
        aiter.mrope_fwd(np.zeros((3, 3, 2), int), X, None, 16, T, T, (3, 3, 3))
    with pytest.raises(ValueError, match="rot_dim is 8, expected twice the width of cos_cache, 16"):
        aiter.batched_rotary_embedding(P, X, None, 16, T, T, True, False, 8, P)


def test_the_bound_would_notice():
    case = cases._case("", "offsets", dtype="fp32")
    d = cases.make(case)
    got = call(case, d, [d["x"]])[0]
    check(case, d, got, d["x"])
    with pytest.raises(AssertionError):
        check(case, d, got * np.float32(1 + 1e-5), d["x"])
    d["offsets"][2, 1] += 1
    with pytest.raises(AssertionError):
        check(case, d, got, d["x"])


def test_jax():
    jax = pytest.importorskip("jax")
    case = cases._case("", "sequence", transpose=True)
    d = cases.make(case)
    got = aiter.rope_fwd(jax.numpy.asarray(d["x"]), d["freqs"], 0, True, False, True)
    assert isinstance(got, jax.Array)
    check(case, d, np.asarray(got), d["x"])


def test_own_array_transposed():
    case = cases._case("", "sequence", transpose=True, dtype="fp32")
    d = cases.make(case)
    got = aiter.rope_fwd(aiter.asarray(d["x"]), d["freqs"], 0, True, False, True)
    assert isinstance(got, aiter.Array)
    check(case, d, got.numpy(), d["x"])
