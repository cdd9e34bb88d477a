"""fused_qk_norm_rope: every row on every case, for every instruction set."""

import aiter
import cases_fused_qk_norm_rope as cases
import numpy as np
import pytest
from aiter.testing import assert_close, assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
ROWS = variants("fused_qk_norm_rope")


@pytest.fixture(params=ROWS, ids="-".join)
def row(request):
    with using("fused_qk_norm_rope", *request.param):
        yield


def run(case, d, **more):
    """(q, k), or (q, k, v)."""
    if case.get("sections"):
        more |= {"mrope_section": case.sections, "mrope_interleaved": case.woven}
    return aiter.fused_qk_norm_rope(
        d["q"],
        d["k"],
        d["v"],
        d["q_weight"],
        d["k_weight"],
        d["cos"],
        d["sin"],
        d["positions"],
        cases.EPS if case.get("norm", True) else None,
        case.style == "neox",
        gemma_norm=case.get("gemma", False),
        is_nope_first=case.get("nope_first", False),
        **more,
    )


def check(case, d, got):
    for name, y in zip("qk", got, strict=False):
        want, scale = cases.reference(case, d, name)
        # The norm and the rotation round once each: twice the bound of one rounding.
        assert_close(y, want, terms=case.dim, scale=2 * scale, what=name)
    if d["v"] is not None:
        assert_equal(got[2], d["v"])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fused_qk_norm_rope(case, row):
    d = cases.make(case)
    got = run(case, d)
    assert len(got) == (3 if case.v else 2)
    check(case, d, got)


@pytest.mark.parametrize("case", [c for c in CASES if c.tag == "smoke"], ids=str)
def test_it_is_its_parts(case):
    """The roundings between the steps are those of the operators of their own."""
    d = cases.make(case)
    if case.dtype == "fp32" or d["q_weight"] is None:
        pytest.skip("sums in another order show")
    parts = [
        aiter.rms_norm(d[n], d[n + "_weight"], cases.EPS, gemma_norm=case.get("gemma", False))
        for n in "qk"
    ]
    want = aiter.rotary_embedding_fwd(
        d["positions"], *parts, 0, d["cos"], d["sin"], case.style == "neox"
    )
    for g, w in zip(run(case, d), want, strict=False):
        g, w = (a.astype(np.float64) for a in (g, w))
        assert (g == w).mean() > 0.99


@pytest.mark.parametrize("case", [c for c in CASES if c.tag == "edge"], ids=str)
def test_in_place(case, row):
    d = cases.make(case)
    want = run(case, d)
    copies = d | {n: d[n].copy() for n in "qkv" if d[n] is not None}
    tensors = tuple(copies[n] for n in "qkv" if d[n] is not None)
    got = run(case, copies, out=tensors)
    for g, c, w in zip(got, tensors, want, strict=True):
        assert g is c
        assert_equal(g, w)


def test_fused_qkv(row):
    """Slices of one tensor in place: v and its neighbours keep their bits."""
    case = cases._case("", dim=32, dtype="fp32")
    d = cases.make(case)
    wide = np.full((5, 9 * 32), 7, np.float32)
    places = {"q": slice(0, 128), "k": slice(128, 192), "v": slice(192, 256)}
    views = {n: wide[:, at].reshape(5, -1, 32) for n, at in places.items()}
    for n, view in views.items():
        view[...] = d[n]
    want = run(case, d)
    run(case, d | views, out=tuple(views.values()))
    for n, w in zip("qkv", want, strict=True):
        assert_equal(np.ascontiguousarray(views[n]), w)
    assert (wide[:, 256:] == 7).all()


def test_split():
    case = cases._case("", norm=False, dtype="fp32")
    d = cases.make(case)
    qkv = np.concatenate([d[n].reshape(5, -1) for n in "qkv"], 1)
    got = aiter.fused_qkv_split_qk_rope(qkv, d["cos"], d["sin"], d["positions"], 4, 2, 32)
    for g, w in zip(got, run(case, d), strict=True):
        assert_equal(g, w)


def test_one_stream():
    """Each batch of a diffusion model takes the same rows."""
    case = cases._case("", batch=2, tokens=cases.ROWS, v=False, style="gptj", positions=None)
    d = cases.make(case)
    cos_sin = np.concatenate([d["cos"], d["sin"]], 1)
    got = aiter.fused_qk_norm_rope_1way(
        d["q"], d["k"], d["q_weight"], d["k_weight"], cos_sin, True, cases.EPS
    )
    check(case, d, got)
    with pytest.raises(ValueError, match="cos_sin has 23 rows, expected q's 24 tokens"):
        aiter.fused_qk_norm_rope_1way(d["q"], d["k"], None, None, cos_sin[1:], True, cases.EPS)


