"""aiter.compat's quantization: AITER's signatures, on torch tensors."""

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import aiter as library
import aiter.compat as aiter
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "quant"))
import cases_quantize as cases

X = np.random.default_rng(0).standard_normal((40, 256)).astype(np.float32)
TX = torch.from_numpy(X)
FP8 = torch.float8_e4m3fn


def raw(t):
    return t.contiguous().view(torch.uint8).numpy()


def same(codes, scale, want):
    np.testing.assert_array_equal(raw(codes), np.ascontiguousarray(want[0]).view(np.uint8))
    flat = scale.contiguous().view(torch.uint8).numpy().reshape(-1)
    np.testing.assert_array_equal(flat, np.ascontiguousarray(want[1]).view(np.uint8).reshape(-1))


def test_per_tensor():
    out, scale = torch.empty(X.shape, dtype=torch.int8), torch.empty(1)
    aiter.dynamic_per_tensor_quant(out, TX, scale)
    same(out, scale, cases.reference(X, (0, 0), "int8"))
    again = torch.empty_like(out)
    aiter.static_per_tensor_quant(again, TX, scale)
    assert torch.equal(again, out)
    for codes, found in (
        aiter.per_tensor_quant_hip(TX, quant_dtype=FP8),
        aiter.per_tensor_quant(TX, quant_dtype=FP8),
    ):
        same(codes, found, cases.reference(X, (0, 0), "float8_e4m3fn"))


def test_per_token():
    out, scale = torch.empty(X.shape, dtype=FP8), torch.empty(40, 1)
    aiter.dynamic_per_token_scaled_quant(out, TX, scale)
    same(out, scale, cases.reference(X, (1, 0), "float8_e4m3fn"))
    aiter.dynamic_per_token_scaled_quant(out, TX, scale, scale_ub=torch.tensor([0.5]))
    same(out, scale, cases.reference(X, (1, 0), "float8_e4m3fn", scale_ub=0.5))
    same(*aiter.per_token_quant_hip(TX), cases.reference(X, (1, 0), "int8"))
    same(*aiter.pertoken_quant(TX), cases.reference(X, (1, 0), "int8"))
    out = torch.full((40, 256), 77, dtype=torch.int8)
    aiter.dynamic_per_token_scaled_quant(
        out, TX, scale, num_rows=torch.tensor([3], dtype=torch.int32), num_rows_factor=2
    )
    assert (out[6:] == 77).all() and not (out[:6] == 77).all()


def test_groups():
    want = cases.reference(X, (1, 128), "float8_e4m3fn")
    out, scale = torch.empty(X.shape, dtype=FP8), torch.empty(40, 2)
    aiter.dynamic_per_group_scaled_quant(out, TX, scale, 128, shuffle_scale=False)
    same(out, scale, want)
    aiter.dynamic_per_token_scaled_quant(out, TX.view(-1, 128), scale)  # groups as rows
    same(out, scale, want)
    _, transposed = aiter.per_group_quant_hip(TX, quant_dtype=FP8, transpose_scale=True)
    np.testing.assert_array_equal(transposed.view(2, 40).numpy(), want[1].T)
    same(*aiter.per_group_quant_hip(TX, quant_dtype=FP8), want)


def test_mx():
    want = cases.reference(X, (1, 32), cases.FP4, scale_dtype=cases.E8M0)
    same(*aiter.per_1x32_mx_quant_hip(TX), want)
    same(*aiter.per_1x32_f4_quant_hip(TX), want)
    codes, scale = aiter.per_1x32_mx_quant_hip(TX, shuffle=True)
    shuffled, padding = cases.shuffle(want[1])
    np.testing.assert_array_equal(raw(codes), want[0])
    np.testing.assert_array_equal(raw(scale)[~padding], shuffled.view(np.uint8)[~padding])
    out, out_scale = torch.empty(40, 128, dtype=torch.uint8), torch.empty(40, 8, dtype=torch.uint8)
    aiter.quant_mxfp4(TX, out, out_scale, round_mode=2)
    want = cases.reference(X, (1, 32), cases.FP4, scale_dtype=cases.E8M0, round_mode=2)
    np.testing.assert_array_equal(out.numpy(), want[0])
    np.testing.assert_array_equal(out_scale.numpy(), want[1].view(np.uint8))


