"""aiter.compat's sampling and top-k, as code written for AITER calls them."""

import pytest

torch = pytest.importorskip("torch")

import aiter
import aiter.compat as compat


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


LOGITS = torch.randn(6, 300, generator=generator())
PROBS = torch.softmax(LOGITS, -1)


def empty(*shape, dtype=torch.int32):
    return torch.full(shape, -7, dtype=dtype)


def test_greedy_sample():
    out = empty(6)
    assert compat.greedy_sample(out, LOGITS) is None
    assert torch.equal(out, LOGITS.argmax(-1).int())


@pytest.mark.parametrize("name", ["random_sample", "mixed_sample"])
def test_random_sample(name):
    noise = torch.empty(1, 300).exponential_(1, generator=generator(1))
    temperatures = torch.tensor([1.0, 0.5, 2, 1, 0.1, 1])
    out = empty(6)
    function = getattr(compat, name + "_outer_exponential")
    assert function(out, LOGITS, noise.expand(6, 300), temperatures, 1e-10) is None
    p = torch.softmax(LOGITS.double() / temperatures[:, None].double(), -1)
    assert torch.equal(out, (p / (noise.double() + 1e-10)).argmax(-1).int())

    draws = []
    for seed in (3, 3, 4):
        g = generator(seed)
        for _ in range(2):
            draws.append(empty(6))
            getattr(compat, name)(draws[-1], LOGITS, temperatures, 1, g, 1e-10)
    assert torch.equal(draws[0], draws[2]) and torch.equal(draws[1], draws[3])
    assert not torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[4])
    torch.manual_seed(3)
    getattr(compat, name)(out, LOGITS, temperatures)
    assert torch.equal(out, draws[0])


def test_mixed_sample_is_greedy_at_0():
    out = empty(6)
    compat.mixed_sample(out, LOGITS, torch.zeros(6))
    assert torch.equal(out, LOGITS.argmax(-1).int())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_exponential(dtype):
    out = torch.zeros(3, 1000, dtype=dtype)
    assert compat.exponential(out, 2.0, generator(5)) is None
    assert (out > 0).all() and abs(out.float().mean() - 0.5) < 0.05


def test_renorm():
    least = torch.topk(PROBS, 9).values[:, -1:]
    want = torch.where(least <= PROBS, PROBS, 0)
    want /= want.sum(-1, keepdim=True)
    torch.testing.assert_close(compat.top_k_renorm_probs(PROBS, None, 9), want)
    k = torch.full((6,), 9, dtype=torch.int32)
    torch.testing.assert_close(compat.top_k_renorm_probs(PROBS, k, 0), want)


def test_sampling_from_probs():
    kept = aiter.top_k_top_p_renorm_probs(PROBS, 9, 0.5, filter_apply_order="joint") > 0
    torch.manual_seed(0)
    for k, k_val, p, p_val in (
        (None, 9, None, 0.5),
        (torch.full((6,), 9, dtype=torch.int32), 0, torch.full((6,), 0.5), 1.0),
    ):
        for _ in range(20):
            token = compat.top_k_top_p_sampling_from_probs(PROBS, None, k, k_val, p, p_val, True)
            assert kept[range(6), token.long()].all()
    tokens = {
        tuple(compat.top_p_sampling_from_probs(PROBS, None, None, 0.9).tolist()) for _ in range(5)
    }
    assert len(tokens) == 5
    rows = torch.tensor([2, 2], dtype=torch.int32)
    assert (
        compat.top_p_sampling_from_probs(PROBS, rows, None, 0.0).tolist()
        == [PROBS[2].argmax().item()] * 2
    )


def reference(row, begin, end, k):
    order = torch.sort(row[begin:end], descending=True, stable=True).indices[:k]
    found = (order.sort().values + begin).tolist()
    return found + [-1] * (k - len(found))


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("with_values", [False, True])
def test_top_k_per_row_prefill(stable, with_values):
    starts = torch.tensor([0, 5, 10, 0, 299, 50], dtype=torch.int32)
    ends = torch.tensor([300, 250, 14, 0, 300, 300], dtype=torch.int32)
    indices = empty(6, 16)
    values = torch.zeros(6, 16) if with_values else None
    compat.top_k_per_row_prefill(
        LOGITS, starts, ends, indices, values, 6, *LOGITS.stride(), k=16, stable=stable
    )
    for r in range(6):
        assert indices[r].tolist() == reference(LOGITS[r], starts[r], ends[r], 16)
    if with_values:
        found = indices >= 0
        gathered = LOGITS.gather(1, indices.clamp_min(0).long())
        assert torch.equal(values[found], gathered[found])
        assert torch.isneginf(values[~found]).all()


def test_top_k_per_row_decode():
    lengths = torch.tensor([300, 20, 2], dtype=torch.int32)
    indices = empty(6, 32)
    compat.top_k_per_row_decode(LOGITS, 2, lengths, indices, 6, *LOGITS.stride(), k=32)
    for r in range(6):
        assert indices[r].tolist() == reference(LOGITS[r], 0, int(lengths[r // 2]) - 1 + r % 2, 32)
    fast, ordinary = empty(6, 2048), empty(6, 2048)
    compat.top_k_per_row_decode_fast(LOGITS, 2, lengths, fast, 6, *LOGITS.stride())
    compat.top_k_per_row_decode(LOGITS, 2, lengths, ordinary, 6, *LOGITS.stride())
    assert torch.equal(fast, ordinary)
    starts, ends = torch.zeros(6, dtype=torch.int32), torch.full((6,), 300, dtype=torch.int32)
    compat.top_k_per_row_prefill_fast(LOGITS, starts, ends, fast, None, 6, *LOGITS.stride())
    assert fast[0, :300].tolist() == list(range(300)) and fast[0, 300] == -1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("largest", [True, False])
def test_topk_plain(dtype, largest):
    x = LOGITS.to(dtype)
    ids, out = empty(6, 10), torch.zeros(6, 10, dtype=dtype)
    compat.topk_plain(x, ids, out, 10, largest)
    want = torch.topk(x, 10, largest=largest)
    assert torch.equal(out, want.values) and torch.equal(x.gather(1, ids.long()), out)
    begin, end = torch.full((6,), 7, dtype=torch.int32), torch.full((6,), 99, dtype=torch.int32)
    compat.topk_plain(x, ids, None, 10, largest, begin, end, x.stride(0), 1)
    want = torch.topk(x[:, 7:99], 10, largest=largest).values
    assert torch.equal(x.gather(1, ids.long()), want)


def test_topk():
    values, indices = compat.topk(LOGITS, 5, dim=-1, largest=True, sorted=True)
    want = torch.topk(LOGITS, 5)
    assert torch.equal(values, want.values) and torch.equal(indices, want.indices)
