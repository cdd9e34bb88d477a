"""fused_qk_rmsnorm: the same as its two parts, each within the bound of its norm."""

import aiter
import cases_norm_quant
import cases_qk_rmsnorm as cases
import cases_rmsnorm
import numpy as np
import pytest
from aiter import Quant
from aiter.testing import assert_close, assert_equal, using, variants
from test_norm_quant import assert_bits, check_codes

CASES = [c for c in cases.CASES if c.tag != "perf"]


@pytest.fixture(params=variants("qk_rmsnorm"), ids="-".join)
def row(request):
    with using("qk_rmsnorm", *request.param):
        yield


def results(q, options, **more):
    """Results by name."""
    result = aiter.fused_qk_rmsnorm(q, **options, **more)
    result = list(result) if isinstance(result, tuple) else [result]
    named = {"q": result.pop(0)}
    if options["quant"]:
        named["scale"] = result.pop(0)
    if "unquantized" in more:
        named["v"] = result.pop(0)
    if "q_residual" in options:
        named["residual"] = result.pop(0)
    if "k" in options:
        named["k"] = result.pop(0)
    assert not result
    return named


@pytest.mark.parametrize("case", CASES, ids=str)
def test_fused_qk_rmsnorm(case, row):
    q, options = cases.make(case)
    got = results(q, options, **({"unquantized": "float32"} if options["quant"] else {}))
    want, scale, residual = cases_norm_quant.norm(
        q,
        options["q_weight"],
        eps=options["q_epsilon"],
        residual_in=options.get("q_residual"),
        gemma_norm=options["gemma_norm"],
    )
    if residual is not None:
        assert_equal(got["residual"], residual)
    if options["quant"]:
        assert_close(got["v"], want, terms=case.q, scale=scale)
        if case.rows:
            check_codes(got["q"], got["scale"], got["v"], None, options["quant"])
    else:
        assert_close(got["q"], want, terms=case.q, scale=scale)
    if case.k:
        want = cases_rmsnorm.reference(
            options["k"], options["k_weight"], options["k_epsilon"], options["gemma_norm"], 0
        )
        assert_close(got["k"], want, terms=case.k)


def test_given_outputs_in_place(row):
    case = cases.Case("", rows=5, q=128, k=64, residual=True)
    q, options = cases.make(case)
    want = results(q, options)
    k, residual = options["k"], options["q_residual"]
    got = results(q, options, q_out=q, q_res_out=residual, k_out=k)
    assert got["q"] is q and got["residual"] is residual and got["k"] is k
    for name, result in want.items():
        assert_bits(got[name], result, name)


def test_every_argument_matters(row):
    q, options = cases.make(cases.Case("", rows=4, q=64, k=32, residual=True, dtype="fp32"))
    plain = results(q, options)
    for name, change in (
        ("q", {"q_weight": None}),
        ("q", {"q_epsilon": 1.0}),
        ("q", {"q_residual": q}),
        ("q", {"gemma_norm": True}),
        ("k", {"k": 2 * options["k"] + 1}),
        ("k", {"k_weight": None}),
        ("k", {"k_epsilon": 1.0}),
        ("k", {"gemma_norm": True}),
    ):
        got = results(q, options | change)
        assert not np.array_equal(got[name], plain[name]), change


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"q_weight": np.ones(7, np.float32)}, r"q: w has shape \(7,\), expected \(8,\)"),
        ({"k_weight": np.ones(7, np.float32)}, r"k: w has shape \(7,\), expected \(4,\)"),
        ({"k": np.ones((3, 4), np.float32)}, "k has 3 rows, expected q's 2"),
        ({"k": np.ones((2, 4), np.float16)}, "k has dtype float16, expected q's float32"),
        ({"k_epsilon": -1.0}, "k: opts.eps is -1, expected at least 0"),
        ({"unquantized": "float32"}, "q_unquantized is given, expected NULL without opts.quant"),
        ({"quant": Quant("int8", 5)}, "group_cols is 5, expected 0"),
    ],
    ids=str,
)
def test_bad_input(arguments, message):
    q_out = np.full((2, 8), 7, np.float32)
    call = {"q": np.ones((2, 8), np.float32), "k": np.ones((2, 4), np.float32)} | arguments
    if "quant" not in arguments:
        call["q_out"] = q_out
    with pytest.raises(ValueError, match="qk_rmsnorm: .*" + message):
        aiter.fused_qk_rmsnorm(**call)
    assert (q_out == 7).all()
