"""flash_attn_varlen and flash_attn: every row on every case, for every instruction set."""

import aiter
import cases_flash_attn_varlen as cases
import numpy as np
import pytest
from aiter.testing import Case, assert_close, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
OP = "flash_attn_varlen"


@pytest.fixture(params=variants(OP), ids="-".join)
def row(request):
    with using(OP, *request.param):
        yield


def check(got, want):
    (out, lse), (want_out, want_lse, size, terms) = got, want
    # bf16 kernels round the weights to bf16 before the second product, as tensor cores do.
    assert_close(out, want_out, terms, scale=size * (2 if out.dtype.name == "bfloat16" else 1))
    finite = np.where(np.isfinite(want_lse), np.abs(want_lse), 0)
    assert_close(lse, want_lse, terms, scale=1 + finite, what="lse")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_flash_attn_varlen(case, row):
    call = cases.make(case)
    check(aiter.flash_attn_varlen_func(**call, return_lse=True), cases.want(call))


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.get("page") or c.get("used") or c.get("gap")], ids=str
)
def test_poisoned_slots_change_no_bit(case, row):
    """NaN and infinity in slots that are no keys, and in what out held before."""
    clean = aiter.flash_attn_varlen_func(**cases.make(case), return_lse=True)
    call = cases.make(case, poison=True)
    out, lse = (np.full_like(x, np.nan) for x in clean)
    aiter.flash_attn_varlen_func(**call, out=out, lse=lse)
    np.testing.assert_array_equal(out.view(np.uint8), clean[0].view(np.uint8))
    np.testing.assert_array_equal(lse, clean[1])


