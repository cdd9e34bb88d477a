"""fused_qk_norm_rope_group_quant and its kin: heads within their bound of float64; Hadamard rotation,
codes, scales and what lies where exactly."""

import aiter
import cases_fused_qk_norm_rope_group_quant as cases
import ml_dtypes
import numpy as np
import pytest
from aiter.testing import Case, assert_close, assert_equal, using, variants
from paged import quant

CASES = [c for c in cases.CASES if c.tag != "perf"]
OP = "fused_qk_rope_reshape_and_cache"
bf16 = ml_dtypes.bfloat16
FP8 = "float8_e4m3fn"
V4 = {"tokens": 6, "heads": 3, "dim": 192, "width": 32}  # two groups of 64 that do not turn
POISON = 0x7F


@pytest.fixture(params=variants(OP), ids="-".join)
def row(request):
    with using(OP, *request.param):
        yield request.param


def heads_of(arguments, **options):
    return aiter.fused_reduce_qk_norm_rope_swa_write(**arguments, **options)


def quantized(x, group, code, e8m0, floor):
    """(codes, scales or their exponents) of groups of float32 numbers."""
    x = x.astype(np.float32).reshape(*x.shape[:-1], -1, group)
    amax = np.maximum(np.abs(x).max(-1, initial=0), np.float32(floor))
    if e8m0:
        scale = np.vectorize(lambda v: quant.mx_scale(v, code, 1) + 127, otypes=[np.uint8])(amax)
        factor = np.ldexp(np.float32(1), 127 - scale.astype(np.int32))
    else:
        scale = amax / np.float32(quant.MAX[code])
        factor = np.float32(1) / scale
    codes = quant.encode((x * factor[..., None]).reshape(*x.shape[:-2], -1), code)
    return codes.view(np.uint8), scale


@pytest.mark.parametrize("case", CASES, ids=str)
def test_heads(case, row):
    arguments = cases.make(case)
    want = cases.reference(**arguments)
    for got, (heads, size), what in zip(heads_of(arguments), want, ("q", "kv"), strict=True):
        assert_close(got, heads, terms=case.dim, scale=3 * size, what=what)
        if heads.size and size.min() > 0:  # and the bound sees what it is to see
            with pytest.raises(AssertionError):
                assert_close(got, heads * 1.1 + 0.1, terms=2, scale=3 * size)


def test_whole_sums_are_the_heads_themselves(row):
    """One part gives the bits of no parts; zeros add nothing."""
    arguments = cases.make(CASES[0])
    q, kv = heads_of(arguments)
    for parts in ([arguments["q"]], [arguments["q"], np.zeros_like(arguments["q"])]):
        assert_equal(heads_of(arguments | {"q": np.stack(parts)})[0], q)
    wide = arguments["q"].astype(np.float32)
    assert_equal(heads_of(arguments | {"q": wide})[0], q)
    q_wide, _ = heads_of(arguments, dtype="float32")
    assert q_wide.dtype == np.float32
    assert_equal(q_wide.astype(bf16), q)


@pytest.mark.parametrize("ids", [np.int32, np.int64])
@pytest.mark.parametrize("window", [1, 3, 8])
def test_ring(window, ids, row):
    arguments = cases.make(Case("edge", **cases.SMALL, dtype="bf16"))
    batches = np.array([2, 0, -1, 1, 0, 2, -5], ids)
    arguments["positions"] = np.array([7, 3, 0, 39, 4, 8, 1])
    rings = np.array([3, 0, 4], ids)
    swa = np.full((6, window, 64), POISON, bf16)
    want = swa.copy()
    kv_before = arguments["kv"].copy()
    q, kv = heads_of(arguments, batch_id_per_token=batches, state_slot_mapping=rings, swa_kv=swa)
    plain = heads_of(arguments)
    assert_equal(q, plain[0]), assert_equal(kv, plain[1]), assert_equal(arguments["kv"], kv_before)
    candidates = {}
    for t, (b, p) in enumerate(zip(batches, arguments["positions"], strict=True)):
        if b >= 0:
            candidates.setdefault((rings[b], p % window), []).append(t)
    for place, tokens in candidates.items():
        # Of tokens with one line, each dim may be another's.
        assert np.any([swa[place] == kv[t] for t in tokens], 0).all()
        want[place] = swa[place]
    assert_equal(swa, want)
    # In place, tokens that go nowhere left alone.
    own = arguments["kv"].copy()
    heads_of(
        arguments | {"kv": own}, batch_id_per_token=batches, state_slot_mapping=rings, swa_kv=swa,
        skip_unwritten=True, out=(None, own),
    )  # fmt: skip
    assert_equal(own, np.where((batches >= 0)[:, None], kv, kv_before))


