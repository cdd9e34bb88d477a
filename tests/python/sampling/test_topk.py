"""topk and top_k_per_row_*: every row on every case, for every instruction set, exactly."""

import aiter
import cases_topk as cases
import numpy as np
import pytest
from aiter.testing import assert_equal, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("topk"), ids="-".join)
def row(request):
    with using("topk", *request.param):
        yield request.param


def skip_slow(case, row):
    where, place = row
    on_cpu = ":" not in place
    if where == "cpu_ref" and case.k * case.n * case.rows > 1 << 24:
        pytest.skip("the plain row takes k passes")
    if not on_cpu and (
        case.get("place") == "cpu" or place.startswith("hip") and case.rows * case.n > 12000
    ):
        pytest.skip("for the emulator")


def options(case):
    return {name: case[name] for name in ("largest", "sorted") if name in case}


@pytest.mark.parametrize("values", ["normal", "ties"])
@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("k", [512, 1000, 2048])
@pytest.mark.parametrize("row", [r for r in variants("topk") if "cuda" in r[1]] or [None])
def test_rows_that_blocks_share(row, k, sort, values):
    if row is None:
        pytest.skip("for NVIDIA GPUs")
    for rows, n, dtype in ((1, 128000, "fp32"), (40, 8200, "bf16"), (2, 4100, "int32")):
        x = cases.make(cases._case("", n=n, k=k, rows=rows, dtype=dtype, values=values))
        want = cases.reference(x, k, sorted=sort)
        with using("topk", *row):
            got = aiter.topk(x, k, sorted=sort)
        for a, b in zip(got, want, strict=True):
            assert_equal(a, b)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_topk(case, row):
    skip_slow(case, row)
    x = cases.make(case)
    values, indices = aiter.topk(x, case.k, **options(case))
    want_values, want_indices = cases.reference(x, case.k, **options(case))
    assert_equal(indices, want_indices)
    assert values.tobytes() == want_values.tobytes()  # -0 and NaN as they are


@pytest.mark.parametrize("shape", [(5, 6, 7), (7, 300), (2, 3, 2, 5)])
@pytest.mark.parametrize("contiguous", [True, False])
def test_any_dimension(shape, contiguous, row):
    x = np.random.default_rng(1).integers(-9, 9, shape).astype(np.float32)
    if not contiguous:
        x = x.T if x.ndim < 4 else x[:, :, ::-1].repeat(2, -1)[..., ::2]
    for dim in range(-1, x.ndim):
        k = min(4, x.shape[dim])
        values, indices = aiter.topk(x, k, dim)
        moved = np.moveaxis(x, dim, -1)
        want_values, want = cases.reference(moved.reshape(-1, moved.shape[-1]), k)
        shape_k = (*moved.shape[:-1], k)
        assert_equal(indices, np.moveaxis(want.reshape(shape_k), -1, dim))
        assert_equal(values, np.moveaxis(want_values.reshape(shape_k), -1, dim))


RANGES = [(0, 300), (0, 0), (5, 5), (9, 3), (3, 14), (17, 300), (250, 400), (-7, 12), (299, 300)]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("sorted", [True, False])
def test_ranges(dtype, index, sorted, row):
    """Rows of all lengths, beginning anywhere; what is outside is poison."""
    starts, ends = (np.array(b, index) for b in zip(*RANGES, strict=True))
    x = cases.make(cases._case("", rows=len(RANGES), dtype=dtype))
    want = cases.reference(x, 20, True, sorted, starts, ends)
    for r, (begin, end) in enumerate(RANGES):
        x[r, : max(begin, 0)] = np.nan
        x[r, max(end, begin, 0) :] = np.inf
    values, indices = aiter.top_k_per_row_prefill(
        x, starts, ends, 20, sorted=sorted, with_values=True
    )
    assert_equal(indices, want[1].astype(np.int32))
    assert_equal(values, want[0])
    assert_equal(aiter.top_k_per_row_prefill(x, starts, ends, 20, sorted=sorted), indices)


