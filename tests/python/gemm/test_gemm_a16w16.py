"""gemm_a16w16: every row on every case, for every instruction set."""

import aiter
import cases_gemm_a16w16 as cases
import numpy as np
import pytest
from aiter.testing import assert_close, dtype_of, isas, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("gemm_a16w16"), ids="-".join)
def row(request):
    with using("gemm_a16w16", *request.param):
        yield request.param[0]


def gemm(row, x, *args, **options):
    """aiter.gemm_a16w16; None, having checked the refusal, where the row is not for so many rows."""
    if row == "cpu_gemv" and x.size // max(x.shape[-1], 1) > 4:
        with pytest.raises(NotImplementedError, match="cpu_gemv: refused, needs p.m <= 4"):
            aiter.gemm_a16w16(x, *args, **options)
        return None
    return aiter.gemm_a16w16(x, *args, **options)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case, row):
    x, w, bias = cases.make(case)
    dtype = dtype_of(case.get("out", case.dtype))
    got = gemm(row, x, w, bias, dtype.name)
    if got is None:
        return
    assert got.dtype == dtype
    with np.errstate(invalid="ignore"):
        want = cases.reference(x, w, bias)
    assert_close(got, want, terms=case.k, scale=cases.magnitude(x, w, bias))


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_leading_dimensions_and_out(row, dtype):
    """A is (2, 2, K) of a wider tensor, the result a slice of a fused one; the rest stays."""
    rng = np.random.default_rng(1)
    w = rng.standard_normal((50, 40)).astype(dtype_of(dtype))
    x = rng.standard_normal((2, 3, 44)).astype(w.dtype)[:, 1:, :40]
    fused = np.full((2, 2, 80), 7, np.float32)
    aiter.gemm_a16w16(x, w, otype="float32", out=fused[..., 10:60])
    flat = x.reshape(4, 40)
    assert_close(
        fused[..., 10:60], cases.reference(flat, w).reshape(2, 2, 50), terms=40,
        scale=cases.magnitude(flat, w).reshape(2, 2, 50),
    )  # fmt: skip
    assert (fused[..., :10] == 7).all() and (fused[..., 60:] == 7).all()


@pytest.mark.parametrize("isa", isas())
def test_threads_agree(isa):
    rng = np.random.default_rng(2)
    for m, n, k in ((1, 500, 300), (40, 200, 576), (270, 30, 1100)):
        x, w = rng.standard_normal((m, k), np.float32), rng.standard_normal((n, k), np.float32)
        with using(isa=isa, threads=1):
            one = aiter.gemm_a16w16(x, w)
        for threads in (2, 5):
            with using(isa=isa, threads=threads):
                np.testing.assert_array_equal(aiter.gemm_a16w16(x, w), one)


def test_explain():
    x, w = np.ones((5, 8), np.float32), np.ones((20, 8), np.float32)
    text = aiter.explain(aiter.gemm_a16w16, x[:4], w)
    assert text.startswith("gemm_a16w16: cpu_gemv on cpu (")
    text = aiter.explain(aiter.gemm_a16w16, x, w)
    assert text.startswith("gemm_a16w16: cpu_simd on cpu (")
    assert "cpu_gemv: refused, needs p.m <= 4" in text


def test_nan_stays_in_its_row_and_column(row):
    x, w = np.ones((4, 40), np.float32), np.ones((50, 40), np.float32)
    x[3, 39] = np.nan
    w[49, 0] = np.nan
    y = aiter.gemm_a16w16(x, w)
    bad = np.zeros((4, 50), bool)
    bad[3] = bad[:, 49] = True
    np.testing.assert_array_equal(np.isnan(y), bad)


def test_the_bound_would_notice():
    """Negative controls: a gain of 1 %, a dropped tail."""
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((4, 128), np.float32), rng.standard_normal((20, 128), np.float32)
    want, scale = cases.reference(x, w), cases.magnitude(x, w)
    assert_close(want.astype(np.float32), want, terms=128, scale=scale)
    for wrong in (want * 1.01, cases.reference(x[:, :120], w[:, :120])):
        with pytest.raises(AssertionError):
            assert_close(wrong.astype(np.float32), want, terms=128, scale=scale)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"B": np.ones((20, 7), np.float32)}, "w has shape .20, 7., expected .any, 8."),
        ({"B": np.ones((20, 8), np.float16)}, "w has dtype float16, expected x's float32"),
        ({"A": np.ones((2, 8))}, "x has dtype float64, expected float32, float16 or bfloat16"),
        ({"A": np.ones((2, 16), np.float32)[:, ::2]}, "x has last stride 2, expected 1"),
        ({"B": np.ones((20, 16), np.float32)[:, ::2]}, "w has last stride 2, expected 1"),
        ({"bias": np.ones(19, np.float32)}, "bias has shape .19,., expected .20,."),
        ({"bias": np.ones(20, np.float16)}, "bias has dtype float16, expected x's float32"),
        ({"out": np.ones((3, 20), np.float32)}, "y differs from the expected shape"),
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(v),
)
def test_bad_input(arguments, message):
    out = np.full((2, 20), 7, np.float32)
    call = {"A": np.ones((2, 8), np.float32), "B": np.ones((20, 8), np.float32), "out": out}
    with pytest.raises(ValueError, match="gemm_a16w16: " + message):
        aiter.gemm_a16w16(**(call | arguments))
    assert (out == 7).all()
