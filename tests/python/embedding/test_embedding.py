"""embedding: every row on every case, for every instruction set, exactly."""

import aiter
import cases_embedding as cases
import numpy as np
import pytest
from aiter.testing import assert_equal, dtype_of, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("embedding"), ids="-".join)
def row(request):
    with using("embedding", *request.param):
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
def test_embedding(case, row):
    ids, table, scale = cases.make(case)
    dtype = dtype_of(case.out)
    got = aiter.embedding(ids, table, scale, dtype=dtype.name)
    assert_equal(got, cases.reference(ids, table, scale, dtype))


@pytest.mark.parametrize("isa", [isa for row, isa in variants("embedding") if row == "cpu_simd"])
def test_more_than_the_caches(isa):
    case = cases._case("", ids=(5000,), vocab=60, hidden=2047)
    ids, table, _ = cases.make(case)
    with using("embedding", "cpu_simd", isa):
        got = aiter.embedding(ids, table, dtype="bfloat16")
    assert_equal(got, table[ids])


def test_default_dtypes():
    ids = np.zeros(1, np.int32)
    for table, dtype in (("fp32", "float32"), ("fp16", "float16"), ("int8", "bfloat16")):
        _, table, scale = cases.make(cases._case("", table=table))
        assert aiter.embedding(ids, table, scale).dtype.name == dtype


def test_strides(row):
    """Rows of a wider table, a scale inside of a wider one, ids and out with gaps."""
    case = cases._case("", table="int8", out="fp32")
    ids, table, scale = cases.make(case)
    want = cases.reference(ids, table, scale, np.float32)
    table = np.concatenate([table, table], axis=1)[:, : case.hidden]
    scale = np.repeat(scale, 2, axis=0)[::2]
    out = np.full((len(ids), 2, case.hidden + 5), 7, np.float32)
    aiter.embedding(np.repeat(ids, 2)[::2], table, scale, out=out[:, 0, : case.hidden])
    assert_equal(out[:, 0, : case.hidden], want)
    assert (out[:, 1] == 7).all() and (out[:, 0, case.hidden :] == 7).all()


def test_q8_0_blocks_of_gguf():
    """A GGUF Q8_0 row, as the gguf package dequantizes it."""
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType.Q8_0
    values = np.random.default_rng(3).standard_normal((11, 64)).astype(np.float32)
    blocks = gguf.quantize(values, kind)
    parts = blocks.reshape(11, 2, 34)
    scale = parts[..., :2].copy().view(np.float16)[..., 0]
    codes = parts[..., 2:].copy().view(np.int8).reshape(11, 64)
    got = aiter.embedding(np.arange(11), codes, scale, dtype="float32")
    assert_equal(got, gguf.dequantize(blocks, kind))


GOOD = {
    "ids": np.zeros(3, np.int64),
    "table": np.ones((10, 8), np.int8),
    "scale": np.ones((10, 2), np.float32),
}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"ids": np.array([1, 2, 10])}, "ids has 10 at flat index 2, expected less than 10"),
        ({"ids": np.zeros(3, np.uint8)}, "ids has dtype uint8, expected int32 or int64"),
        ({"ids": np.zeros(4, np.int64)}, "out has extent 3 in dimension 0, expected 4"),
        ({"table": np.ones((10, 8), np.uint8)}, "table has dtype uint8"),
        ({"table": np.ones(10, np.int8)}, "table has rank 1"),
        ({"table": np.ones((10, 16), np.int8)[:, ::2]}, "table has last stride 2, expected 1"),
        ({"scale": None}, "scale is NULL, expected a tensor as table is int8"),
        ({"scale": np.ones((10, 3), np.float32)}, "scale has 3 groups, expected a divisor of hidden = 8"),
        ({"scale": np.ones((10, 0), np.float32)}, "scale has 0 groups"),
        ({"scale": np.ones((9, 2), np.float32)}, r"scale has shape \(9, 2\), expected \(10, any\)"),
        ({"table": np.ones((10, 8), np.float32)}, "scale is given, expected NULL unless table is int8"),
    ],
)  # fmt: skip
def test_bad_input(arguments, message):
    out = np.full((3, 8), 7, np.float32)
    with pytest.raises(ValueError, match="embedding: " + message):
        aiter.embedding(**GOOD | arguments, out=out)
    assert (out == 7).all()


def test_explain():
    function, bad = aiter.embedding, {"ids": np.full(3, 99)}
    assert aiter.explain(function, **GOOD).startswith("embedding: cpu_simd on cpu (")
    with pytest.raises(ValueError, match="has 99 at flat index 0"):  # as the call itself would
        aiter.explain(function, **GOOD | bad)