def group_quant(arguments, code=FP8, **options):
    names = ("kv_norm_weight", "positions", "cos_cache", "sin_cache")
    q = arguments["q"].reshape(len(arguments["kv"]), -1, arguments["kv"].shape[1])
    return aiter.fused_qk_norm_rope_group_quant(
        q, arguments["kv"], *(arguments[n] for n in names), arguments["kv_rms_eps"],
        arguments["is_neox"], q_weight=arguments["q_norm_weight"], quant_dtype=code, **options,
    )  # fmt: skip


def packed(heads, turned, group, code):
    """(codes and scales as they lie side by side, the turned dims)."""
    still = heads[..., : heads.shape[-1] - turned]
    codes, scale = quantized(still, group, code, True, 1e-12)
    return np.concatenate([codes, scale.repeat(2, -1)], -1), heads[..., heads.shape[-1] - turned :]


@pytest.mark.parametrize("neox", [True, False])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("code", quant.FP8)
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_packed_codes(dtype, code, group, neox, row):
    if (dtype != "bf16") + (code != FP8) + (group != 64) > 1:
        pytest.skip("one at a time")
    arguments = cases.make(Case("smoke", **V4, dtype=dtype, neox=neox))
    arguments["kv_rms_eps"] = arguments["q_rms_eps"]
    arguments["q"][0] = arguments["kv"][1] = 0  # groups of zeros
    base = heads_of(arguments)
    q, q_rope, kv, kv_rope = group_quant(
        arguments, code, q_out_dtype=code, quant_group_size=group,
    )  # fmt: skip
    for heads, codes, rope, size in zip(base, (q, kv), (q_rope, kv_rope), (group, 64), strict=True):
        want, turned = packed(heads, 64, size, code)
        assert codes.shape == heads.shape and codes.dtype == aiter.testing.dtype_of(code)
        assert_equal(codes.view(np.uint8)[..., : want.shape[-1]], want)
        assert_equal(rope, turned)
    # q as it is.
    q, q_rope, again, _ = group_quant(arguments, code, quant_group_size=group)
    (
        assert_equal(q, base[0]),
        assert_equal(again.view(np.uint8)[:, :132], kv.view(np.uint8)[:, :132]),
    )
    assert q_rope is None