@pytest.mark.parametrize("device", sorted({v[1] for v in ROWS if ":" in v[1]}))
def test_rows_outside_of_the_tables(device):
    """On a GPU their tokens are normalized alone."""
    case = cases._case("", dtype="fp32")
    d = cases.make(case)
    still = d | {"cos": None, "sin": None, "positions": None}
    bad = d["positions"].copy()
    bad[[1, 3]] = -1, cases.ROWS
    for row, place in ROWS:
        if place == device:
            with using("fused_qk_norm_rope", row, place):
                got, turned = run(case, d | {"positions": bad}), run(case, d)
                normed = run(case, still)
            for g, n, t in zip(got[:2], normed, turned, strict=False):
                np.testing.assert_allclose(g[[1, 3]], n[[1, 3]], rtol=1e-6)  # sums in another order
                assert_equal(g[[0, 2, 4]], t[[0, 2, 4]])


def test_every_option_matters():
    case = cases._case("", dtype="fp32", dim=48)
    d = cases.make(case)
    changes = [{}, {"nope_first": True}, {"style": "gptj"}, {"norm": False}, {"gemma": True}]
    results = []
    for change in changes:
        changed = cases._case("", **(case | change))
        arrays = d if change != {"norm": False} else d | {"q_weight": None, "k_weight": None}
        results.append(run(changed, arrays)[0])
    results.append(run(case, d | {"q_weight": d["q_weight"] * 2})[0])
    for i, a in enumerate(results):
        assert all((a != b).any() for b in results[:i])


def test_the_bound_would_notice():
    case = cases._case("", dtype="fp32")
    d = cases.make(case)
    q, k, v = run(case, d)
    with pytest.raises(AssertionError):
        check(case, d, (q * np.float32(1 + 1e-5), k, v))
    with pytest.raises(AssertionError):
        check(case, d, run(case, d | {"positions": (d["positions"] + 1) % cases.ROWS}))


Q, K, W = np.ones((3, 4, 16), np.float32), np.ones((3, 2, 16), np.float32), np.ones(16, np.float32)
T, P = np.ones((5, 8), np.float32), np.zeros(3, np.int64)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"k": K[:2]}, "k has extent 2 in dimension 0, expected q's 3"),
        ({"k": K.astype(np.float16)}, "k has dtype float16, expected q's float32"),
        ({"v": K[:, :, ::2]}, "v has last stride 2, expected 1"),
        ({"q": Q[0]}, "q has rank 2, expected at least 3"),
        ({"q": np.ones((3, 1, 1025), np.float32)}, "q has last extent 1025, expected 1 to 1024"),
        ({"q_weight": W[:8]}, r"q_weight has shape \(8,\), expected \(16,\)"),
        ({"q_weight": W.astype(np.float16)}, "q_weight has dtype float16, expected q's float32"),
        ({"q_weight": W, "eps": None}, "weights are given, expected NULL unless opts.norm is nonzero"),
        ({"eps": -1.0}, "opts.eps is -1, expected at least 0"),
        ({"cos": np.ones((5, 9), np.float32), "sin": np.ones((5, 9), np.float32)}, "cos has width 9, expected at most half of q's head size, 16"),
        ({"sin": None}, "sin is NULL, expected a table like cos"),
        ({"cos": None}, "cos is NULL, expected a table where sin or positions is given"),
        ({"positions": P + 5}, "positions has 5 at flat index 0, expected less than 5"),
        ({"positions": P[:2]}, "positions has extent 2 in dimension 0, expected x's 3"),
        ({"mrope_section": (1, 1, 1)}, "opts.sections are 1, 1, 1, expected a sum of 8 pairs, or zeros"),
        ({"mrope_section": (4, 2, 2), "positions": None}, "positions is NULL, expected a tensor with pairs in sections"),
    ],
)  # fmt: skip
def test_bad_input(arguments, message):
    good = {"q": Q, "k": K, "v": K, "cos": T, "sin": T, "positions": P}
    out = tuple(np.full_like(x, 7) for x in (Q, K, K))
    with pytest.raises(ValueError, match="fused_qk_norm_rope: .*" + message):
        aiter.fused_qk_norm_rope(**good | arguments, out=out)
    assert all((o == 7).all() for o in out)