def test_smoothquant():
    smooth = np.random.default_rng(1).random((3, 256)).astype(np.float32)
    ids = np.random.default_rng(2).integers(0, 3, (40, 2)).astype(np.int32)
    out, scale = torch.empty(X.shape, dtype=torch.int8), torch.empty(40)
    aiter.smoothquant_fwd(out, TX, torch.from_numpy(smooth[0].copy()), scale)
    same(out, scale, cases.reference(X, (1, 0), "int8", smooth=smooth[0]))
    out, scale = torch.empty(2, 40, 256, dtype=torch.int8), torch.empty(2, 40)
    aiter.moe_smoothquant_fwd(out, TX, torch.from_numpy(smooth), torch.from_numpy(ids), scale)
    want = cases.reference(X[7:8], (1, 0), "int8", smooth=smooth[ids[7, 1]])
    same(out[1, 7:8], scale[1, 7:8], want)


def test_int4():
    codes, scale = aiter.per_1x32_i4_quant(TX)
    groups = X.reshape(40, 8, 32)
    s = np.abs(groups).max(-1, keepdims=True) / np.float32(7)
    want = np.rint(groups * (np.float32(1) / s)).reshape(X.shape)
    np.testing.assert_array_equal(codes.numpy(), want)
    assert scale.shape == (8, 40) and scale.dtype == torch.bfloat16
    np.testing.assert_array_equal(
        scale.float().numpy(), torch.from_numpy(s[..., 0].T).bfloat16().float().numpy()
    )


def test_rotate_activation():
    out = torch.empty_like(TX)
    aiter.rotate_activation(out, TX)
    np.testing.assert_allclose(
        np.linalg.norm(out.numpy(), axis=1), np.linalg.norm(X, axis=1), rtol=1e-5
    )
    packed = torch.empty(40, 128, dtype=torch.uint8)
    scale = torch.empty(40, 8, dtype=torch.uint8)
    aiter.rotate_activation(packed, TX, scale.view(torch.float8_e8m0fnu), shuffle_scale=False)
    want = cases.reference(out.numpy(), (1, 32), cases.FP4, scale_dtype=cases.E8M0)
    np.testing.assert_array_equal(packed.numpy(), want[0])