@pytest.mark.parametrize("next_n", [1, 2, 3, 4])
def test_decode(next_n, row):
    lengths = np.array([200, 1, 2, 7, 40, 0], np.int32)
    x = cases.make(cases._case("", rows=6 * next_n, n=200))
    ends = np.repeat(lengths, next_n) - next_n + 1 + np.tile(np.arange(next_n), 6)
    _, want = cases.reference(x, 16, True, False, np.zeros_like(ends), ends)
    x = np.where(np.arange(200) < ends[:, None], x, np.nan).astype(np.float32)
    assert_equal(aiter.top_k_per_row_decode(x, next_n, lengths, 16), want.astype(np.int32))


@pytest.mark.parametrize("length", [8, 2047, 2048, 2049, 20000, 128000])
def test_sparse_attention_lengths(length):
    """k = 2048 at the lengths of sparse attention, against a whole sort."""
    x = cases.make(cases._case("", rows=2, n=length))
    ends = np.array([length, max(1, length - 100)], np.int32)
    got = aiter.top_k_per_row_decode(x, 1, ends)
    _, want = cases.reference(x, 2048, True, False, None, ends)
    assert_equal(got, want.astype(np.int32))


def test_nothing_else_is_written(row):
    """Outputs with strides, between canaries."""
    x = cases.make(cases._case("", rows=3, n=40))
    values, indices = np.full((3, 2, 11), 7, np.float32), np.full((3, 2, 11), 7, np.int32)
    aiter.topk(x, 5, out=(values[:, 0, 1:11:2], indices[:, 0, 1:11:2]))
    want = cases.reference(x, 5)
    assert_equal(values[:, 0, 1:11:2], want[0])
    assert_equal(indices[:, 0, 1:11:2], want[1].astype(np.int32))
    for kept in (values, indices):
        kept[:, 0, 1:11:2] = 7
        assert (kept == 7).all()


def test_rows_and_threads_do_not_matter():
    x = cases.make(cases._case("", rows=9, n=20000))
    want = aiter.topk(x, 100)
    for r in range(9):
        assert_equal(aiter.topk(x[r], 100)[1], want[1][r])
    with using(threads=1):
        assert_equal(aiter.topk(x, 100)[1], want[1])


def test_far_apart(tmp_path):
    """Rows more than 2^32 elements apart, in a sparse file."""
    apart = 2**32 + 64
    memory = np.memmap(tmp_path / "x", np.float32, "w+", shape=apart + 40)
    x = np.lib.stride_tricks.as_strided(memory, (2, 40), (4 * apart, 4))
    x[:] = cases.make(cases._case("", rows=2, n=40))
    assert_equal(aiter.topk(x, 6)[1], cases.reference(x, 6)[1])


F = np.float32


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"x": np.ones((2, 8))}, "x has dtype float64"),
        ({"x": np.float32(1).reshape(())}, "x has rank 0"),
        ({"dim": 2}, "opts.dim is 2, expected -2 to 1"),
        ({"k": 9, "out": None}, "indices asks for k = 9, expected at most x's 8"),
        ({"out": (np.zeros((2, 3), F), np.zeros((3, 3), np.int64))}, "indices has extent 3 in"),
        ({"out": (np.zeros((2, 4), F), np.zeros((2, 3), np.int64))}, r"values has shape \(2, 4\)"),
        ({"out": (np.zeros((2, 3)), np.zeros((2, 3), np.int64))}, "values has dtype float64"),
        ({"row_starts": np.zeros(2, np.int32)}, "row_ends is NULL"),
        ({"row_ends": np.zeros(3, np.int32)}, r"row_ends has shape \(3,\), expected \(2,\)"),
        ({"row_ends": np.zeros(2, F)}, "row_ends has dtype float32"),
    ],
)
def test_bad_input(arguments, message):
    out = np.full((2, 3), 7, F), np.full((2, 3), 7, np.int64)
    with pytest.raises(ValueError, match="topk: " + message):
        aiter.topk(**{"x": np.ones((2, 8), F), "k": 3, "out": out} | arguments)
    assert (out[0] == 7).all() and (out[1] == 7).all()


def test_bad_next_n():
    x = np.ones((3, 8), F)
    with pytest.raises(ValueError, match="x has 3 rows, expected a multiple of next_n = 2"):
        aiter.top_k_per_row_decode(x, 2, np.ones(1, np.int32), 4)
    with pytest.raises(ValueError, match="opts.next_n is 0, expected at least 1"):
        aiter.top_k_per_row_decode(x, 0, np.ones(3, np.int32), 4)
