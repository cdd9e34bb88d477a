"""copy_blocks and swap_blocks: every row on every case, exactly."""

import aiter
import cases_copy_blocks as cases
import numpy as np
import pytest
from aiter.testing import using, variants
from aiter.testing.devices import gpus

CASES = [c for c in cases.CASES if c.tag != "perf"]
OP = "copy_blocks"


@pytest.fixture(params=variants(OP), ids="-".join)
def row(request):
    with using(OP, *request.param):
        yield request.param


def assert_bits(got, want):
    np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_copy_blocks(case, row):
    key, value, mapping = cases.make(case)
    want = cases.reference(key, mapping), cases.reference(value, mapping)
    assert aiter.copy_blocks([key], [value], mapping) is None
    assert_bits(key, want[0])
    assert_bits(value, want[1])


@pytest.mark.parametrize("isa", [isa for row, isa in variants(OP) if row == "cpu_simd"])
def test_more_than_the_caches(isa):
    case = cases.Case("", pages=1100, shape=(16, 8, 127), pairs=540, dtype="bf16")
    key, value, mapping = cases.make(case)
    want = cases.reference(key, mapping), cases.reference(value, mapping)
    with using(OP, "cpu_simd", isa):
        aiter.copy_blocks([key], [value], mapping)
    assert_bits(key, want[0])
    assert_bits(value, want[1])


def test_every_layer(row):
    layers = [cases.make(CASES[0], seed) for seed in range(3)]
    mapping = layers[0][2]
    want = [[cases.reference(c, mapping) for c in layer[:2]] for layer in layers]
    aiter.copy_blocks([x[0] for x in layers], [x[1] for x in layers], mapping)
    for layer, expected in zip(layers, want, strict=True):
        assert_bits(layer[0], expected[0])
        assert_bits(layer[1], expected[1])


def test_pages_outside_of_the_cache(row):
    """The CPU refuses them; a GPU skips their pairs. Canaries are around the cache."""
    for mapping in ([[0, 12]], [[12, 0]], [[-1, 0]], [[0, -1]], [[2**40, 0]]):
        around = np.full((14, 4, 8), 7, np.float32)
        cache = around[1:13]
        cache[...] = 1
        cache[0], cache[3] = 2, 3
        try:
            aiter.copy_blocks([cache], [cache], np.array([[3, 5], *mapping]))
        except ValueError as e:
            assert "block_mapping has page" in str(e)
            assert (cache[5] == 1).all()
        else:
            assert (cache[5] == 3).all() and (cache[0] == 2).all()
        assert (around[[0, 13]] == 7).all() and (cache[[1, 2, 4, 6, 11]] == 1).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_swap_blocks_in_host_memory(case):
    src, dst, mapping = cases.make(case)
    want = dst.copy()
    for source, target in mapping:
        want[target] = src[source]
    assert aiter.swap_blocks(src, dst, mapping) is None
    assert_bits(dst, want)


@pytest.mark.parametrize("device", gpus())
@pytest.mark.parametrize("ends", ["out", "in", "inside"])
def test_swap_blocks_with_a_gpu(device, ends):
    """Runs of neighbouring pages and single ones, in all directions."""
    src, dst, _ = cases.make(CASES[1])
    mapping = np.array([[3, 1], [4, 2], [5, 3], [9, 0], [0, 11]])
    want = dst.copy()
    want[mapping[:, 1]] = src[mapping[:, 0]]
    moved = [
        aiter.to_device(a, device) if on_gpu else a
        for a, on_gpu in ((src, ends != "in"), (dst, ends != "out"))
    ]
    aiter.swap_blocks(*moved, mapping)
    # A copy to the host waits for the stream.
    copies = [aiter.to_device(a, "cpu").numpy() for a in moved if isinstance(a, aiter.Array)]
    got = dst if ends == "out" else copies[-1]
    assert_bits(got, want)
    with pytest.raises(ValueError, match=r"swap_blocks: block_mapping has page 12 in pair 0"):
        aiter.swap_blocks(*moved, np.array([[12, 0]]))
    with pytest.raises(ValueError, match="swap_blocks: block_mapping is on a GPU, expected host"):
        aiter.swap_blocks(*moved, aiter.to_device(mapping, device))


@pytest.mark.parametrize(
    "src, dst, mapping, message",
    [
        ((3, 4), (3, 5), (1, 2), "dst has extent 5 in dimension 1, expected 4"),
        ((3, 4), (3, 4, 1), (1, 2), "dst has rank 3"),
        ((3, 4), (3, 4), (1, 3), r"block_mapping has shape \(1, 3\), expected \(any, 2\)"),
        ((2, 4), (3, 4), (4, 2), "block_mapping has page 2 in pair 2, expected 0 to 1"),
    ],
)
def test_bad_input(src, dst, mapping, message):
    src, dst = np.ones(src, np.float32), np.full(dst, 7, np.float32)
    mapping = np.arange(mapping[0])[:, None] + np.zeros(mapping[1], np.int64)
    with pytest.raises(ValueError, match=f"swap_blocks: {message}"):
        aiter.swap_blocks(src, dst, mapping)
    assert (dst == 7).all()


def test_pages_with_gaps_are_refused():
    cache = np.ones((3, 4, 8), np.float32)[..., :4]
    with pytest.raises(ValueError, match="copy_blocks: key_cache has stride 8 in dimension 1"):
        aiter.copy_blocks([cache], [cache], np.zeros((1, 2), np.int64))
    with pytest.raises(ValueError, match="copy_blocks: key_caches has 1 layers, value_caches 0"):
        aiter.copy_blocks([cache], [], np.zeros((1, 2), np.int64))