def test_keys_outside_of_every_window_are_not_read(row):
    """Their pages may be gone: table entries out of range, values NaN."""
    case = cases.case("edge", ((4, 90),), page=8, causal=True, window=(20, -1), sink_tokens=5)
    call = cases.make(case)
    want = cases.want(call)
    table = call["block_table"]
    for page in range(1, (90 - 4 - 20) // 8):  # between the sink tokens and the first window
        call["k"][table[0, page]] = call["v"][table[0, page]] = np.nan
        table[0, page] = 10**6
    check(aiter.flash_attn_varlen_func(**call, return_lse=True), want)


# Each argument changes the result, and changes it as the reference says.
BASE = cases.case("edge", ((30, 60), (50, 200)), 4, 2, page=8, dtype="fp32")
MUTATIONS = [
    {"causal": True},
    {"window_size": (10, -1, 0)},
    {"window_size": (-1, 3, 0)},
    {"window_size": (10, -1, 5)},
    {"logits_soft_cap": 0.7},
    {"softmax_scale": 0.4},
    {"sink_ptr": np.full(4, 1.5, np.float32)},
    {"cu_seqlens_q": np.array([0, 20, 80], np.int32)},
    {"cu_seqlens_k": np.array([0, 50, 200], np.int32)},
    {"cu_seqlens_k": None, "seqused_k": np.array([60, 10], np.int32)},
    {"block_table": "swapped"},
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: "-".join(m))
def test_every_argument_counts(mutation, row):
    call = cases.make(BASE)
    before = aiter.flash_attn_varlen_func(**call, return_lse=True)
    if mutation.get("block_table") is not None:
        table = call["block_table"].copy()
        table[:, [0, 1]] = table[:, [1, 0]]
        # The order of keys alone changes no sum: exchange pages of the two sequences.
        table[[0, 1], 0] = table[[1, 0], 0]
        mutation = {"block_table": table}
    call |= mutation
    after = aiter.flash_attn_varlen_func(**call, return_lse=True)
    check(after, cases.want(call))
    assert np.abs(after[0] - before[0]).max() > 1e-3
    assert np.abs(after[1] - before[1]).max() > 1e-3


@pytest.mark.parametrize("name", ["max_seqlen_q", "max_seqlen_k"])
def test_too_long_a_sequence_is_refused(name):
    call = cases.make(BASE)
    limit = {"max_seqlen_q": 50, "max_seqlen_k": 200}[name]
    aiter.flash_attn_varlen_func(**call, **{name: limit})
    with pytest.raises(ValueError, match=f"opts.{name} is {limit - 1}"):
        aiter.flash_attn_varlen_func(**call, **{name: limit - 1})


def test_the_bound_would_notice():
    """Negative control: a gain of 1 % and a dropped key must fail, in bf16 too."""
    call = cases.make(cases.case("edge", ((5, 60),)))
    out, lse, size, terms = want = cases.want(call)
    dtype = call["q"].dtype
    with pytest.raises(AssertionError):
        check(((out * 1.02).astype(dtype), lse.astype(np.float32)), want)
    with pytest.raises(AssertionError):
        check((out.astype(dtype), (lse + 1e-3).astype(np.float32)), want)
    shorter = cases.want(call | {"seqused_k": np.array([59], np.int32)})
    with pytest.raises(AssertionError):
        check((shorter[0].astype(dtype), lse.astype(np.float32)), want)


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("heads, kv_heads, causal", [(2, 2, False), (6, 2, True)])
def test_dense_batch(dtype, heads, kv_heads, causal, row):
    """flash_attn_func is flash_attn_varlen_func on sequences of one length."""
    case = cases.case("edge", ((20, 70),) * 3, heads, kv_heads, dtype=dtype, causal=causal)
    call = cases.make(case)
    out, lse = aiter.flash_attn_varlen_func(**call, return_lse=True)
    q, k, v = (call[n].reshape(3, -1, *call[n].shape[1:]) for n in "qkv")
    dense, dense_lse = aiter.flash_attn_func(q, k, v, causal=causal, return_lse=True)
    np.testing.assert_array_equal(dense.reshape(out.shape), out)
    np.testing.assert_array_equal(dense_lse, lse.reshape(heads, 3, -1).transpose(1, 0, 2))
    # (batch, heads, seqlen, head_dim) in memory, as other frameworks have it
    q, k, v = (
        np.ascontiguousarray(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3) for x in (q, k, v)
    )
    strided = np.empty((3, heads, 20, 64), q.dtype).transpose(0, 2, 1, 3)
    aiter.flash_attn_func(q, k, v, causal=causal, out=strided)
    np.testing.assert_array_equal(strided, dense)


def test_threads_agree():
    """Blocks do not depend on threads; keys split among them may round differently."""
    for seqs, exact in ((((300, 300), (40, 500)), True), (((1, 3000),), False)):
        call = cases.make(cases.case("edge", seqs, 6, 2, dtype="fp32", causal=True))
        with using(threads=1):
            one = aiter.flash_attn_varlen_func(**call, return_lse=True)
        with using(threads=3):
            three = aiter.flash_attn_varlen_func(**call, return_lse=True)
        for a, b in zip(one, three, strict=True):
            np.testing.assert_allclose(a, b, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-6)


@pytest.mark.parametrize("seqlen_k", [100, 5000])
@pytest.mark.parametrize("threads", [2, 5])
def test_split_keys(seqlen_k, threads):
    """One block of queries: its keys are split among the threads."""
    case = cases.case(
        "edge", ((3, seqlen_k), (0, 4), (1, 1)), 3, 1, dtype="fp32", causal=True, sink=True, page=16
    )
    call = cases.make(case)
    with using(threads=threads):
        check(aiter.flash_attn_varlen_func(**call, return_lse=True), cases.want(call))


def small(**changes):
    call = {
        "q": np.ones((4, 2, 8), np.float32),
        "k": np.ones((6, 2, 8), np.float32),
        "v": np.ones((6, 2, 8), np.float32),
        "cu_seqlens_q": np.array([0, 1, 4], np.int32),
        "cu_seqlens_k": np.array([0, 2, 6], np.int32),
    }
    return call | changes


PAGED = {
    "k": np.ones((3, 2, 2, 8), np.float32),
    "v": np.ones((3, 2, 2, 8), np.float32),
    "block_table": np.array([[0, 9], [1, 2]], np.int32),
}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"q": np.ones((4, 16), np.float32)}, r"q has rank 2 \(shape \(4, 16\)\), expected rank 3"),
        ({"q": np.ones((4, 3, 8), np.float32)}, "k has 2 heads, expected a divisor of q's 3"),
        ({"k": np.ones((6, 2, 9), np.float32)}, "k has head_dim 9, expected q's 8"),
        ({"v": np.ones((5, 2, 8), np.float32)}, "v has extent 5 in dimension 0, expected k's 6"),
        ({"v": np.ones((6, 2, 8), np.float16)}, "v has dtype float16, expected k's float32"),
        ({"q": np.ones((4, 2, 8), np.float16)}, "k has dtype float32, expected q's float16"),
        ({"q": np.ones((4, 2, 16), np.float32)[..., ::2]}, "q has last stride 2, expected 1"),
        ({"out": np.ones((4, 2, 9), np.float32)}, "out has extent 9 in dimension 2, expected 8"),
        ({"lse": np.ones((4, 2), np.float32)}, r"lse has shape \(4, 2\), expected \(2, 4\)"),
        (
            {"cu_seqlens_q": np.array([0, 3, 2], np.int32)},
            r"cu_seqlens_q\[2\] is 2, expected at least the 3",
        ),
        ({"cu_seqlens_q": np.array([-1, 3, 4], np.int32)}, r"cu_seqlens_q\[0\] is -1"),
        (
            {"cu_seqlens_q": np.array([0, 3, 5], np.int32)},
            "cu_seqlens_q ends at 5, expected at most the 4 rows",
        ),
        (
            {"cu_seqlens_k": np.array([0, 3, 7], np.int32)},
            "cu_seqlens_k ends at 7, expected at most the 6 rows",
        ),
        (
            {"cu_seqlens_k": np.array([0, 3], np.int32)},
            r"cu_seqlens_k has shape \(2,\), expected \(3,\)",
        ),
        ({"cu_seqlens_q": np.array([0, 1, 4])}, "cu_seqlens_q has dtype int64, expected int32"),
        ({"cu_seqlens_k": None}, "cu_seqlens_k is NULL"),
        ({"seqused_k": np.array([3, 1], np.int32)}, "sequence 0 has 3 keys, expected 0 to 2"),
        ({"seqused_k": np.array([1, -1], np.int32)}, "sequence 1 has -1 keys, expected 0 to 4"),
        (PAGED, r"block_table\[0, 1\] is 9, expected 0 to 2"),
        (
            PAGED | {"seqused_k": np.array([2, 4], np.int32)},
            "cu_seqlens_k and seqused_k are both given",
        ),
        (
            PAGED | {"cu_seqlens_k": np.array([0, 2, 7], np.int32)},
            "sequence 1 has 5 keys, expected 0 to 4",
        ),
        ({"softmax_scale": float("nan")}, "opts.softmax_scale is nan"),
        ({"logits_soft_cap": -1.0}, "opts.logits_soft_cap is -1, expected 0 or more"),
        ({"window_size": (-2, 0)}, r"opts.window is \(-2, 0\), expected -1 or more"),
        ({"window_size": (3, 0, -1)}, "opts.sink_tokens is -1, expected 0 or more"),
        ({"sink_ptr": np.ones(3, np.float32)}, r"sink has shape \(3,\), expected \(2,\)"),
    ],
    ids=lambda x: x if isinstance(x, str) else None,
)
def test_bad_input(changes, message):
    call = {"out": np.full((4, 2, 8), 7, np.float32)} | small(**changes)
    if changes is PAGED:
        call["cu_seqlens_k"] = np.array([0, 3, 7], np.int32)
    before = call["out"].copy()
    with pytest.raises(ValueError, match=f"{OP}: {message}"):
        aiter.flash_attn_varlen_func(**call)
    np.testing.assert_array_equal(call["out"], before)


def test_softmax_scale_0_is_refused():
    with pytest.raises(ValueError, match="softmax_scale is 0"):
        aiter.flash_attn_varlen_func(**small(softmax_scale=0.0))


def test_strides_over_2_31_elements():
    """A view whose rows lie far apart; only the pages that are touched exist."""
    try:
        pool = np.lib.stride_tricks.as_strided(
            np.zeros(3 * 2**31 + 64, np.float16), (4, 1, 64), (2**32, 128, 2)
        )
    except MemoryError:
        pytest.skip("not enough address space")
    case = Case("edge", seqs=((2, 4),), heads=1, kv_heads=1, head_dim=64, dtype="fp16")
    call = cases.make(case)
    pool[...] = call["k"]
    want = cases.want(call)
    call["k"] = pool
    check(aiter.flash_attn_varlen_func(**call, return_lse=True), want)