def head_tiles(scale):
    """(tokens, heads, groups) in AITER's order of scales for 16 heads at once."""
    tokens, heads, groups = scale.shape
    tiles = scale.view(torch.uint8).view(tokens, heads // 16, 16, groups // 4, 4)
    return torch.nn.functional.pad(tiles.permute(0, 3, 4, 2, 1), (0, -(heads // 16) % 4))


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("rope", [False, True])
def test_rope_rotate_activation(rope, rotate):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 32, 128, generator=generator).bfloat16()
    angles = torch.rand(40, 32, generator=generator) * 6
    tables = angles.cos().bfloat16(), angles.sin().bfloat16(), torch.arange(5) * 7
    turned = x
    if rope:
        turned, _ = library.fused_qk_norm_rope(
            x, x[:, :0], None, None, None, *tables, None, False, is_nope_first=True
        )
    turned = turned.contiguous()
    want = torch.empty(x.shape)
    if rotate:
        aiter.rotate_activation(want, turned)
    else:
        want.copy_(turned)
    arguments = (*tables, 64) if rope else (None, None, None, 0)

    def call(out, scale=None, **options):
        aiter.rope_rotate_activation(
            out, x, *arguments, out_scale=scale, do_rotate_act=rotate, **options
        )

    out = torch.empty_like(x)
    call(out)
    assert torch.equal(out, want.bfloat16())
    codes, scale = torch.empty(x.shape, dtype=FP8), torch.empty(5 * 32, 1)
    call(codes, scale)
    like = cases.reference(want.view(-1, 128).numpy(), (1, 128), "float8_e4m3fn")
    np.testing.assert_array_equal(codes.view(torch.uint8).view(-1, 128), like[0].view(np.uint8))
    np.testing.assert_array_equal(scale, like[1])
    packed = torch.empty(5, 32, 64, dtype=torch.uint8).view(aiter.dtypes.fp4x2)
    like = cases.reference(want.view(-1, 128).numpy(), (1, 32), cases.FP4, scale_dtype=cases.E8M0)
    like_scale = torch.from_numpy(like[1].view(np.uint8)).view(5, 32, 4)
    for shuffled in (False, True):
        tiles = head_tiles(like_scale) if shuffled else like_scale
        scale = torch.zeros(tiles.shape, dtype=torch.uint8).view(aiter.dtypes.fp8_e8m0)
        call(packed, scale, shuffle_scale=shuffled)
        np.testing.assert_array_equal(packed.view(torch.uint8).view(-1, 64), like[0])
        assert torch.equal(scale.view(torch.uint8), tiles)
    if rotate and not rope:
        scale = torch.zeros(head_tiles(like_scale).shape, dtype=torch.uint8)
        aiter.rotate_activation(packed, x, scale)
        assert torch.equal(scale, head_tiles(like_scale))


@pytest.mark.parametrize("shuffled", [False, True])
def test_fp4_cache(shuffled):
    """A cache's codes are those of rope_rotate_activation."""
    x = torch.randn(6, 2, 256, generator=torch.Generator().manual_seed(1)).bfloat16()
    weight = torch.linspace(0.5, 2, 256).bfloat16()
    angles = torch.arange(80.0).view(40, 2).repeat(1, 16)
    tables = angles.cos().bfloat16(), angles.sin().bfloat16(), torch.arange(6) * 3
    slots = torch.tensor([70, -1, 3, 0, 127, 40])
    turned, _ = library.fused_qk_norm_rope(
        x, x[:, :0], None, weight, None, *tables, 1e-6, False, is_nope_first=True
    )
    codes = torch.empty(6, 2, 128, dtype=torch.uint8)
    scale = torch.empty(6, 2, 8, dtype=torch.uint8)
    aiter.rope_rotate_activation(
        codes, turned.contiguous(), None, None, None, 0, scale, shuffle_scale=False
    )
    shape = (2, 2, 4, 64, 16) if shuffled else (128, 128)
    cache = torch.zeros(shape, dtype=torch.uint8).view(aiter.dtypes.fp4x2)
    scales = torch.zeros(shape[:4] if shuffled else (128, 8), dtype=torch.uint8)
    aiter.rmsnorm_rope_rotate_activation_fp4quant_kvcache(
        cache, scales, x, weight, *tables, slots, 1e-6, 64, 64 if shuffled else 16,
        shuffle_scale=shuffled, do_rotate_act=True,
    )  # fmt: skip
    rows = cache.view(torch.uint8)
    if shuffled:
        rows = rows.permute(0, 3, 1, 2, 4).reshape(128, 128)
        scales = scales.view(2, 2, 4, 16, 4).permute(0, 4, 3, 1, 2).reshape(128, 8)
    there = slots >= 0
    assert torch.equal(rows[slots[there]], codes[there, 0])
    assert torch.equal(scales[slots[there]], scale[there, 0])
    assert not rows[4:40].any()
    with pytest.raises(ValueError, match="rope_dim"):
        aiter.rmsnorm_rope_rotate_activation_fp4quant_kvcache(
            cache, scales, x, weight, *tables, slots, 1e-6, 32
        )


def test_shuffle_weight():
    w = torch.arange(32 * 64, dtype=torch.int16).view(32, 64)
    shuffled = aiter.shuffle_weight(w)
    assert shuffled.is_shuffled and shuffled.shape == w.shape
    want = w.view(2, 16, 2, 4, 8).permute(0, 2, 3, 1, 4).reshape(w.shape)
    assert torch.equal(shuffled, want)
    assert torch.equal(aiter.unshuffle_weight(shuffled.packed), w)


def test_a_part_of_the_range():
    """dtypeMax: what the largest number becomes."""
    codes, scale = aiter.pertoken_quant(TX, dtypeMax=100.0)
    assert (codes.abs().amax(1) == 100).all()
    np.testing.assert_array_equal(scale.numpy(), np.abs(X).max(1, keepdims=True) / np.float32(100))
    codes, scale = aiter.per_tensor_quant(TX, dtypeMax=50)
    assert codes.abs().max() == 50 and scale.shape == (1,)
    codes, scale = aiter.per_1x32_f8_scale_f8_quant(TX, quant_dtype=FP8)
    groups = np.abs(X).reshape(40, 8, 32).max(-1) / np.float32(256)
    np.testing.assert_array_equal(scale.numpy(), groups)
    assert codes.float().abs().max() == 256
    codes, scale = aiter.per_1x32_f8_scale_f8_quant(
        TX, quant_dtype=FP8, scale_type=torch.float8_e8m0fnu
    )
    same(codes, scale, cases.reference(X, (1, 32), "float8_e4m3fn", scale_dtype=cases.E8M0))


@pytest.mark.parametrize("mode", range(4))
def test_mxfp4_reference(mode):
    want = cases.reference(X, (1, 32), cases.FP4, scale_dtype=cases.E8M0, round_mode=mode)
    same(*aiter.per_1x32_f4_quant(TX, round_mode=mode), want)
    codes, scale = aiter.per_1x32_f4_quant(TX.t().contiguous(), pack_dim=0, round_mode=mode)
    assert codes.shape == (128, 40) and scale.shape == (8, 40)
    np.testing.assert_array_equal(codes.view(torch.uint8).numpy().T, want[0])
    np.testing.assert_array_equal(scale.view(torch.uint8).numpy().T, want[1].view(np.uint8))
    both = aiter.per_1x32_f4_quant_for_dot_scaled(TX, TX.t(), round_mode=mode)
    same(*both[:2], want)
    np.testing.assert_array_equal(both[2].view(torch.uint8).numpy().T, want[0])


def test_quant_mxfp4_flags():
    x = torch.from_numpy(X[:32].copy())
    codes, scale = aiter.per_1x32_f4_quant(x, round_mode=0)
    codes, scale = codes.view(torch.uint8), scale.view(torch.uint8)
    out, out_scale = torch.empty_like(codes), torch.empty_like(scale)
    for gate_up in (False, True):
        aiter.quant_mxfp4(x, out, out_scale, 32, 0, False, True, gate_up, True)
        want = aiter.shuffle_weight_a16w4(codes[None], 16, gate_up)[0]
        assert torch.equal(out, want)
        assert torch.equal(out_scale, aiter.shuffle_scale_a16w4(scale, 1, gate_up))
    out, out_scale = aiter.quant_mxfp4_hip(x, 32, 0, e8m0_shuffle=True, shuffle_weight=True)
    assert out_scale.shape == (256, 8) and out.shape == (32, 128)
    assert torch.equal(out.view(torch.uint8), aiter.shuffle_weight(codes))
    back = torch.from_numpy(aiter.unshuffle_scale(out_scale.view(torch.uint8).numpy(), (32, 8)))
    assert torch.equal(back, scale)


def test_facades():
    fp8 = cases.reference(X, (1, 128), "float8_e4m3fn")
    for get in (aiter.get_torch_quant, aiter.get_hip_quant, aiter.get_triton_quant):
        assert get(aiter.QuantType.No)(TX) == (TX, None)
        same(*get(aiter.QuantType.per_1x128)(TX, quant_dtype=FP8), fp8)
        same(*get(aiter.QuantType.per_Token)(TX), cases.reference(X, (1, 0), "int8"))
        same(*get(aiter.QuantType.per_Tensor)(TX), cases.reference(X, (0, 0), "int8"))
        mode = 2 if get is aiter.get_triton_quant else 1
        mx = cases.reference(X, (1, 32), cases.FP4, scale_dtype=cases.E8M0, round_mode=mode)
        same(*get(aiter.QuantType.per_1x32)(TX), mx)
        with pytest.raises(NotImplementedError, match="unsupported quant type"):
            get(aiter.QuantType.per_128x128)(TX)
    assert aiter.get_dtype_max(torch.int8) == 127 and aiter.get_dtype_max(FP8) == 448
    assert aiter.get_torch_act(aiter.ActivationType.Silu)(TX).shape == TX.shape


def test_triton():
    out, scale = torch.empty(X.shape, dtype=FP8), torch.empty(1)
    want = cases.reference(X, (0, 0), "float8_e4m3fn")
    same(*aiter.dynamic_per_tensor_quant_fp8_i8(out, TX, scale), want)
    assert torch.equal(aiter.static_per_tensor_quant_fp8_i8(torch.empty_like(out), TX, scale), out)
    rows = torch.empty(40)
    same(*aiter.dynamic_per_token_quant_fp8_i8(out, TX, rows),
         cases.reference(X, (1, 0), "float8_e4m3fn"))  # fmt: skip
    codes, scale = aiter.dynamic_mxfp4_quant(TX)
    assert scale.stride() == (1, 40)
    same(codes, scale, cases.reference(X, (1, 32), cases.FP4, None, cases.E8M0, round_mode=2))
    for factor in (0.5, torch.tensor([0.5])):
        codes, scale = aiter.dynamic_nvfp4_quant(TX, factor)
        assert scale.stride() == (1, 40)
        want = cases.reference(X, (1, 16), cases.FP4, None, cases.E4M3, global_scale=0.5)
        same(codes, scale, want)
    want = cases.reference(X, (1, 32), "float8_e4m3fn", None, cases.E8M0, round_mode=4)
    codes, scale = aiter.dynamic_mxfp8_quant(TX.view(5, 8, 256))
    assert codes.shape == (5, 8, 256) and scale.shape == (5, 8, 8)
    same(codes.view(40, 256), scale, want)
    same(*aiter.fused_flatten_mxfp8_quant(TX.view(40, 4, 64)), want)
    want = cases.reference(X, (1, 32), cases.FP4, None, cases.E8M0, round_mode=2)
    same(*aiter.fused_flatten_mxfp4_quant(TX.view(40, 4, 64)), want)
    want = cases.reference(X, (1, 64), "float8_e4m3fn")
    for transpose in (False, True):
        codes, scale = aiter.fused_flatten_fp8_group_quant(TX.view(40, 2, 128), 64, FP8, transpose)
        assert scale.stride() == ((1, 40) if transpose else (4, 1))
        same(codes, scale, want)


def triton_mxfp8(x):
    """AITER's _mxfp8_quant_op, step by step: (scale, factor) of groups of 32."""
    amax = np.abs(x.reshape(*x.shape[:-1], -1, 32)).max(-1)
    rounded = (amax.view(np.int32) + 0x200000 & ~0x7FFFFF).view(np.float32)
    unbiased = np.clip(np.floor(np.log2(rounded)) - 8, -127, 127)
    return (unbiased + 127).astype(np.uint8), np.exp2(-unbiased).astype(np.float32)


def test_mxfp8_is_as_in_aiters_triton():
    """Also where mantissas lie between the thresholds of its roundings: 1.75 to 1.9375."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((64, 256)).astype(np.float32)
    x[:, ::32] = 4 * rng.choice(np.arange(1.5, 2, 1 / 64), (64, 8)) * rng.choice([1, -1], (64, 8))
    scale, factor = triton_mxfp8(x)
    want = torch.from_numpy(x * np.repeat(factor, 32, -1)).clamp(-448, 448).to(FP8)
    codes, found = aiter.dynamic_mxfp8_quant(torch.from_numpy(x))
    np.testing.assert_array_equal(found.numpy(), scale)
    assert torch.equal(codes.view(torch.uint8), want.view(torch.uint8))
    for other in (1, 2):
        _, differs = aiter.per_1x32_mx_quant(x, "float8_e4m3fn", round_mode=other)
        assert (differs.view(np.uint8) != scale).any()

    legacy = torch.from_numpy(x).to(torch.float8_e4m3fnuz)
    x_scale = torch.from_numpy(rng.uniform(0.5, 2, (64, 2)).astype(np.float32))
    y = legacy.float().numpy() * np.repeat(x_scale.numpy(), 128, -1)
    scale, factor = triton_mxfp8(y)
    want = torch.from_numpy(y * np.repeat(factor, 32, -1)).clamp(-448, 448).to(FP8)
    codes, found = aiter.fp8_legacy_to_mxfp8(legacy, x_scale)
    np.testing.assert_array_equal(found.numpy(), scale)
    assert torch.equal(codes.view(torch.uint8), want.view(torch.uint8))


def sorted_by_expert(ids, experts, block):
    """(sorted ids, experts of blocks, number of valid ids), as AITER's moe_sorting makes them."""
    tokens = len(ids)
    found, owners = [], []
    for e in range(experts):
        mine = [t | k << 24 for t in range(tokens) for k in range(ids.shape[1]) if ids[t, k] == e]
        mine += [tokens | ids.shape[1] << 24] * (-len(mine) % block)
        found += mine
        owners += [e] * (len(mine) // block)
    valid = len(found)
    found += [0x01000003] * block  # what is behind them means nothing
    return (
        torch.tensor(found, dtype=torch.int32),
        torch.tensor([*owners, 0], dtype=torch.int32),
        torch.tensor([valid, tokens], dtype=torch.int32),
    )


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("stage", [1, 2])
def test_smoothquant_of_sorted_tokens(stage, transpose):
    rng = np.random.default_rng(6)
    ids = np.stack([rng.permutation(4)[:2] for _ in range(10)])
    ids[3, 1] = 7  # an expert of another machine
    smooth = rng.random((4, 256)).astype(np.float32)
    lists = sorted_by_expert(ids, 4, 16)
    x = TX[:10] if stage == 1 else TX[:20].view(10, 2, 256)
    shape = (2, 10) if transpose else (10, 2)
    out = torch.full((*shape, 256), 77, dtype=torch.int8)
    scale = torch.full(shape, 7.0)
    aiter.moe_smooth_per_token_scaled_quant_v2(
        out, x, scale, torch.from_numpy(smooth), *lists, 16, transpose_out=transpose
    )
    if transpose:
        out, scale = out.transpose(0, 1), scale.t()
    for t, k in np.ndindex(ids.shape):
        if ids[t, k] == 7:
            assert (out[t, k] == 77).all() and scale[t, k] == 7
            continue
        row = X[t : t + 1] if stage == 1 else X[2 * t + k : 2 * t + k + 1]
        want = cases.reference(row, (1, 0), "int8", smooth=smooth[ids[t, k]])
        same(out[t, k : k + 1], scale[t, k].reshape(1), want)


def test_smoothquant_of_sorted_tokens_or_by_ids():
    ids = torch.from_numpy(np.random.default_rng(7).integers(0, 4, (10, 1)).astype(np.int32))
    smooth = torch.rand(4, 256)
    local = torch.tensor([2, 3, 0, 1], dtype=torch.int32)
    lists = sorted_by_expert(local[ids.long()].numpy(), 4, 16)
    results = []
    for hash in (None, local):
        out, scale = torch.empty(10, 1, 256, dtype=torch.int8), torch.empty(10, 1)
        aiter.moe_smooth_per_token_scaled_quant(
            out, TX[:10], scale, smooth, ids, *lists, 16, local_expert_hash=hash
        )
        results.append(out)
    assert torch.equal(*results)


@pytest.mark.parametrize("topk", [1, 2])
def test_sorted_scales(topk):
    rng = np.random.default_rng(8)
    ids = np.stack([rng.permutation(4)[:2] for _ in range(20)])
    sorted_ids, _, valid = sorted_by_expert(ids, 4, 32)
    rows = 20 * topk
    x = TX[:rows]
    per_row = cases.reference(X[:rows], (1, 32), cases.FP4, None, cases.E8M0)
    bytes_of = per_row[1].view(np.uint8)
    want = np.zeros((len(sorted_ids), 8), np.uint8)
    for i, word in enumerate(sorted_ids[: valid[0]].tolist()):
        token, k = word & 0xFFFFFF, word >> 24
        if token < 20:
            want[i] = bytes_of[token * topk + k if topk > 1 else token]
    order, padding = cases.shuffle(want)
    order = order[: len(want)]  # unpadded
    scale = torch.from_numpy(bytes_of.copy())
    got = aiter.mxfp4_moe_sort_fwd(scale, sorted_ids, valid, 20, 256)
    np.testing.assert_array_equal(got.view(torch.uint8).numpy(), order)
    codes, got = aiter.fused_dynamic_mxfp4_quant_moe_sort(x, sorted_ids, valid, 20, topk, 32)
    np.testing.assert_array_equal(raw(codes), per_row[0])
    np.testing.assert_array_equal(got.view(torch.uint8).numpy(), order)
    codes, got = aiter.fused_dynamic_mxfp8_quant_moe_sort(x, sorted_ids, valid, 20, topk, 32)
    want = cases.reference(X[:rows], (1, 32), str(codes.dtype)[6:], None, cases.E8M0)
    np.testing.assert_array_equal(raw(codes), want[0].view(np.uint8))
    valid_rows = torch.tensor([3], dtype=torch.int32)
    few, _ = aiter.fused_dynamic_mxfp8_quant_moe_sort(
        x, sorted_ids, valid, 20, topk, 32, valid_rows
    )
    np.testing.assert_array_equal(raw(few)[: 3 * topk], want[0].view(np.uint8)[: 3 * topk])
    if topk == 2:  # rows of weight 0 are zeros
        weights = torch.ones(len(sorted_ids))
        at = int(np.flatnonzero((sorted_ids & 0xFFFFFF).numpy() == 5)[0])
        weights[at] = 0
        zero = 5 * 2 + int(sorted_ids[at] >> 24)
        codes, _ = aiter.fused_dynamic_mxfp4_quant_moe_sort(
            x, sorted_ids, valid, 20, 2, 32, sorted_weights=weights
        )
        codes = codes.view(torch.uint8)
        assert (codes[zero] == 0).all()
        keep = np.arange(rows) != zero
        np.testing.assert_array_equal(codes.numpy()[keep], per_row[0][keep])


def test_sorted_fp8_scales():
    rng = np.random.default_rng(9)
    ids = np.stack([rng.permutation(4)[:2] for _ in range(10)])
    sorted_ids, _, valid = sorted_by_expert(ids, 4, 32)
    x = TX[:20]
    code = str(aiter.dtypes.fp8).removeprefix("torch.")
    want = cases.reference(X[:20], (1, 32), code, None, cases.E8M0, round_mode=4)
    codes, scale = aiter.fused_quant_fp8_sort(x, sorted_ids, valid, 10)
    np.testing.assert_array_equal(raw(codes), want[0].view(np.uint8))
    plain = torch.from_numpy(want[1].view(np.uint8).copy())
    order = aiter.mxfp4_moe_sort_fwd(plain, sorted_ids, valid, 10, 256)
    assert torch.equal(scale.view(torch.uint8), order.view(torch.uint8))


@pytest.mark.parametrize("tokens", [32, 41])
def test_mxfp8_n32k4(tokens):
    o = torch.randn(tokens, 3, 256, generator=torch.Generator().manual_seed(1)).bfloat16()
    codes, tiles = aiter.dynamic_mxfp8_quant_n32k4_mbn(o)
    want, scale = aiter.dynamic_mxfp8_quant(o)
    assert torch.equal(codes.view(torch.uint8), want.view(torch.uint8))
    assert tiles.shape == (-(-tokens // 32), 3, 256)
    for t in range(tiles.shape[0] * 32):
        for b, g in np.ndindex(3, 8):
            entry = tiles[t // 32, b, g // 4 * 128 + t % 32 * 4 + g % 4]
            assert entry == (scale[t, b, g] if t < tokens else 0)


def test_hadamard_matrix():
    h = aiter.create_hadamard_matrix(64, "cpu", torch.float32)
    rotated = torch.empty(40, 64)
    aiter.rotate_activation(rotated, TX[:, :64].contiguous())
    torch.testing.assert_close(TX[:, :64] @ h / 8, rotated)
    with pytest.raises(ValueError, match="block_size is 48, expected a power of 2"):
        aiter.create_hadamard_matrix(48, "cpu")


def test_partial_transpose():
    out = torch.full((40, 256), -1.0)
    aiter.partial_transpose(out, TX, torch.tensor([7], dtype=torch.int32))
    np.testing.assert_array_equal(out.view(-1)[: 7 * 256].view(256, 7).numpy(), X[:7].T)
    assert (out.view(-1)[7 * 256 :] == -1).all()


@pytest.mark.parametrize(
    "function, rows, cols",
    [
        (aiter.shuffle_mxfp8fp4_a, 2, 128),
        (aiter.shuffle_mxfp8fp4_b, 16, 16),
        (aiter.shuffle_weight_f4, 16, 16),
        (aiter.shuffle_mxfp8fp4_scale, 32, 4),
        (aiter.shuffle_scale_f4, 32, 4),
        (lambda x: aiter.shuffle_scale_f4(x, 8), 32, 8),
    ],
)
def test_tiles_of_gfx1250(function, rows, cols):
    x = torch.randint(0, 255, (64, 256), dtype=torch.uint8)
    want = x.view(64 // rows, rows, 256 // cols, cols).transpose(1, 2).reshape(x.shape)
    got = function(x)
    assert torch.equal(got, want)
    assert torch.equal(aiter.unshuffle_weight(got.packed), x)


def test_layouts_of_gfx1250():
    scale = torch.randint(0, 255, (40, 8), dtype=torch.uint8)
    padded = torch.nn.functional.pad(scale, (0, 0, 0, 24), value=0x7F)
    assert torch.equal(aiter.shuffle_mxfp8fp4_scale(scale), aiter.shuffle_scale_f4(padded))
    scale = torch.randint(0, 255, (2, 64, 8), dtype=torch.uint8)
    want = scale.view(2, 2, 32, 2, 4).transpose(2, 3).reshape(2, 2, 256)
    assert torch.equal(aiter.shuffle_scale_n32k4(scale), want)
    assert torch.equal(aiter.shuffle_scale_n32k4(scale.view(128, 8), 2), want)
    gates = aiter.interleave_gate_up_rows(scale)
    got = aiter.shuffle_scale_n32k4(scale, None, True, True)
    assert torch.equal(got, aiter.shuffle_scale_n32k4(gates))
    with pytest.raises(ValueError, match="experts_cnt is None"):
        aiter.shuffle_scale_n32k4(scale[0])
    w = torch.randn(2, 32, 64).bfloat16()
    want = w.view(2, 2, 16, 2, 2, 16).permute(0, 1, 3, 4, 2, 5).reshape(2, 2, 1024)
    assert torch.equal(aiter.shuffle_weight_gfx1250(w[1]), want[1])
    got = aiter.shuffle_weight_gfx1250(w.transpose(1, 2))
    assert torch.equal(got, want.transpose(1, 2))


def test_layouts_of_weights():
    w = torch.arange(64 * 96, dtype=torch.int32).to(torch.int8).view(1, 64, 96)
    padded = aiter.shuffle_weight(w, pad_k_to=64)
    assert padded.shape == (1, 64, 128) and padded.aiter_padded_k == 128
    assert torch.equal(aiter.unshuffle_weight(padded.packed), w)
    got = aiter.shuffle_weight_NK(w, 16, 32)
    want = w.view(1, 4, 16, 3, 4, 8).permute(0, 1, 3, 4, 2, 5).reshape(w.shape)
    assert torch.equal(got, want) and got.is_shuffled
    assert torch.equal(
        aiter.moe_shuffle_weight(w.view(1, 96, 64)[:, :64], None, True, True),
        aiter.shuffle_weight_a16w4(w.view(1, 96, 64)[:, :64].contiguous(), 16, True),
    )
    rows = torch.arange(8).view(1, 8, 1)
    assert aiter.interleave_gate_up_rows(rows).flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    packed = aiter.pack_int8_to_packed_int4(torch.tensor([1, 2, 3, 4, -1, -2, 5, 6]).to(torch.int8))
    assert (packed.view(torch.uint8)).tolist() == [0xF1, 0xE2, 0x53, 0x64]
    scale = torch.arange(2 * 4 * 3).view(2, 4, 3)
    want = scale.view(2, 2, 2, 3).permute(0, 1, 3, 2)
    assert torch.equal(aiter.shuffle_scale_for_int4(scale.bfloat16()), want.bfloat16())
    assert torch.equal(aiter.shuffle_scale_for_int4(scale), scale)
    e8m0 = torch.arange(64 * 12).to(torch.uint8).view(64, 12)
    got = aiter.moe_shuffle_scale(e8m0, 2, True)
    assert torch.equal(
        got, aiter.shuffle_scale_a16w4(torch.nn.functional.pad(e8m0, (0, 4), value=0x7F), 2, False)
    )
