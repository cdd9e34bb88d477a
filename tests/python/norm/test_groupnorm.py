"""groupnorm_run: every row on every case, for every instruction set."""

import aiter
import cases_groupnorm as cases
import numpy as np
import pytest
from aiter.testing import assert_close, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("groupnorm"), ids="-".join)
def row(request):
    with using("groupnorm", *request.param):
        yield


def check(got, want, scale, case):
    terms = int(np.prod(case.shape[1:])) // case.groups
    assert_close(got, want, terms=max(terms, 1), scale=np.where(np.isfinite(scale), scale, 0))


def run(x, w, b, num_groups, **options):
    return aiter.groupnorm_run(x, num_groups, w, b, **options)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_groupnorm(case, row):
    x, w, b = cases.make(case)
    options = cases.options(case)
    check(run(x, w, b, **options), *cases.reference(x, w, b, **options), case)


@pytest.mark.parametrize("last", [0, 1])
def test_in_place(last, row):
    case = cases.Case("", shape=(2, 8, 6, 8), groups=2, dtype="fp32", last=last)
    x, w, b = cases.make(case)
    options = cases.options(case)
    want = cases.reference(x, w, b, **options)
    assert run(x, w, b, **options, out=x) is x
    check(x, *want, case)


@pytest.mark.parametrize("shape", [(2, 8, 6, 8), (2, 6, 5, 7), (1, 16, 3000), (2, 4, 0)], ids=str)
@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("last", [0, 1])
def test_residual(shape, dtype, last, row):
    """The sum rounded to the dtype, and the norm of that, bit by bit."""
    case = cases.Case("", shape=shape, groups=2, dtype=dtype, last=last, silu=True)
    x, w, b = cases.make(case)
    residual = cases.make(case, seed=1)[0]
    options = cases.options(case)
    sums = (x.astype(np.float32) + residual.astype(np.float32)).astype(x.dtype)
    want = run(sums, w, b, **options)
    options["weight"], options["bias"] = w, b
    y, out = aiter.groupnorm_run_with_add(x, residual, **options)
    np.testing.assert_array_equal(out, sums)
    np.testing.assert_array_equal(y, want)
    # in place
    y, out = aiter.groupnorm_run_with_add(x, residual, **options, out=x, residual_out=residual)
    assert y is x and out is residual
    np.testing.assert_array_equal(out, sums)
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("last", [0, 1])
def test_images_do_not_depend_on_batch(last, row):
    """Nor on how full it makes a GPU, which could be shared in other ways."""
    shape = (36, 132, 256) if last else (36, 256, 132)
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float16)
    whole = run(x, None, None, 16, channels_last=bool(last))
    for i in (0, 35):
        alone = run(x[i : i + 1], None, None, 16, channels_last=bool(last))
        np.testing.assert_array_equal(alone[0].view(np.uint16), whole[i].view(np.uint16))


def test_residual_into_x(row):
    x, residual = np.random.default_rng(1).standard_normal((2, 2, 8, 500)).astype(np.float32)
    sums = x + residual
    y, out = aiter.groupnorm_run_with_add(x, residual, 2, residual_out=x)
    assert out is x
    np.testing.assert_array_equal(x, sums)
    np.testing.assert_array_equal(y, aiter.groupnorm_run(sums, 2))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"residual_in": np.ones((2, 8, 5), np.float32)}, r"residual_in has shape \(2, 8, 5\)"),
        ({"residual_in": np.ones((2, 8, 4), np.float16)}, "residual_in has dtype float16"),
        ({"residual_out": np.ones((2, 8, 5), np.float32)}, r"residual_out has shape \(2, 8, 5\)"),
    ],
    ids=str,
)
def test_bad_residual(arguments, message):
    out = np.full((2, 8, 4), 7, np.float32)
    ones = np.ones((2, 8, 4), np.float32)
    call = {"x": ones, "residual_in": ones, "num_groups": 2, "out": out} | arguments
    with pytest.raises(ValueError, match="add_groupnorm: " + message):
        aiter.groupnorm_run_with_add(**call)
    assert (out == 7).all()


@pytest.mark.parametrize("last", [False, True])
def test_groups_and_images_do_not_mix(last, row):
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 8)).astype(np.float32)
    clean = aiter.groupnorm_run(x, 2, channels_last=last)
    x[(0, 3, 3, 0) if last else (0, 0, 3, 3)] = np.nan
    got = aiter.groupnorm_run(x, 2, channels_last=last)
    np.testing.assert_array_equal(got[1], clean[1])
    others = np.s_[0, ..., 4:] if last else np.s_[0, 4:]
    np.testing.assert_array_equal(got[others], clean[others])
    assert np.isnan(got[0, ..., :4] if last else got[0, :4]).all()


def test_every_argument_matters(row):
    case = cases.Case("", shape=(2, 8, 8, 8), groups=2, dtype="fp32", last=0)
    x, w, b = cases.make(case)
    base = {"x": x, "num_groups": 2, "weight": w, "bias": b}
    plain = aiter.groupnorm_run(**base)
    for change in ({"num_groups": 4}, {"weight": None}, {"bias": None}, {"eps": 1.0},
                   {"channels_last": True}, {"silu": True}):  # fmt: skip
        assert not np.array_equal(aiter.groupnorm_run(**base | change), plain), change


@pytest.mark.parametrize("last", [False, True])
def test_many_threads_agree(last):
    x = np.random.default_rng(3).standard_normal((2, 64, 64, 64)).astype(np.float32)
    with using(threads=1):
        one = aiter.groupnorm_run(x, 4, channels_last=last)
    with using(threads=3):
        np.testing.assert_array_equal(aiter.groupnorm_run(x, 4, channels_last=last), one)


def test_the_bound_would_notice():
    """Negative control: a gain of 1 % must fail."""
    case = cases.CASES[0]
    x, w, b = cases.make(case)
    want, scale = cases.reference(x, w, b, **cases.options(case))
    check(want.astype(np.float32), want, scale, case)
    with pytest.raises(AssertionError):
        check((want * 1.01).astype(np.float32), want, scale, case)


@pytest.mark.parametrize("arguments, message", cases.BAD_INPUT, ids=str)
def test_bad_input(arguments, message):
    out = np.full((2, 8, 4), 7, np.float32)
    call = {"x": np.ones((2, 8, 4), np.float32), "num_groups": 2, "out": out} | arguments
    with pytest.raises(ValueError, match="groupnorm: " + message):
        aiter.groupnorm_run(**call)
    assert (out == 7).all()
