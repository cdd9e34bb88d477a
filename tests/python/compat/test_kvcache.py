"""aiter.compat's paged cache: AITER's argument orders, on torch tensors on the CPU."""

import pytest

torch = pytest.importorskip("torch")

import aiter
import aiter.compat as compat

TOKENS, HEADS, DIM, PAGES, BLOCK = 20, 2, 32, 4, 16
ONE = torch.ones(1)


def tokens(seed=0, dtype=torch.bfloat16):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(TOKENS, HEADS, DIM, generator=generator).to(dtype) for _ in range(2)]


def slots():
    return torch.arange(TOKENS) + 3


def read(cache, layout):
    """Slots of a key cache as (slots, heads, dim)."""
    if layout == "flash":
        return cache.flatten(0, 1)
    return cache.permute(0, 3, 1, 2, 4).reshape(-1, HEADS, DIM)


def read_values(cache, layout):
    if layout == "flash":
        return cache.flatten(0, 1)
    if cache.ndim == 4:
        return cache.permute(0, 3, 1, 2).reshape(-1, HEADS, DIM)
    return cache.permute(0, 2, 4, 1, 3).reshape(-1, HEADS, DIM)


def caches(dtype, layout):
    x = 16 // dtype.itemsize
    if layout == "flash":
        shapes = [(PAGES, BLOCK, HEADS, DIM)] * 2
    else:
        shapes = [(PAGES, HEADS, DIM // x, BLOCK, x), (PAGES, HEADS, DIM, BLOCK)]
        if layout == "asm":
            shapes[1] = (PAGES, HEADS, BLOCK // x, DIM, x)
    return [torch.zeros(s, dtype=dtype) for s in shapes]


@pytest.mark.parametrize("layout", ["vectorized", "asm"])
def test_reshape_and_cache(layout):
    key, value = tokens()
    key_cache, value_cache = caches(key.dtype, layout)
    compat.reshape_and_cache(
        key, value, key_cache, value_cache, slots(), "auto", ONE, ONE, layout == "asm"
    )
    assert torch.equal(read(key_cache, layout)[slots()], key)
    assert torch.equal(read_values(value_cache, layout)[slots()], value)
    fp8_keys, fp8_values = caches(torch.float8_e4m3fn, layout)
    compat.reshape_and_cache(
        key, value, fp8_keys, fp8_values, slots(), "fp8", ONE * 0.5, ONE, layout == "asm"
    )
    want = (key.float() / 0.5).clamp(-448, 448).to(torch.float8_e4m3fn).float()
    assert torch.equal(read(fp8_keys.float(), layout)[slots()], want)


def test_asm_values_in_the_other_shape():
    key, value = tokens()
    key_cache, value_cache = caches(key.dtype, "asm")
    flat = torch.zeros(PAGES, HEADS, DIM, BLOCK, dtype=key.dtype)
    compat.reshape_and_cache(key, value, key_cache, value_cache, slots(), "auto", asm_layout=True)
    compat.reshape_and_cache(key, value, key_cache, flat, slots(), "auto", None, None, True)
    assert torch.equal(flat.view(value_cache.shape), value_cache)


def test_reshape_and_cache_flash():
    key, value = tokens()
    key_cache, value_cache = caches(key.dtype, "flash")
    compat.reshape_and_cache_flash(key, value, key_cache, value_cache, slots(), "auto", ONE, ONE)
    assert torch.equal(read(key_cache, "flash")[slots()], key)
    bytes_ = torch.zeros(PAGES, BLOCK, HEADS, DIM, dtype=torch.uint8)
    compat.reshape_and_cache_flash(key, value, bytes_, bytes_.clone(), slots(), "fp8", ONE, ONE)
    want = key.float().to(torch.float8_e4m3fn).view(torch.uint8)
    assert torch.equal(read(bytes_, "flash")[slots()], want)


@pytest.mark.parametrize("asm", [False, True])
def test_reshape_and_cache_with_pertoken_quant(asm):
    key, value = tokens()
    layout = "asm" if asm else "vectorized"
    key_cache, value_cache = caches(torch.int8, layout)
    shape = (PAGES, HEADS, BLOCK) if asm else (HEADS, PAGES * BLOCK)
    scales = [torch.zeros(shape), torch.zeros(shape)]
    compat.reshape_and_cache_with_pertoken_quant(
        key, value, key_cache, value_cache, *scales, slots(), asm
    )
    codes, want = aiter.pertoken_quant(key)
    assert torch.equal(read(key_cache, layout)[slots()], codes)
    got = scales[0].permute(0, 2, 1).reshape(-1, HEADS) if asm else scales[0].T
    assert torch.equal(got[slots()], want[..., 0])


@pytest.mark.parametrize("asm", [False, True])
@pytest.mark.parametrize("ori_block_size", [None, 32])
def test_reshape_and_cache_with_block_quant(asm, ori_block_size):
    key, value = tokens()
    layout = "asm" if asm else "vectorized"
    key_cache, value_cache = caches(torch.float8_e4m3fn, layout)
    page = ori_block_size or BLOCK
    scaled = PAGES * BLOCK // page
    scales = [torch.ones((scaled, HEADS) if asm else (HEADS, scaled)) for _ in range(2)]
    batch = [t.view(4, 5, HEADS, DIM) for t in (key, value)]
    at = torch.arange(TOKENS)
    arguments = *batch, key_cache, value_cache, *scales, at, asm
    if ori_block_size:
        compat.reshape_and_cache_with_block_quant_for_asm_pa(*arguments, ori_block_size)
    else:
        compat.reshape_and_cache_with_block_quant(*arguments)
    k_scale = scales[0] if asm else scales[0].T
    first = min(page, TOKENS)
    want = key[:first].float().abs().amax((0, 2)) / 448
    assert torch.equal(k_scale[0], want)
    near = read(key_cache.float(), layout)[:first] * want[:, None]
    assert (near - key[:first].float()).abs().max() < 0.15


def test_mla():
    kv_c, k_pe = torch.randn(5, 64).bfloat16(), torch.randn(5, 16).bfloat16()
    at = torch.tensor([0, 9, -1, 3, 1])
    cache = torch.zeros(2, 8, 80, dtype=torch.bfloat16)
    compat.concat_and_cache_mla(kv_c, k_pe, cache, at, "auto", ONE[0])
    assert torch.equal(cache[1, 1], torch.cat([kv_c[1], k_pe[1]]))
    segments = torch.zeros(2, 640, dtype=torch.float8_e4m3fn)
    compat.concat_and_cache_mla_seg(kv_c, k_pe, segments, at, "fp8", ONE[0])
    assert torch.equal(segments[1, 64:128].float(), kv_c[1].to(torch.float8_e4m3fn).float())
    flat = torch.zeros(16, 1, 80, dtype=torch.bfloat16)
    compat.cat_and_cache_mla(kv_c[:, None], k_pe[:, None], flat, at, ONE)
    assert torch.equal(flat.view(2, 8, 80), cache)


def test_indexer():
    k = torch.randn(20, 128).bfloat16()
    cache = torch.zeros(2, 16, 132, dtype=torch.float8_e4m3fn)
    compat.indexer_k_quant_and_cache(k, cache, torch.arange(20), 128, "ue8m0", True)
    dst_k = torch.empty(20, 128, dtype=torch.float8_e4m3fn)
    table, lengths = torch.arange(2, dtype=torch.int32)[None], torch.tensor([0, 20]).int()
    for dst_scale in (torch.zeros(20, 1), torch.zeros(20, 4, dtype=torch.uint8)):
        compat.cp_gather_indexer_k_quant_cache(cache, dst_k, dst_scale, table, lengths, True)
        scales = dst_scale.view(torch.float32)
        assert (torch.log2(scales) % 1 == 0).all()
        assert (dst_k.float() * scales - k.float()).abs().max() < 0.3


def test_indexer_qk():
    cos, sin = rope_tables(32)
    q, k = torch.randn(5, 4, 128).bfloat16(), torch.randn(5, 128).bfloat16()
    weights, positions = torch.randn(5, 4).bfloat16(), torch.arange(5)
    cache = torch.zeros(1, 16, 132, dtype=torch.float8_e4m3fn)
    q_out, weights_out = torch.zeros(5, 4, 128, dtype=torch.float8_e4m3fn), torch.zeros(5, 4)
    compat.indexer_qk_rope_quant_and_cache(
        q, q_out, weights, weights_out, k, cache, torch.arange(5), torch.ones(128),
        torch.zeros(128), positions, cos, sin, 1e-6, 128, "ue8m0", 0.5, True, True,
    )  # fmt: skip
    turned = aiter.rotary_embedding_fwd(positions, q, None, 128, cos, sin, True)
    turned = (turned[0] if isinstance(turned, tuple) else turned).float()
    scale = weights_out / weights.float() / 0.5
    assert (q_out.float() * scale[..., None] - turned).abs().max() < 0.3
    assert cache.view(torch.uint8).any()


def test_blocks():
    cache = torch.arange(12.0).view(4, 3)
    other = torch.zeros(5, 3)
    compat.swap_blocks(cache, other, torch.tensor([[1, 4], [2, 0]]))
    assert torch.equal(other[[4, 0]], cache[[1, 2]])
    compat.copy_blocks([cache], [other], torch.tensor([[3, 0]]))
    assert torch.equal(cache[0], cache[3])


def rope_tables(width=8):
    angles = torch.rand(30, width) * 6
    return torch.cos(angles).bfloat16(), torch.sin(angles).bfloat16()


@pytest.mark.parametrize("seg", [False, True])
def test_fused_mla(seg):
    generator = torch.Generator().manual_seed(1)

    def array(*shape):
        return torch.randn(*shape, generator=generator).bfloat16()

    q_nope, q_pe, kv_c, k_pe = array(5, 3, 64), array(5, 3, 16), array(5, 64), array(5, 16)
    cos, sin = rope_tables()
    at, positions = torch.arange(5), torch.tensor([3, 1, 4, 1, 5])
    q_out = torch.zeros(5, 3, 80, dtype=torch.bfloat16)
    cache = torch.zeros((2, 640) if seg else (2, 8, 80), dtype=torch.bfloat16)
    fused = getattr(compat, "fused_qk_rope_concat_and_cache_mla" + ("_seg" if seg else ""))
    fused(q_nope, q_pe, kv_c, k_pe, cache, q_out, at, ONE, ONE, positions, cos, sin, True, True)
    turned, k_turned = aiter.rotary_embedding_fwd(
        positions, q_pe, k_pe[:, None], 16, cos, sin, True
    )
    assert torch.equal(q_out, torch.cat([q_nope, turned], dim=-1))
    rows = cache[0, :320].view(5, 64) if seg else cache[0, :5, :64]
    assert torch.equal(rows, kv_c)
    rows = cache[0, 512:592].view(5, 16) if seg else cache[0, :5, 64:]
    assert torch.equal(rows, k_turned[:, 0])


def test_fused_reshape():
    q, value = tokens(2)
    key, _ = tokens(3)
    cos, sin = (t.view(30, 1, 1, 16) for t in rope_tables(16))
    positions, offsets = torch.arange(TOKENS), torch.full((TOKENS,), 2)
    key_cache, value_cache = caches(key.dtype, "flash")
    got = compat.fused_qk_rope_reshape_and_cache(
        q, key, value, key_cache, value_cache, slots(), positions, cos, sin, ONE, ONE, True, True,
        offs=offsets,
    )  # fmt: skip
    want_q, want_key = aiter.rotary_embedding_fwd(
        positions + 2, q, key, DIM, cos.reshape(30, 16), sin.reshape(30, 16), True
    )
    assert torch.equal(got[0], want_q) and torch.equal(got[1], want_key)
    assert got[2] is key_cache and got[3] is value_cache and not got[4].any()
    assert torch.equal(read(key_cache, "flash")[slots()], want_key)
    assert torch.equal(read(value_cache, "flash")[slots()], value)


def test_signatures():
    """Names and order of arguments are AITER's."""
    import inspect

    def names(function):
        return list(inspect.signature(function).parameters)

    assert names(compat.reshape_and_cache)[4:] == [
        "slot_mapping", "kv_cache_dtype", "k_scale", "v_scale", "asm_layout"
    ]  # fmt: skip
    assert names(compat.reshape_and_cache_with_block_quant)[4:] == [
        "k_dequant_scales", "v_dequant_scales", "slot_mapping", "asm_layout"
    ]  # fmt: skip
    assert names(compat.fused_qk_rope_concat_and_cache_mla)[5:9] == [
        "q_out", "slot_mapping", "k_scale", "q_scale"
    ]  # fmt: skip
    assert names(compat.swap_blocks)[:3] == ["src", "dst", "block_mapping"]
