"""paged_attention_decode: every row on every case, for every instruction set."""

import aiter
import cases_paged_attention_decode as cases
import numpy as np
import pytest
from aiter.testing import assert_close, gpus, using, variants

CASES = [c for c in cases.CASES if c.tag != "perf"]
OP = "paged_attention_decode"


@pytest.fixture(params=variants(OP), ids="-".join)
def row(request):
    with using(OP, *request.param):
        yield


def skip_if_refused(call):
    """The forced row may not accept the problem."""
    try:
        aiter.explain(aiter.paged_attention_decode, **call)
    except NotImplementedError as refusal:
        pytest.skip(str(refusal))


def check(got, want):
    (out, lse), (want_out, want_lse, size, terms) = got, want
    # bf16 kernels may round the weights to bf16 before the second product.
    assert_close(out, want_out, terms, scale=size * (2 if out.dtype.name == "bfloat16" else 1))
    finite = np.where(np.isfinite(want_lse), np.abs(want_lse), 0)
    assert_close(lse, want_lse, terms, scale=1 + finite, what="lse")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_paged_attention_decode(case, row):
    call = cases.make(case)
    skip_if_refused(call)
    check(aiter.paged_attention_decode(**call, return_lse=True), cases.want(call))


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.tag == "smoke" or "page" in c][:60], ids=str
)
def test_poisoned_slots_change_no_bit(case, row):
    """NaN and infinity in page tails, unused pages, and in what out held before."""
    clean = aiter.paged_attention_decode(**cases.make(case), return_lse=True)
    call = cases.make(case, poison=True)
    out, lse = (np.full_like(x, np.nan) for x in clean)
    aiter.paged_attention_decode(**call, out=out, lse=lse)
    np.testing.assert_array_equal(out.view(np.uint8), clean[0].view(np.uint8))
    np.testing.assert_array_equal(lse, clean[1])


def test_keys_outside_of_the_window_are_not_read(row):
    call = cases.make(cases.case("edge", (90,), page=8, window=(20, -1), sink_tokens=5))
    want = cases.want(call)
    table = call["block_tables"]
    for page in range(1, (90 - 21) // 8):  # between the sink tokens and the window
        call["key_cache"][table[0, page]] = call["value_cache"][table[0, page]] = np.nan
        table[0, page] = -7
    check(aiter.paged_attention_decode(**call, return_lse=True), want)


BASE = cases.case("edge", (60, 200), 4, 2, page=8, dtype="fp32")
MUTATIONS = [
    {"window_size": (10, -1, 0)},
    {"window_size": (10, -1, 5)},
    {"logits_soft_cap": 0.7},
    {"attn_scale": 0.4},
    {"sink_ptr": np.full(4, 1.5, np.float32)},
    {"seq_lens": np.array([60, 10], np.int32)},
    {"block_tables": "swapped"},
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: "-".join(m))
def test_every_argument_counts(mutation, row):
    call = cases.make(BASE)
    before = aiter.paged_attention_decode(**call, return_lse=True)
    if "block_tables" in mutation:
        table = call["block_tables"].copy()
        table[[0, 1], 0] = table[[1, 0], 0]
        mutation = {"block_tables": table}
    call |= mutation
    after = aiter.paged_attention_decode(**call, return_lse=True)
    check(after, cases.want(call))
    assert np.abs(after[0] - before[0]).max() > 1e-3
    assert np.abs(after[1] - before[1]).max() > 1e-3


def test_too_long_a_sequence_is_refused():
    call = cases.make(BASE)
    aiter.paged_attention_decode(**call, max_seq_len=200)
    with pytest.raises(ValueError, match="sequence 1 has 200 keys, opts.max_seqlen_k is 199"):
        aiter.paged_attention_decode(**call, max_seq_len=199)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "lengths, heads, kv_heads", [((3000,), 9, 3), ((3000, 5, 0, 700), 4, 1), ((100,) * 9, 32, 8)]
)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_keys_split_among_threads(threads, lengths, heads, kv_heads, dtype, row):
    call = cases.make(cases.case("edge", lengths, heads, kv_heads, dtype=dtype, sink=True))
    with using(threads=threads):
        check(aiter.paged_attention_decode(**call, return_lse=True), cases.want(call))


