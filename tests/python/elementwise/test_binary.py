"""add, sub, mul and div: every row on every case, for every instruction set, exactly."""

import itertools

import aiter
import cases_binary as cases
import numpy as np
import pytest
from aiter.testing import assert_equal, dtype_of, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("binary"), ids="-".join)
def row(request):
    with using("binary", *request.param):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_binary(case, row):
    a, b = cases.make(case)
    got = getattr(aiter, case.op)(a, b)
    want = cases.reference(a, b, case.op)
    assert got.shape == want.shape
    assert_equal(got, want)


@pytest.mark.parametrize("op", cases.OPS)
def test_in_place(op, row):
    case = cases.Case("", a="float32", b="bfloat16", shapes=((6, 1, 40), (6, 1, 1)))
    a, b = cases.make(case)
    want = cases.reference(a, b, op)
    assert getattr(aiter, op + "_")(a, b) is a
    assert_equal(a, want)


def test_in_place_rounds_to_its_dtype(row):
    a, b = cases.make(cases.Case("", a="bfloat16", b="float32", shapes=((6, 40), (40,))))
    want = cases.reference(a, b, "mul", out="bfloat16")
    aiter.mul_(a, b)
    assert_equal(a, want)


@pytest.mark.parametrize(
    "a, b, out",
    [
        ("float32", "bfloat16", "float16"),
        ("bfloat16", "bfloat16", "float32"),  # rounded to bfloat16 before
        ("int8", "int8", "int64"),  # wraps around before
        ("bool", "bool", "int32"),  # or before
        ("int64", "int32", "int8"),
        ("int32", "int32", "float64"),
        ("float64", "float32", "bfloat16"),
    ],
)
def test_out_of_another_dtype(a, b, out, row):
    a, b = cases.make(cases.Case("", a=a, b=b, shapes=((7, 40), (7, 40))))
    got = aiter.add(a, b, out=np.empty((7, 40), dtype_of(out)))
    assert_equal(got, cases.reference(a, b, "add", out))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64", "int32", "bool"])
def test_numbers(dtype, row):
    a, _ = cases.make(cases.Case("", a=dtype, b=dtype, shapes=((4, 24), ())))
    whole = {"bool": "int64"}.get(dtype, dtype)
    for number, common in ((3, whole), (2.5, "float32" if dtype in ("int32", "bool") else dtype)):
        inside = "float32" if common == "bfloat16" else common
        number_in = np.asarray(number, dtype_of(inside))
        want = np.multiply(a.astype(dtype_of(inside)), number_in).astype(dtype_of(common))
        assert_equal(aiter.mul(a, number), want)
        want = np.subtract(number_in, a.astype(dtype_of(inside))).astype(dtype_of(common))
        assert_equal(aiter.sub(number, a), want)


def test_what_surrounds_a_strided_output_stays(row):
    a, b = cases.make(cases.Case("", a="float32", b="float32", shapes=((6, 40), (6, 40))))
    memory = np.full((8, 100), 7, np.float32)
    aiter.add(a, b, out=memory[1:7, 3:83:2])
    assert_equal(memory[1:7, 3:83:2].copy(), a + b)
    memory[1:7, 3:83:2] = 7
    assert (memory == 7).all()


def test_like_torch():
    torch = pytest.importorskip("torch")
    for a, b in itertools.product(cases.DTYPES, cases.DTYPES):
        x, y = (torch.zeros(2, dtype=getattr(torch, d)) for d in (a, b))
        assert aiter.add(x, y).dtype == torch.promote_types(x.dtype, y.dtype), (a, b)
        assert aiter.div(x, y).dtype == torch.div(x, y).dtype
        for number in (2, 2.5):
            assert aiter.mul(x, number).dtype == torch.mul(x, number).dtype, (a, number)


def test_beyond_the_caches():
    a = np.random.default_rng(3).standard_normal((1 << 13, 1 << 11)).astype(np.float32)
    with using(threads=2):
        got = aiter.add(a, a[:1])
    np.testing.assert_array_equal(got, a + a[:1])


@pytest.mark.parametrize("name", ["cpu_simd", "cpu_ref"])
def test_64_bit_offsets(tmp_path, name):
    """Elements that lie gigabytes apart, in a file of holes."""
    elements = 1 << 32
    memory = np.memmap(tmp_path / "holes", np.uint8, "w+", shape=(elements,))
    far = np.lib.stride_tricks.as_strided(memory, (2, 3), (elements - 4, 1))
    far[...] = [[1, 2, 3], [4, 5, 6]]
    with using("binary", name):
        got = aiter.add(far, far[:, :1])
    assert_equal(np.asarray(got), np.array([[2, 3, 4], [8, 9, 10]], np.uint8))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x, out: aiter.add(x, x[:, :3], out=out), "b has extent 3 in dimension 1, expected"),
        (lambda x, out: aiter.add(x.astype(np.uint32), x, out=out), "a has dtype uint32, expected"),
        (
            lambda x, out: aiter.add(x.astype(np.float32), 1, out=out.astype(np.int32)),
            "y has dtype int32, expected one that can hold float32",
        ),
        (lambda x, out: aiter.sub(x > 0, x > 1, out=out), "a and b are of bool, which cannot be"),
        (lambda x, out: aiter.add_(x[0], x), "b has rank 2, expected at most y's 1"),
        (lambda x, out: aiter.add(1, 2), "a and b are NULL, expected at least one tensor"),
    ],
)
def test_bad_input(call, message):
    x, out = np.ones((2, 4), np.int64), np.full((2, 4), 7, np.float32)
    with pytest.raises(ValueError, match="binary: " + message):
        call(x, out)
    assert (out == 7).all() and (x == 1).all()
