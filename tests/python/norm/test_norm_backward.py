"""rms_norm_backward and layer_norm_backward: every row on every case, for every instruction set."""

import aiter
import cases_norm_backward as cases
import numpy as np
import pytest
from aiter.testing import assert_close, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("norm_backward"), ids="-".join)
def row(request):
    with using("norm_backward", *request.param):
        yield


def backward(case, dy, x, w, dresidual, **options):
    """{name: gradient} of what the case wants."""
    eps = case.get("eps", 1e-5)
    if case.kind == "rms":
        gemma = case.get("gemma", False)
        results = aiter.rms_norm_backward(
            dy, x, w, eps, gemma_norm=gemma, dresidual=dresidual, **options
        )
        names = ["dx", "dw"]
    else:
        bias = case.get("bias", True)
        x_bias = case.get("x_bias", False)
        results = aiter.layer_norm_backward(
            dy, x, w, bias, eps, x_bias=x_bias, dresidual=dresidual, **options
        )
        names = ["dx", "dw", *["db"] * bias, *["dx_bias"] * x_bias]
    if w is None:
        names.remove("dw")
    results = results if isinstance(results, tuple) else (results,)
    return dict(zip(names, results, strict=True))


def check(got, case, dy, x, w, dresidual):
    eps, gemma = case.get("eps", 1e-5), case.get("gemma", False)
    want = cases.reference(dy, x, w, dresidual, case.kind, eps, gemma)
    rows = max(x.size // max(x.shape[-1], 1), 1)
    for name, value in got.items():
        expected, scale = want[name]
        assert value.shape == expected.shape
        assert value.dtype == (x.dtype if name in ("dx", "dx_bias") or w is None else w.dtype)
        assert_close(value, expected, terms=x.shape[-1] + rows, scale=scale)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward(case, row):
    inputs = cases.make(case)
    check(backward(case, *inputs), case, *inputs)


@pytest.mark.parametrize("where", ["dy", "x", "dresidual"])
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_in_place(kind, where, row):
    case = cases.Case("edge", kind=kind, shape=(9, 104), dtype="fp32", residual=True)
    inputs = cases.make(case)
    copies = [a.copy() for a in inputs]
    out = copies[["dy", "x", "w", "dresidual"].index(where)]
    got = backward(case, *copies, out=out)
    assert got["dx"] is out
    check(got, case, *inputs)


def test_strided_rows(row):
    """Heads of a fused tensor; its neighbours stay as they are."""
    rng = np.random.default_rng(1)
    fused = rng.standard_normal((6, 12, 64)).astype(np.float32)
    before = fused.copy()
    case = cases.Case("edge", kind="layer", shape=(6, 2, 64), dtype="fp32")
    dy, _, w, _ = cases.make(case)
    x = fused[:, 8:10]
    got = backward(case, dy, x, w, None, out=x)
    check(got, case, dy, before[:, 8:10], w, None)
    np.testing.assert_array_equal(fused[:, :8], before[:, :8])
    np.testing.assert_array_equal(fused[:, 10:], before[:, 10:])


def test_every_argument_matters(row):
    case = cases.Case("edge", kind="rms", shape=(5, 64), dtype="fp32", residual=True)
    dy, x, w, dresidual = cases.make(case)
    base = {"dy": dy, "x": x, "w": w, "eps": 1e-5, "gemma_norm": False, "dresidual": dresidual}
    plain, _ = aiter.rms_norm_backward(**base)
    for change in (
        {"dy": x},
        {"x": dy},
        {"w": w + 1},
        {"eps": 1.0},
        {"gemma_norm": True},
        {"dresidual": None},
    ):
        assert not np.array_equal(aiter.rms_norm_backward(**base | change)[0], plain), change


def test_the_same_bits_for_any_number_of_threads():
    case = cases.Case("edge", kind="layer", shape=(513, 300), dtype="fp32")
    inputs = cases.make(case)
    with using(threads=1):
        one = backward(case, *inputs)
    with using(threads=3):
        three = backward(case, *inputs)
    for name in one:
        np.testing.assert_array_equal(three[name], one[name])


def test_against_differences():
    """The formula itself: gradients of a random projection of rms_norm, by differences in float64."""
    rng = np.random.default_rng(4)
    dy, x, w = (rng.standard_normal(s) for s in ((3, 16), (3, 16), 16))

    def loss(x, w, kind):
        v = x - x.mean(-1, keepdims=True) if kind == "layer" else x
        return np.sum(dy * v / np.sqrt((v * v).mean(-1, keepdims=True) + 1e-5) * w)

    for kind in ("rms", "layer"):
        want = cases.reference(dy, x, w, None, kind, 1e-5)
        for name, value in (("dx", x), ("dw", w)):
            slope = np.empty_like(value)
            for i in np.ndindex(value.shape):
                ends = []
                for step in (1e-5, -1e-5):
                    moved = value.copy()
                    moved[i] += step
                    ends.append(loss(moved, w, kind) if name == "dx" else loss(x, moved, kind))
                slope[i] = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose(want[name][0], slope, atol=1e-7)


def test_the_bound_would_notice():
    """Negative control: a gain of 1 %, and sums that miss a row, must fail."""
    case = cases.Case("edge", kind="layer", shape=(64, 256), dtype="fp32")
    inputs = cases.make(case)
    got = backward(case, *inputs)
    for wrong in (
        got | {"dx": got["dx"] * np.float32(1.01)},
        got | {"dw": got["dw"] - inputs[0][3] * inputs[1][3]},
        got | {"db": got["db"] - inputs[0][3]},
    ):
        with pytest.raises(AssertionError):
            check(wrong, case, *inputs)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"dy": np.ones((2, 7), np.float32)}, r"dy has shape \(2, 7\), expected x's \(2, 8\)"),
        ({"dy": np.ones((2, 8), np.float16)}, "dy has dtype float16, expected x's float32"),
        ({"w": np.ones(7, np.float32)}, r"w has shape \(7,\), expected \(8,\)"),
        ({"dresidual": np.ones((1, 8), np.float32)}, r"dresidual has shape \(1, 8\)"),
        ({"eps": -1.0}, "opts.eps is -1, expected at least 0"),
        ({"x": np.ones((2, 8))}, "x has dtype float64, expected float32, float16 or bfloat16"),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    out = np.full((2, 8), 7, np.float32)
    ones = np.ones((2, 8), np.float32)
    call = {"dy": ones, "x": ones, "w": np.ones(8, np.float32), "out": out} | arguments
    with pytest.raises(ValueError, match="norm_backward: " + message):
        aiter.rms_norm_backward(**call)
    assert (out == 7).all()
