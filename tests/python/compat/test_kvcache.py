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


# ---- norm, rotation and cache in one ------------------------------------------------------------

Q_HEADS, ROTARY, POSITIONS = 4, 16, 30


def fused_inputs(dtype=torch.bfloat16, parts=(Q_HEADS, HEADS, HEADS)):
    """qkv, weights of q and k, the table [cos | sin] and positions."""
    generator = torch.Generator().manual_seed(7)
    qkv = torch.randn(TOKENS, sum(parts) * DIM, generator=generator).to(dtype)
    weights = [torch.randn(DIM, generator=generator).to(dtype) for _ in range(2)]
    angles = 6 * torch.rand(POSITIONS, ROTARY // 2, generator=generator)
    table = torch.cat((angles.cos(), angles.sin()), -1).to(dtype)
    return qkv, weights, table, torch.arange(TOKENS) % POSITIONS


def split(qkv, parts=(Q_HEADS, HEADS, HEADS)):
    return qkv.view(TOKENS, -1, DIM).split(parts, 1)


def normed_and_turned(qkv, weights, table, positions, neox=True, eps=1e-6, **options):
    """q and k from the operators without a cache, and v."""
    q, k, v = split(qkv)
    cos, sin = table.chunk(2, -1)
    q, k = aiter.fused_qk_norm_rope(q, k, None, *weights, cos, sin, positions, eps, neox, **options)
    return q, k, v


def same(got, want):
    """Bits, also of types that torch does not compare."""
    assert got.dtype == want.dtype and got.shape == want.shape
    assert torch.equal(got.contiguous().view(torch.uint8), want.contiguous().view(torch.uint8))


def new_caches(dtype, five=True):
    x = 16 // dtype.itemsize
    keys = torch.zeros(PAGES, HEADS, DIM // x, BLOCK, x).to(dtype)
    values = torch.zeros(PAGES, HEADS, BLOCK // x, DIM, x).to(dtype)
    return keys, values if five else values.view(PAGES, HEADS, DIM, BLOCK)


@pytest.mark.parametrize("neox", [True, False])
@pytest.mark.parametrize("five", [True, False])
@pytest.mark.parametrize("kind", ["auto", "fp8_e4m3"])
def test_fused_norm_per_token(kind, five, neox):
    qkv, weights, table, positions = fused_inputs()
    dtype = qkv.dtype if kind == "auto" else compat.dtypes.fp8
    got, want = new_caches(dtype, five), new_caches(dtype, five)
    scales, want_scales = ([torch.zeros(PAGES, HEADS, BLOCK) for _ in "kv"] for _ in range(2))
    q, k, v = normed_and_turned(qkv, weights, table, positions, neox)
    if kind == "auto":
        compat.reshape_and_cache(k, v, *want, slots(), kind, asm_layout=True)
    else:
        compat.reshape_and_cache_with_pertoken_quant(k, v, *want, *want_scales, slots(), True)
    parts = [x.reshape(TOKENS, -1) for x in split(qkv.clone())]
    compat.fused_qk_norm_rope_cache_quant_shuffle(
        *parts, Q_HEADS, HEADS, HEADS, DIM, 1e-6, *weights, table, neox, positions, *got, slots(),
        kind, *scales,
    )  # fmt: skip
    for x, y in zip((*parts, *got, *scales), (q, k, v, *want, *want_scales), strict=True):
        same(x, y.reshape(x.shape))


@pytest.mark.parametrize("neox", [True, False])
def test_fused_norm_per_page(neox):
    qkv, weights, table, positions = fused_inputs()
    got, want = new_caches(torch.int8), new_caches(torch.int8)
    scales, want_scales = ([torch.zeros(PAGES, HEADS) for _ in "kv"] for _ in range(2))
    for factor in (1.0, 3.0):  # the second call raises scales
        qkv = qkv * factor
        where = slots() + (0 if factor == 1 else TOKENS)
        q, k, v = normed_and_turned(qkv, weights, table, positions, neox)
        compat.reshape_and_cache_with_block_quant(
            k[None], v[None], *want, *want_scales, where, True
        )
        ours = qkv.clone()
        compat.fused_qk_norm_rope_cache_block_quant_shuffle(
            ours, Q_HEADS, HEADS, HEADS, DIM, 1e-6, *weights, table, neox, positions, *got, where,
            torch.tensor([0, TOKENS]), "int8", *scales,
        )  # fmt: skip
        results = (*split(ours), *got, *scales)
        for x, y in zip(results, (q, k, v, *want, *want_scales), strict=True):
            same(x, y)


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize("codes", [True, False])
@pytest.mark.parametrize("mrope", [None, False, True])
def test_fused_norm_with_given_scales(mrope, codes, shuffled):
    qkv, weights, table, positions = fused_inputs()
    options = {}
    if mrope is not None:
        positions = torch.stack((positions, positions // 2, (positions * 3) % POSITIONS))
        options = {"mrope_section": [2, 3, 3], "mrope_interleaved": mrope, "gemma_norm": True}
    q, k, v = normed_and_turned(qkv, weights, table, positions, True, **options)
    dtype = compat.dtypes.fp8 if codes else qkv.dtype
    k_scale, v_scale = torch.tensor(0.3), torch.tensor([0.7])
    if shuffled:
        got, want = new_caches(dtype), new_caches(dtype)
        flat = want
    else:
        got, want = ([torch.zeros(PAGES * BLOCK, HEADS, DIM).to(dtype) for _ in "kv"] for _ in "gw")
        flat = [c.view(PAGES, BLOCK, HEADS, DIM) for c in want]
    compat.reshape_and_cache(
        k, v, *flat, slots(), "fp8" if codes else "auto", k_scale, v_scale, shuffled
    )
    q_out = torch.empty(TOKENS, Q_HEADS, DIM, dtype=qkv.dtype)
    outs = [torch.empty(TOKENS, HEADS, DIM).to(dtype) for _ in "kv"]
    sections = () if mrope is None else ([2, 3, 3], mrope)
    more = () if mrope is None else (True,)
    name = "rope" if mrope is None else "mrope_3d"
    getattr(compat, f"fused_qk_norm_{name}_cache_pts_quant_shuffle")(
        qkv, *weights, table, positions, TOKENS, Q_HEADS, HEADS, HEADS, DIM, True, *sections, 1e-6,
        q_out, *got, slots(), k_scale, v_scale, *outs, True, shuffled, BLOCK, 16 // dtype.itemsize,
        ROTARY, *more,
    )  # fmt: skip
    for x, y in zip((q_out, *got), (q, *want), strict=True):
        same(x, y)
    if not shuffled:
        for x, y in zip(outs, want, strict=True):
            same(x, y[slots()])


@pytest.mark.parametrize("layout", ["HND", "NHD"])
@pytest.mark.parametrize("gate", [None, "interleaved", "blocked"])
@pytest.mark.parametrize("scaled", [False, True])
def test_split_norm_rope_cache(scaled, gate, layout):
    parts = (Q_HEADS, HEADS, HEADS) if gate is None else (Q_HEADS, Q_HEADS, HEADS, HEADS)
    qkv, weights, table, positions = fused_inputs(parts=parts)
    cos, sin = table.chunk(2, -1)
    heads = qkv.view(TOKENS, -1, DIM)
    if gate == "interleaved":
        both, k, v = heads.split((2 * Q_HEADS, HEADS, HEADS), 1)
        q, the_gate = both[:, ::2], both[:, 1::2]
    elif gate:
        q, the_gate, k, v = heads.split(parts, 1)
    else:
        q, k, v = heads.split(parts, 1)
    want_q, want_k = aiter.fused_qk_norm_rope(
        q, k, None, *weights, cos, sin, positions + 1, 1e-5, True, gemma_norm=True
    )
    shape = (PAGES, HEADS, BLOCK, DIM) if layout == "HND" else (PAGES, BLOCK, HEADS, DIM)
    cache = [torch.zeros(shape, dtype=qkv.dtype) for _ in "kv"]
    scales = [torch.tensor(2.0), torch.tensor(4.0)] if scaled else [None, None]
    got = compat.fused_qkv_split_qk_norm_rope_cache(
        qkv, *weights, cos, sin, positions, *cache, slots(), Q_HEADS, HEADS, DIM,
        offsets=torch.ones_like(positions), attn_output_gate=gate is not None, k_scale=scales[0],
        v_scale=scales[1], gated_qkv_layout=gate or "interleaved", kv_cache_layout=layout,
    )  # fmt: skip
    want = (want_q, the_gate, want_k, v) if gate else (want_q, want_k, v)
    for x, y in zip(got, want, strict=True):
        same(x, y)
    for c, rows, factor in zip(cache, (want_k, v), (2, 4) if scaled else (1, 1), strict=True):
        c = c.transpose(1, 2) if layout == "HND" else c
        same(c.flatten(0, 1)[slots()], rows / factor)


@pytest.mark.parametrize("full", [False, True])
def test_cosine_cache_llama(full):
    q, value = tokens(2)
    key, _ = tokens(3)
    cos, sin = rope_tables(16)
    wide = [torch.cat((t, t), -1) if full else t for t in (cos, sin)]
    cache = caches(key.dtype, "flash")
    positions = torch.arange(TOKENS)
    got = compat.fused_qk_rope_cosine_cache_llama(
        q, key, value, *cache, slots(), positions, *(t[:, None, None] for t in wide), ONE, ONE,
        True, True,
    )  # fmt: skip
    want_q, want_key = aiter.rotary_embedding_fwd(positions, q, key, DIM, cos, sin, True)
    assert torch.equal(got[0], want_q) and got[1] is cache[0] and got[2] is cache[1]
    assert torch.equal(read(cache[0], "flash")[slots()], want_key)
    assert torch.equal(read(cache[1], "flash")[slots()], value)


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
    assert names(compat.fused_qk_norm_rope_cache_pts_quant_shuffle)[11:] == [
        "eps", "q_out", "k_cache", "v_cache", "slot_mapping", "per_tensor_k_scale",
        "per_tensor_v_scale", "k_out", "v_out", "return_kv", "use_shuffle_layout", "block_size", "x",
        "rotary_dim",
    ]  # fmt: skip
    assert names(compat.fused_qk_norm_rope_cache_block_quant_shuffle)[13:] == [
        "slot_mapping", "cu_q_len", "kv_cache_dtype", "k_scale", "v_scale", "max_tokens_per_batch"
    ]  # fmt: skip


def test_ragged_layout():
    k, v = tokens()
    indices, bounds = torch.tensor([3, 0, 7, 7, 19]), torch.tensor([0, 2, 5])
    got = compat.ragged_layout_trans(bounds, indices, k, v)
    assert torch.equal(got[0], k[indices]) and torch.equal(got[1], v[indices])


@pytest.mark.parametrize("kind", ["row", "mfma_tile", "n32k4"])
def test_inverse_rope(kind):
    o, _ = tokens()
    cos, sin = rope_tables(4)
    positions = torch.arange(TOKENS)
    code = str(compat.dtypes.fp8).removeprefix("torch.")
    arguments = o, positions, cos.bfloat16(), sin.bfloat16()
    rows, group = (1, 16) if kind == "n32k4" else (2, 16)
    want = aiter.inverse_rope_group_quant(*arguments, rows, group, kind, quant_dtype=code)
    got = compat.inverse_rope_group_quant(*arguments, rows, group, kind)
    same(got[0], want[0])
    x_fp8, x_scale = torch.zeros_like(want[0]), torch.zeros_like(want[1])
    compat.inverse_rope_group_quant(*arguments, rows, group, kind, x_fp8, x_scale)
    same(x_fp8, want[0])
    if kind == "row":
        same(got[1], want[1])
        same(x_scale, want[1])


@pytest.mark.parametrize("shuffled", [False, True])
def test_rope_cat_and_cache_mla(shuffled):
    """Six tokens of which the last two are turned already, one without a place."""
    generator = torch.Generator().manual_seed(4)
    draw = lambda *shape: torch.randn(*shape, generator=generator).bfloat16()  # noqa: E731
    q_nope, q_pe, k_nope, k_pe = draw(4, 3, 32), draw(4, 3, 16), draw(6, 1, 32), draw(6, 1, 16)
    angles = torch.randn(9, 8, generator=generator)
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    positions, at = torch.tensor([5, 0, 8, 3]), torch.tensor([7, 20, -1, 3, 30, 31])
    cache = torch.zeros((2, 1, 16, 48) if shuffled else (32, 1, 48), dtype=torch.bfloat16)
    want_cache = cache.clone()
    q_out, decode, k_out, zeros = compat.fused_qk_rope_cat_and_cache_mla(
        q_nope, q_pe, k_nope, k_pe, cache, at, positions, cos, sin, ONE, True, 2,
        shuffled_kv_cache=shuffled,
    )  # fmt: skip
    q, k = compat.fused_qk_rope_cat(
        q_nope, q_pe, k_nope[:4], k_pe[:4], positions, cos.view(9, 1, 1, 8), sin.view(9, 1, 1, 8),
        True,
    )  # fmt: skip
    assert torch.equal(q_out, q) and torch.equal(decode, q[:2, :, 32:])
    assert torch.equal(k_out, torch.cat((k[..., 32:], k_pe[4:])))
    assert zeros.shape == (2, 3, 32) and not zeros.any()
    compat.cat_and_cache_mla(k_nope, k_out, want_cache, at, ONE, True, shuffled)
    assert torch.equal(cache, want_cache) and cache.any()


def test_shuffled_mla():
    k_nope, k_pe = tokens()
    cache = torch.zeros(PAGES, HEADS, BLOCK, 2 * DIM, dtype=k_nope.dtype)
    compat.cat_and_cache_mla(k_nope, k_pe, cache, slots(), ONE, shuffled_kv_cache=True)
    tiles = cache.view(PAGES, HEADS, 2, DIM // 8, 16, 8).transpose(3, 4)
    rows = tiles.reshape(PAGES, HEADS, 2, BLOCK, DIM).transpose(1, 3).flatten(0, 1)[slots()]
    assert torch.equal(rows[:, 0], k_nope) and torch.equal(rows[:, 1], k_pe)
    nvfp4 = torch.zeros(2, HEADS, 128, DIM // 8 * 9, dtype=torch.uint8)
    compat.cat_and_cache_mla(k_nope, k_pe, nvfp4, slots(), ONE / 64, True, True)
    want = torch.zeros_like(nvfp4)
    aiter.cat_and_cache_mla(
        k_nope, k_pe, want, slots(), ONE / 64, True, True, cache_dtype="float4_e2m1fnx2"
    )
    assert torch.equal(nvfp4, want) and want.any()


@pytest.mark.parametrize("codes", [False, True])
@pytest.mark.parametrize("neox", [False, True])
def test_norm_rope_group_quant(neox, codes):
    """Entries are the codes of the dims that do not turn, then each scale twice; those that turn apart."""
    dim, rope, heads = 192, 64, 3
    nope, generator = dim - rope, torch.Generator().manual_seed(3)
    q = torch.randn(TOKENS, heads, dim, generator=generator).bfloat16()
    kv = torch.randn(TOKENS, dim, generator=generator).bfloat16()
    weight = torch.randn(dim, generator=generator).bfloat16()
    cos, sin = (t.bfloat16() for t in rope_tables(rope // 2))
    positions = torch.arange(TOKENS)
    fp8 = compat.dtypes.fp8
    name = str(fp8).removeprefix("torch.")
    q_turned, k_turned = aiter.fused_qk_norm_rope(
        q, kv[:, None], None, None, weight, cos, sin, positions, 1e-6, neox, is_nope_first=True
    )

    def check(entry, pe, turned):
        want, scale = aiter.quantize(
            turned[..., :nope].contiguous(), (1, 64), name, scale_dtype="float8_e8m0fnu"
        )
        same(entry[..., :nope], want)
        twice = scale.view(torch.uint8).repeat_interleave(2, -1)
        assert torch.equal(entry.view(torch.uint8)[..., nope : nope + 4], twice)
        assert torch.equal(pe, turned[..., nope:])

    options = {"q_out_dtype": fp8} if codes else {}
    got = compat.fused_qk_norm_rope_group_quant(
        q, kv, weight, positions, cos, sin, 1e-6, neox, **options
    )
    if codes:
        check(got[0], got[1], q_turned)
    else:
        assert torch.equal(got[0], q_turned) and got[1] is None
    check(got[2], got[3], k_turned)
    # The rows of a window, by a table of blocks or as they are named.
    batches = torch.arange(TOKENS, dtype=torch.int32) % 3 - 1
    tables = torch.tensor([[4, 0, -1], [1, 3, 2]], dtype=torch.int32)
    page = tables[batches.clamp(min=0).long(), positions // 8]
    dest = torch.where((batches < 0) | (page < 0), -1, page * 8 + positions % 8)
    for kind in ("tables", "rows"):
        swa = torch.zeros(40, dim).to(fp8), torch.zeros(40, rope).bfloat16()
        where = {"swa_block_tables": tables, "swa_block_size": 8}
        if kind == "rows":
            where = {"swa_dest_row": torch.arange(TOKENS, dtype=torch.int32)}
            dest = torch.where(batches < 0, -1, where["swa_dest_row"])
        compat.fused_qk_norm_rope_group_quant(
            q, kv, weight, positions, cos, sin, 1e-6, neox, **options, swa_nope_scale_buff=swa[0],
            swa_rope_buff=swa[1], batch_id_per_token=batches, **where,
        )  # fmt: skip
        used = dest >= 0
        check(swa[0][dest[used]], swa[1][dest[used]], k_turned[used, 0])
        unused = torch.ones(40, dtype=torch.bool)
        unused[dest[used]] = False
        assert not swa[1][unused].any() and not swa[0].view(torch.uint8)[unused].any()
        assert 8 < used.sum() < TOKENS
    where = slots().clone()
    where[2] = -1
    caches = torch.zeros(PAGES, BLOCK, dim).to(fp8), torch.zeros(PAGES, BLOCK, rope).bfloat16()
    compat.fused_kv_norm_rope_group_quant(
        kv, weight, positions, where, cos, sin, 1e-6, *caches, is_neox=neox
    )
    used = where >= 0
    entry, pe = (c.flatten(0, 1)[where[used]] for c in caches)
    check(entry, pe, k_turned[used, 0])
    assert (
        not caches[1].flatten(0, 1)[5].any()
        and not caches[0].view(torch.uint8)[..., nope + 4 :].any()
    )


@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize("neox", [False, True])
@pytest.mark.parametrize("splits", [None, 1, 2])
def test_reduce_norm_rope_swa_write(splits, neox, window):
    dim, rope, heads, win = 128, 32, 3, 7
    generator = torch.Generator().manual_seed(5)
    shape = (TOKENS, heads * dim)
    q = torch.randn(*(shape if splits is None else (splits, *shape)), generator=generator)
    kv = torch.randn(TOKENS, dim, generator=generator).bfloat16()
    q_weight, kv_weight = torch.randn(2, dim, generator=generator).bfloat16()
    tables = [t.bfloat16() for t in rope_tables(rope // 2)]
    positions = torch.randperm(30, generator=generator)[:TOKENS]
    rounded = [q.bfloat16().float(), kv.float()]
    want = []
    for x, weight in zip(rounded, (q_weight, kv_weight), strict=True):
        x = (x.sum(0) if x.dim() == 3 else x).view(TOKENS, -1, dim)
        x = x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.float()
        c, s = (t[positions, None].float() for t in tables)
        at = slice(dim - rope, dim - rope // 2), slice(dim - rope // 2, dim)
        if not neox:
            at = slice(dim - rope, dim, 2), slice(dim - rope + 1, dim, 2)
        a, b = x[..., at[0]].clone(), x[..., at[1]].clone()
        x[..., at[0]], x[..., at[1]] = a * c - b * s, b * c + a * s
        want.append(x)
    named = torch.arange(TOKENS, dtype=torch.int32)
    named[::4] = -1
    swa = torch.zeros(5, win, dim).bfloat16()
    batches = torch.arange(TOKENS, dtype=torch.int32) % 4
    rings = torch.tensor([3, 0, 4, 2], dtype=torch.int32)
    options = {
        "write_indices": named.flip(0), "batch_id_per_token": batches, "state_slot_mapping": rings,
        "swa_kv": swa, "win": win,
    } if window else {}  # fmt: skip
    before = kv.clone()
    got = compat.fused_reduce_qk_norm_rope_swa_write(
        q.bfloat16(), kv, q_weight, kv_weight, 1e-6, 1e-6, rope, *(t[:, None, None] for t in tables),
        positions, is_neox=neox, **options,
    )  # fmt: skip
    torch.testing.assert_close(got.float(), want[0], rtol=0.02, atol=0.02)
    active = named >= 0 if window else torch.ones(TOKENS, dtype=torch.bool)
    torch.testing.assert_close(kv[active].float(), want[1][active, 0], rtol=0.02, atol=0.02)
    assert torch.equal(kv[~active], before[~active])
    if not window:
        return
    filled = torch.zeros(5, win, dtype=torch.bool)
    for t in named[active]:
        place = rings[batches[t]], positions[t] % win
        filled[place] = True
        twins = active & (rings[batches.long()] == place[0]) & (positions % win == place[1])
        assert (kv[twins] == swa[place]).any(0).all()  # dim by dim, of tokens with one line
    assert not swa[~filled].any()


@pytest.mark.parametrize("overlap", [False, True])
def test_compress(overlap):
    """Means weighted by scores, line by line, and the codes that the numbers have in all modes."""
    ratio, dim, rope, block = 4, 256, 64, 64
    count, dims = ratio * (1 + overlap), dim * (1 + overlap)
    generator = torch.Generator().manual_seed(7)
    kv, score = torch.randn(2, 6, dims, generator=generator).bfloat16()
    kv_state, score_state = torch.randn(2, 3, count, dims, generator=generator)
    ape, weight = torch.randn(ratio, dims, generator=generator), torch.rand(dim) + 0.5
    # Sequence 1 has positions 5 to 10, of which 7 ends a slot.
    plan = torch.tensor([[2, 1, 7, count - 3], [0, 0, -1, 0]], dtype=torch.int32)
    states = torch.tensor([0, 2], dtype=torch.int32)
    tables = torch.tensor([[0], [1]], dtype=torch.int32)
    cos, sin = (t[:, None, None].bfloat16() for t in rope_tables(rope // 2))
    lines, scores = [], []
    for k in range(count):
        half = slice(dim, None) if k >= ratio else slice(0, dim)
        at = 7 - count + 1 + k
        if k < count - 3:
            lines.append(kv_state[2, at % count, half])
            scores.append(score_state[2, at % count, half])
        else:
            lines.append(kv[2 - (count - 1 - k), half].float())
            scores.append(score[2 - (count - 1 - k), half].float() + ape[k % ratio, half])
    x = (torch.stack(lines) * torch.stack(scores).softmax(0)).sum(0)
    x = x * (x.square().mean() + 1e-6).rsqrt() * weight
    a, b = x[-rope::2].clone(), x[-rope + 1 :: 2].clone()
    c, s = (t[4, 0, 0].float() for t in (cos, sin))
    x[-rope::2], x[-rope + 1 :: 2] = a * c - b * s, b * c + a * s
    arguments = {
        "kv_in": kv, "score_in": score, "kv_state": kv_state, "score_state": score_state,
        "plan_gpu": plan, "state_slot_mapping": states, "ape": ape, "rms_weight": weight,
        "rms_eps": 1e-6, "cos_cache": cos, "sin_cache": sin, "block_tables": tables,
        "k_per_block": block, "overlap": overlap, "ratio": ratio, "head_dim": dim,
        "rope_head_dim": rope,
    }  # fmt: skip
    cache = torch.zeros(2, block, dim)
    compat.fused_compress_attn(kv_cache=cache, **arguments)
    numbers = cache[1, 1].clone()
    torch.testing.assert_close(numbers, x, rtol=1e-4, atol=1e-5)
    cache[1, 1] = 0
    assert not cache.any()
    cache = torch.zeros(2, block, dim).bfloat16()
    compat.fused_compress_attn(kv_cache=cache, **arguments)
    assert torch.equal(cache[1, 1], numbers.bfloat16())
    fp8 = compat.dtypes.fp8
    name = str(fp8).removeprefix("torch.")
    for power in (False, True):
        cache, scale = torch.zeros(2, block, dim).to(fp8), torch.zeros(2, block)
        compat.fused_compress_attn(
            kv_cache=cache, quant=True, cache_scale=scale, use_ue8m0=power, preshuffle=False,
            **arguments,
        )  # fmt: skip
        want, of = aiter.quantize(
            numbers[None], (1, 0), name, scale_dtype="float8_e8m0fnu" if power else "float32"
        )
        same(cache[1, 1], want[0])
        assert scale[1, 1] == of.float()[0, 0]
        tiled = torch.zeros(2, block, dim).to(fp8)
        compat.fused_compress_attn(
            kv_cache=tiled,
            quant_mode="per_row_fp8",
            cache_scale=scale,
            use_ue8m0=power,
            **arguments,
        )
        rows = tiled.view(2, 4, dim // 16, 16, 16).transpose(2, 3).reshape(2, block, dim)
        same(rows[1, 1], want[0])
    cache, pe = torch.zeros(2, block, dim).to(fp8), torch.zeros(2, block, rope).bfloat16()
    compat.fused_compress_attn(kv_cache=cache, group_quant=True, k_rope_buff=pe, **arguments)
    want, of = aiter.quantize(
        numbers[None, :-rope].contiguous(), (1, 64), name, scale_dtype="float8_e8m0fnu"
    )
    same(cache[1, 1, :-rope], want[0])
    twice = of.view(torch.uint8).repeat_interleave(2, -1)[0]
    assert torch.equal(cache.view(torch.uint8)[1, 1, dim - rope : dim - rope + 6], twice)
    assert torch.equal(pe[1, 1], numbers[-rope:].bfloat16())
    want, of = aiter.quantize(
        numbers[None], (1, 32), "float4_e2m1fnx2", scale_dtype="float8_e8m0fnu"
    )
    want, of = want.view(torch.uint8)[0], of.view(torch.uint8)[0]
    for tiles in (False, True):
        cache = torch.zeros(2, 2, 4, block, 16, dtype=torch.uint8)
        scale = torch.zeros(2, 2, 4, block, dtype=torch.uint8)
        compat.fused_compress_attn(
            kv_cache=cache, quant_mode="fp4", cache_scale=scale, preshuffle=tiles, **arguments
        )
        if tiles:
            assert torch.equal(cache[1, :, :, 1].flatten(), want)
            assert torch.equal(scale[1, :, :, 4].flatten(), of)
        else:
            assert torch.equal(cache.view(2, block, -1)[1, 1], want)
            assert torch.equal(scale.view(2, block, -1)[1, 1], of)
    with pytest.raises(ValueError, match="head_dim"):
        compat.fused_compress_attn(kv_cache=cache, **(arguments | {"head_dim": 64}))


@pytest.mark.parametrize("kind", ["inplace", "auto", "fp8", "asm", "unit"])
def test_norms_of_heads_and_index(kind):
    index_heads = 2
    parts = (Q_HEADS, HEADS, HEADS, index_heads, 1)
    qkv, weights, table, positions = fused_inputs(parts=parts)
    cos, sin = table.chunk(2, -1)
    rope = cos, sin, positions, 1e-6
    q, k, v, iq, ik = split(qkv.clone(), parts)
    index_weights = [w.flip(0) for w in weights]
    want_q, want_k = aiter.fused_qk_norm_rope(q, k, None, *weights, *rope, gemma_norm=True)
    want_iq, want_ik = aiter.fused_qk_norm_rope(
        iq, ik, None, *index_weights, *rope, gemma_norm=True
    )
    ours = qkv.clone()
    arguments = (
        ours, *weights, table, positions, Q_HEADS, HEADS, ROTARY, 1e-6, *index_weights, index_heads
    )  # fmt: skip
    if kind == "inplace":
        compat.fused_qknorm_idxrqknorm(*arguments)
        for got, want in zip(
            split(ours, parts), (want_q, want_k, v, want_iq, want_ik), strict=True
        ):
            same(got, want)
        return
    codes = kind != "auto"
    dtype = compat.dtypes.fp8 if codes else qkv.dtype
    asm = kind == "asm"
    if asm:
        got, want = new_caches(dtype), new_caches(dtype)
    else:
        got, want = ([torch.zeros(PAGES, BLOCK, HEADS, DIM).to(dtype) for _ in "kv"] for _ in "gw")
    scales, want_scales = [None, None], []
    if kind in ("fp8", "asm"):
        shape = (PAGES, HEADS, BLOCK) if asm else (HEADS, PAGES * BLOCK)
        scales, want_scales = ([torch.zeros(shape) for _ in "kv"] for _ in "gw")
        compat.reshape_and_cache_with_pertoken_quant(want_k, v, *want, *want_scales, slots(), asm)
    else:
        name = "fp8" if codes else "auto"
        compat.reshape_and_cache(want_k, v, *want, slots(), name, None, None, False)
    q_out = torch.empty(TOKENS, Q_HEADS * DIM, dtype=qkv.dtype)
    index_q_out = torch.empty(TOKENS, index_heads * DIM, dtype=qkv.dtype)
    index_cache = torch.zeros(PAGES, BLOCK, DIM, dtype=qkv.dtype)
    compat.fused_qknorm_idxrqknorm(
        *arguments, slots(), *got, index_cache, BLOCK, q_out, index_q_out, slots() + 1,
        "auto" if not codes else "fp8_e4m3_unit" if kind == "unit" else "fp8", "auto", *scales, asm,
    )  # fmt: skip
    same(q_out.view(want_q.shape), want_q)
    same(index_q_out.view(want_iq.shape), want_iq)
    same(index_cache.flatten(0, 1)[slots() + 1], want_ik[:, 0])
    for x, y in zip((*got, *scales), (*want, *(want_scales or [None] * 2)), strict=True):
        if x is not None:
            same(x, y)