def test_decode_is_the_last_row_of_prefill():
    """The same cache through both operators, over many pages."""
    import cases_flash_attn_varlen as varlen

    call = varlen.make(varlen.case("edge", ((30, 300),), 9, 3, dtype="fp32", page=16, causal=True))
    prefill = aiter.flash_attn_varlen_func(**call)
    decode = aiter.paged_attention_decode(
        call["q"][-1:], call["k"], call["v"], np.array([300], np.int32), call["block_table"]
    )
    np.testing.assert_allclose(decode[0], prefill[-1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"query": np.ones((2, 1, 4, 8), np.float32)}, "q has rank 4"),
        ({"key_cache": np.ones((6, 2, 8), np.float32)}, "key_cache has rank 3"),
        ({"seq_lens": np.array([1, 5], np.int32)}, "sequence 1 has 5 keys, expected 0 to 4"),
        ({"seq_lens": np.array([1, -1], np.int32)}, "sequence 1 has -1 keys, expected 0 to 4"),
        (
            {"seq_lens": np.array([1, 1, 1], np.int32)},
            r"seqused_k has shape \(3,\), expected \(2,\)",
        ),
        ({"seq_lens": np.array([1, 1])}, "seqused_k has dtype int64, expected int32"),
        (
            {"block_tables": np.array([[0, -1], [1, 3]], np.int32)},
            r"block_table\[1, 1\] is 3, expected 0 to 2",
        ),
        (
            {"block_tables": np.array([[0, -1], [-1, 2]], np.int32)},
            r"block_table\[1, 0\] is -1, expected 0 to 2",
        ),
        (
            {"block_tables": np.zeros((3, 2), np.int32)},
            r"block_table has shape \(3, 2\), expected \(2, any\)",
        ),
        (
            {"value_cache": np.ones((3, 3, 2, 8), np.float32)},
            "value_cache has extent 3 in dimension 1",
        ),
        ({"attn_scale": float("inf")}, "opts.softmax_scale is inf"),
    ],
    ids=lambda x: x if isinstance(x, str) else None,
)
def test_bad_input(changes, message):
    call = {
        "query": np.ones((2, 4, 8), np.float32),
        "key_cache": np.ones((3, 2, 2, 8), np.float32),
        "value_cache": np.ones((3, 2, 2, 8), np.float32),
        "seq_lens": np.array([2, 4], np.int32),
        "block_tables": np.array([[0, -1], [1, 2]], np.int32),
        "out": np.full((2, 4, 8), 7, np.float32),
    } | changes
    with pytest.raises(ValueError, match=f"{OP}: {message}"):
        aiter.paged_attention_decode(**call)
    assert (call["out"] == 7).all()


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_splits_of_long_keys(row, dtype):
    """Few long sequences: GPUs split their keys among blocks, the same way in every run."""
    call = cases.make(cases.case("edge", (700, 3, 0, 257), page=16, dtype=dtype))
    skip_if_refused(call)
    got = aiter.paged_attention_decode(**call, return_lse=True)
    check(got, cases.want(call))
    again = aiter.paged_attention_decode(**call, return_lse=True)
    for one, other in zip(got, again, strict=True):
        np.testing.assert_array_equal(one.view(np.uint8), other.view(np.uint8))


@pytest.mark.parametrize("device", gpus())
def test_workspace(device):
    call = cases.make(cases.case("edge", (700,), page=16, dtype="bf16"))
    arrays = {k: aiter.to_device(v, device) if isinstance(v, np.ndarray) else v
              for k, v in call.items()}  # fmt: skip
    out = aiter.zeros(call["query"].shape, "bfloat16", device)
    tensors = [arrays[k] for k in ("query", "key_cache", "value_cache", "block_tables")]
    size = aiter.paged_attention_decode_workspace(*tensors, out)
    assert size > 0 and aiter.paged_attention_decode_workspace(*tensors, out, 100) == 0
    want = aiter.to_device(aiter.paged_attention_decode(**arrays), "cpu").numpy()
    workspace = aiter.empty(size, "uint8", device)
    aiter.paged_attention_decode(**arrays, workspace=workspace, out=out)
    np.testing.assert_array_equal(aiter.to_device(out, "cpu").numpy(), want)
    with pytest.raises(ValueError, match="workspace has"):
        aiter.paged_attention_decode(**arrays, workspace=workspace[:-16], out=out)