@pytest.mark.parametrize("how", ["rows", "tables"])
def test_window_of_codes(how, row):
    arguments = cases.make(Case("smoke", **V4, dtype="bf16"))
    tokens, block = 6, 4
    nope = np.full((20, 192), POISON, np.uint8)
    rope = np.full((20, 64), 7, bf16)
    if how == "rows":
        rows = np.array([3, -1, 19, 0, 8, -7], np.int32)
        where = {"swa_dest_row": rows}
    else:
        arguments["positions"] = np.array([0, 5, 6, 11, 3, 30])
        batches = np.array([1, 0, 1, -1, 0, 1], np.int32)
        tables = np.array([[2, 4, -1], [0, 3, -1]], np.int32)
        pages = tables[np.maximum(batches, 0), np.minimum(arguments["positions"] // block, 2)]
        rows = np.where((batches < 0) | (pages < 0), -1, pages * block + arguments["positions"] % 4)
        where = {"swa_block_tables": tables, "swa_block_size": 4, "batch_id_per_token": batches}
    want_nope, want_rope = nope.copy(), rope.copy()
    _, _, kv, kv_rope = group_quant(
        arguments, swa_nope_scale_buff=nope, swa_rope_buff=rope, **where
    )
    for t in range(tokens):
        if rows[t] >= 0:
            want_nope[rows[t], :132] = kv.view(np.uint8)[t, :132]
            want_rope[rows[t]] = kv_rope[t]
    assert_equal(nope, want_nope), assert_equal(rope, want_rope)
    assert (rows >= 0).sum() == (4 if how == "rows" else 4)


def test_kv_alone_into_pages(row):
    arguments = cases.make(Case("smoke", **V4, dtype="bf16"))
    slots = np.array([5, -1, 0, 11, 7, 2])
    codes = np.full((3, 4, 192), POISON, ml_dtypes.float8_e4m3fn)
    rope = np.full((3, 4, 64), 7, bf16)
    _, _, kv, kv_rope = group_quant(arguments)
    aiter.fused_kv_norm_rope_group_quant(
        arguments["kv"], arguments["kv_norm_weight"], arguments["positions"], slots,
        arguments["cos_cache"], arguments["sin_cache"], arguments["kv_rms_eps"], codes, rope,
    )  # fmt: skip
    there = slots >= 0
    flat = codes.view(np.uint8).reshape(12, 192)
    assert_equal(flat[slots[there], :132], kv.view(np.uint8)[there, :132])
    assert_equal(rope.reshape(12, 64)[slots[there]], kv_rope[there])
    left = np.setdiff1d(np.arange(12), slots)
    assert (codes.reshape(12, 192)[left] == codes.dtype.type(POISON)).all()
    assert (rope.reshape(12, 64)[left] == 7).all() and len(left) == 7


def rotated(tokens, heads, dim, width, dtype, seed=0):
    case = Case("smoke", tokens=tokens, heads=heads, dim=dim, width=max(width, 1), dtype=dtype)
    a = cases.make(case, seed)
    x = a["q"].reshape(tokens, heads, dim)
    tables = (a["cos_cache"], a["sin_cache"], a["positions"]) if width else (None,) * 3
    return x, tables


SHAPES = [
    (5, 3, 128, 32),
    (3, 2, 64, 0),
    (2, 1, 16, 8),
    (3, 2, 8, 2),
    (2, 2, 1024, 32),
    (2, 1, 2, 1),
]


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("tokens, heads, dim, width", SHAPES)
def test_rope_rotate_activation(tokens, heads, dim, width, dtype, row):
    x, tables = rotated(tokens, heads, dim, width, dtype)
    turned = aiter.rope_rotate_activation(x, *tables, do_rotate_act=False)
    if width:
        c = Case("", tokens=tokens, dim=dim)
        want, size = cases.fused.turned(x, tables[2], *tables[:2], False, True)
        assert_close(turned, want, terms=2, scale=size, what=str(c))
    else:
        assert_equal(turned, x)
    want = cases.hadamard(turned.astype(np.float32))
    assert_equal(aiter.rope_rotate_activation(x, *tables), want.astype(x.dtype))
    out = np.empty(x.shape, np.float32)
    assert_equal(aiter.rope_rotate_activation(x, *tables, "float32", out=out), want)
    own = x.copy()
    assert_equal(aiter.rope_rotate_activation(own, *tables, out=own), want.astype(x.dtype))


@pytest.mark.parametrize("rotate", [True, False])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("code, group", [(quant.FP4, 32), (FP8, 128), ("int8", 64), (FP8, 16)])
def test_codes_of_rotated_heads(code, group, dtype, rotate, row):
    x, tables = rotated(4, 18, 128, 16, dtype)
    x[1] = 0
    numbers = aiter.rope_rotate_activation(x, *tables, do_rotate_act=False).astype(np.float32)
    if rotate:
        numbers = cases.hadamard(numbers)
    fp4 = code == quant.FP4
    floor = 6 * 2.0**-126 if fp4 else 1e-10
    codes, scale = quantized(numbers, group, code, fp4, floor)
    got, got_scale = aiter.rope_rotate_activation(x, *tables, code, group, do_rotate_act=rotate)
    assert_equal(got.view(np.uint8), codes)
    assert_equal(got_scale.view(np.uint8) if fp4 else got_scale, scale)
    # Scales in tiles of 16 heads.
    out = np.full((4, 128 // group, 16, 4), POISON, np.uint8 if fp4 else np.float32)
    again, tiles = aiter.rope_rotate_activation(
        x, *tables, code, group, True, rotate, out_scale=out
    )
    assert_equal(again.view(np.uint8), codes)
    padded = np.full((4, 64, 128 // group), POISON, out.dtype)
    padded[:, :18] = scale
    assert_equal(tiles, padded.reshape(4, 4, 16, -1).transpose(0, 3, 2, 1))
    _, fresh = aiter.rope_rotate_activation(x, *tables, code, group, True, rotate)
    assert fresh.shape == (4, 128 // group, 16, 4)


@pytest.mark.parametrize("rotate", [True, False])
@pytest.mark.parametrize("block", [16, 64])
@pytest.mark.parametrize("dim", [128, 256])
def test_fp4_cache(dim, block, rotate, row):
    a = cases.make(Case("smoke", tokens=5, heads=1, dim=dim, width=32, dtype="bf16"))
    slots = np.array([block + 3, -1, 0, 3 * block - 1, 17])
    tables = a["cos_cache"], a["sin_cache"], a["positions"]
    _, kv = heads_of(a)
    numbers = kv.astype(np.float32)
    codes, scale = quantized(
        cases.hadamard(numbers) if rotate else numbers, 32, quant.FP4, True, 6 * 2.0**-126
    )
    k = dim // 128
    cache = np.full((3, k, 4, block, 16), POISON, np.uint8)
    scales = np.full((3, k, 4, block), POISON, np.uint8)
    want, want_scales = cache.copy(), scales.copy()
    for t, slot in enumerate(slots):
        if slot >= 0:
            page, at = divmod(slot, block)
            want[page, :, :, at] = codes[t].reshape(k, 4, 16)
            want_scales[page, :, :, at % 16 * (block // 16) + at // 16] = scale[t].reshape(k, 4)
    call = aiter.rmsnorm_rope_rotate_activation_fp4quant_kvcache
    head = a["kv"], a["kv_norm_weight"], *tables, slots, a["kv_rms_eps"]
    call(cache, scales, *head, do_rotate_act=rotate)
    assert_equal(cache, want), assert_equal(scales, want_scales)
    # Rows.
    rows = np.full((3 * block, dim // 2), POISON, np.uint8)
    row_scales = np.full((3 * block, dim // 32), POISON, np.uint8)
    call(rows, row_scales, *head, shuffle_scale=False, do_rotate_act=rotate)
    there = slots >= 0
    assert_equal(rows[slots[there]], codes[there])
    assert_equal(row_scales[slots[there]], scale[there])
    assert (np.delete(rows, slots[there], 0) == POISON).all()


def test_tiles_of_slots(row):
    """fp8 codes in tiles of 16 slots x 16 dims, with one f32 scale a slot."""
    a = cases.make(Case("smoke", tokens=4, heads=1, dim=64, width=8, dtype="bf16"))
    slots = np.array([17, 2, 40, -1])
    _, kv = heads_of(a)
    codes, scale = quantized(kv.astype(np.float32), 64, FP8, False, 1e-4)
    cache = np.full((2, 2, 4, 16, 16), POISON, np.uint8)
    scales = np.full((2, 32, 1), POISON, np.float32)
    want = cache.copy()
    for t, slot in enumerate(slots[:3]):
        want[slot // 32, slot % 32 // 16, :, slot % 16] = codes[t].reshape(4, 16)
    aiter.kvcache._aiter.fused_qk_norm_rope_group_quant(
        None, a["kv"], None, a["kv_norm_weight"], a["positions"], a["cos_cache"], a["sin_cache"],
        slots, rows=False, kv_cache=cache, kv_cache_scale=scales, kv_eps=a["kv_rms_eps"],
        amax_floor=1e-4, codes_dtype=FP8,
    )  # fmt: skip
    assert_equal(cache, want)
    assert_equal(scales.reshape(64)[slots[:3]], scale[:3, 0])
    assert (np.delete(scales.reshape(64), slots[:3]) == POISON).all()


def test_strides_and_far_rows(row):
    """Heads with gaps between them, and a ring whose lines are gigabytes apart."""
    import mmap

    a = cases.make(Case("edge", **cases.SMALL, dtype="bf16"))
    wide = np.full((7, 3 * 64 + 16), np.nan, bf16)
    wide[:, : 3 * 64] = a["q"]
    tall = np.full((14, 80), np.nan, bf16)
    tall[::2, :64] = a["kv"]
    strided = a | {"q": wide[:, : 3 * 64], "kv": tall[::2, :64]}
    for got, want in zip(heads_of(strided), heads_of(a), strict=True):
        assert_equal(got, want)
    if row[1].startswith(("hip", "cuda")):
        return
    with mmap.mmap(-1, (1 << 33) + 4096, flags=mmap.MAP_PRIVATE | 0x4000) as memory:  # NORESERVE
        far = np.ndarray((2, 3, 64), bf16, memory, strides=(1 << 33, 128, 2))
        _, kv = heads_of(
            a,
            batch_id_per_token=np.array([0, -1, -1, -1, -1, -1, -1]),
            state_slot_mapping=np.array([1]),
            swa_kv=far,
        )
        assert_equal(far[1, a["positions"][0] % 3].copy(), kv[0])
        del far


def test_nothing_where_nothing_turns_out_of_range(row):
    """On a GPU tokens with a position, slot, sequence or page out of range are passed over."""
    a = cases.make(Case("edge", **cases.SMALL, dtype="bf16"))
    swa = np.zeros((2, 4, 64), bf16)
    for change, message in (
        ({"batch_id_per_token": np.full(7, 3)}, "batch_ids has 3"),
        ({"state_slot_mapping": np.array([0, 2, 0])}, "slot_mapping has 2"),
        ({"positions": np.full(7, 40)}, "positions has 40"),
    ):
        options = {
            "batch_id_per_token": np.ones(7, int),
            "state_slot_mapping": np.array([0, 1, 0]),
            "swa_kv": swa,
        }
        b = a | {k: v for k, v in change.items() if k in a}
        options |= {k: v for k, v in change.items() if k not in a}
        if row[1].startswith(("hip", "cuda")):
            continue
        with pytest.raises(ValueError, match=message):
            heads_of(b, **options)
        assert not swa.any()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"q": np.zeros((7, 100), bf16)}, "q and kv have shapes"),
        ({"rope_head_dim": 8}, "rope_head_dim is 8, expected 16"),
        ({"q": np.zeros((0, 7, 192), bf16)}, "q has no parts"),
        ({"q": np.zeros((7, 192), np.float16)}, "q has dtype float16"),
        ({"kv": np.zeros((6, 64), bf16)}, "q has"),
        ({"kv_norm_weight": np.zeros(32, bf16)}, "kv_weight has"),
        ({"positions": np.zeros(6, int)}, "positions"),
        ({"swa_kv": np.zeros((2, 4, 60), bf16)}, "kv_cache has"),
        ({"swa_kv": np.zeros((2, 4, 64), np.uint8)}, "kv_cache has dtype uint8"),
        ({"skip_unwritten": True}, "skip_uncached is 1, expected 0 without kv_cache"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_bad_input(change, message):
    a = cases.make(Case("edge", **cases.SMALL, dtype="bf16"))
    with pytest.raises(ValueError, match=message):
        heads_of(
            a
            | {"state_slot_mapping": np.zeros(1, int), "batch_id_per_token": np.zeros(7, int)}
            | change
        )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"quant_dtype": "float4_e2m1fnx2", "group_size": 48}, "48 dims, expected a divisor"),
        ({"x": np.zeros((4, 2, 96), bf16)}, "96 dims a head, expected 1 to 1024, a power of two"),
        ({"quant_dtype": "uint8"}, "q_out has dtype uint8"),
        ({"out": np.zeros((4, 2, 64), bf16)}, "q_out has"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_bad_rotation(change, message):
    x, (cos, sin, positions) = rotated(4, 2, 128, 16, "bf16")
    arguments = {"x": x, "cos": cos, "sin": sin, "positions": positions}
    with pytest.raises(ValueError, match=message):
        aiter.rope_rotate_activation(**(arguments | change))
