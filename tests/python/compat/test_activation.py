"""AITER's signatures of activations, on torch tensors."""

import pytest

torch = pytest.importorskip("torch")

import aiter
import aiter.compat as compat

F = torch.nn.functional


def close(got, want):
    torch.testing.assert_close(got.float(), want.float(), rtol=2e-2, atol=2e-2)


@pytest.fixture
def x():
    return torch.randn(6, 512, generator=torch.Generator().manual_seed(0)).bfloat16()


def test_gated(x):
    gate, up = x.float().chunk(2, -1)
    sigmoid = gate.clamp(max=7) * torch.sigmoid(1.702 * gate.clamp(max=7))
    want = {
        compat.silu_and_mul: F.silu(gate) * up,
        compat.gelu_and_mul: F.gelu(gate) * up,
        compat.gelu_tanh_and_mul: F.gelu(gate, approximate="tanh") * up,
        compat.swiglu_and_mul: sigmoid * (up.clamp(-7, 7) + 1),
    }
    for function, expected in want.items():
        out = torch.empty(6, 256, dtype=x.dtype)
        assert function(out, x) is None
        close(out, expected)
    out = torch.empty(6, 256, dtype=torch.bfloat16)
    compat.silu_and_mul(out, x.float(), 1.0)
    close(out, F.silu(gate.clamp(max=1)) * up.clamp(-1, 1))
    close(compat.fused_silu_mul(x), F.silu(gate) * up)
    out = torch.empty_like(x)
    compat.gelu_fast(out, x)
    close(out, F.gelu(x.float(), approximate="tanh"))


def test_bias(x):
    bias = torch.randn(3, 512)
    ids = torch.tensor([0, 2, 1, 2, 3, -1])
    out = torch.full((6, 256), 7, dtype=x.dtype)
    compat.silu_and_mul_bias(out, x, ids, bias)
    gate, up = (x[:4].float() + bias[ids[:4]]).chunk(2, -1)
    close(out[:4], F.silu(gate) * up)
    assert (out[4:] == 0).all()
    for function in (compat.gelu_and_mul_bias, compat.swiglu_and_mul_bias):
        function(out, x, ids.int(), bias)
        assert (out[4:] == 0).all()


def test_static_scale(x):
    scale = torch.tensor([0.05])
    out = torch.empty(6, 256, dtype=torch.float8_e4m3fn)
    compat.scaled_silu_and_mul(out, x, scale)
    gate, up = x.float().chunk(2, -1)
    want = F.silu(gate) * up
    torch.testing.assert_close(out.float() * scale, want, rtol=0.07, atol=1e-3)
    same = compat.fused_silu_mul_fp8_per_tensor_static_quant(x, scale, torch.float8_e4m3fn)
    assert (same.view(torch.uint8) == out.view(torch.uint8)).all()
    rounded = compat.fused_silu_mul_fp8_per_tensor_static_quant(x, scale, torch.float8_e4m3fn, True)
    plain = torch.empty(6, 256, dtype=x.dtype)
    compat.silu_and_mul(plain, x)
    want = plain.float() * (1 / scale)
    want = want.clamp(-448, 448).to(torch.float8_e4m3fn)
    assert (rounded.view(torch.uint8) == want.view(torch.uint8)).all()


@pytest.mark.parametrize("shuffle", [False, True])
def test_group_quant(x, shuffle):
    out = torch.empty(6, 256, dtype=torch.float8_e4m3fn)
    scale = torch.empty(6, 2)
    compat.silu_and_mul_quant(out, x, scale, 128, 0.0, shuffle)
    scales = scale.view(2, 6).t() if shuffle else scale
    codes, want = compat.act_mul_and_fp8_group_quant(x, "silu", 128, torch.float8_e4m3fn)
    assert (codes.view(torch.uint8) == out.view(torch.uint8)).all()
    torch.testing.assert_close(scales, want, rtol=0, atol=0)


@pytest.mark.parametrize("shuffle", [False, True])
def test_fp4(x, shuffle):
    codes, scale = compat.act_mul_and_mxfp4_quant(x, "silu", shuffle=shuffle)
    assert codes.dtype == scale.dtype == torch.uint8 and codes.shape == (6, 128)
    assert scale.shape == ((256, 8) if shuffle else (6, 8))
    padded = compat.act_mul_and_mxfp4_quant(x, "silu", scale_shuffle_padding=True)[1]
    assert padded.shape == (256, 8)
    out = torch.empty(6, 128, dtype=torch.uint8)
    mine = torch.empty(256 if shuffle else 6, 8, dtype=torch.uint8)
    compat.silu_and_mul_quant(out, x, mine, 32, shuffle_scale=shuffle)
    y = aiter.dequantize(
        out,
        mine,
        (1, 32),
        quant_dtype="float4_e2m1fnx2",
        scale_dtype="float8_e8m0fnu",
        scale_layout="shuffled" if shuffle else "strided",
    )
    gate, up = x.float().chunk(2, -1)
    want = F.silu(gate) * up
    assert (y - want).norm() < 0.2 * want.norm()


def test_fused_clamp_act_mul(x):
    weights = torch.rand(6, 1)
    gate, up = x.float().chunk(2, -1)
    want = F.gelu(gate.clamp(max=1)) * up.clamp(-1, 1) * weights
    close(compat.fused_clamp_act_mul(x, None, None, 1.0, "gelu", weights), want)
    fp8 = torch.float8_e4m3fn
    options = {"swiglu_limit": 1.0, "activation": "gelu", "weights": weights, "dtype_quant": fp8}
    codes, scale = compat.fused_clamp_act_mul(x, **options)
    assert codes.dtype == fp8 and scale.shape == (6, 2) and scale.dtype == torch.float32
    y = codes.float() * scale.repeat_interleave(128, 1)
    torch.testing.assert_close(y, want, rtol=0.07, atol=1e-2)
    across = compat.fused_clamp_act_mul(x, **options, transpose_scale=True)[1]
    assert (across.reshape(2, 6).t() == scale).all()
    mx = {"quant_block_size": 32, "scale_dtype_fmt": "ue8m0"}
    codes, scale = compat.fused_clamp_act_mul(x, **options, **mx)
    assert scale.dtype == torch.uint8 and scale.shape == (6, 8)
    y = codes.float() * torch.exp2(scale.float() - 127).repeat_interleave(32, 1)
    torch.testing.assert_close(y, want, rtol=0.07, atol=1e-2)
    shuffled = compat.fused_clamp_act_mul(x, **options, **mx, shuffle_scale=True)[1]
    assert shuffled.shape == (256, 8)


def test_sums_of_parts(x):
    """Parts of split sums are added up in f32 first."""
    parts = torch.stack([x.float(), x.float() * 0.25, x.float().flip(0)])
    second = torch.randn(3, 6, 32)
    (codes, scale), y2 = compat.fused_reduce_act_mul_fp8_group_quant(
        parts, "gelu", second, 64, torch.float8_e4m3fn
    )
    want = compat.act_mul_and_fp8_group_quant(parts.sum(0), "gelu", 64, torch.float8_e4m3fn)
    assert (codes.view(torch.uint8) == want[0].view(torch.uint8)).all()
    torch.testing.assert_close(scale, want[1], rtol=0, atol=0)
    torch.testing.assert_close(y2, second.sum(0).bfloat16(), rtol=0, atol=0)
    (codes, scale), y2 = compat.fused_reduce_act_mul_and_mxfp4_quant(parts, "silu", second)
    want = compat.act_mul_and_mxfp4_quant(parts.sum(0), "silu")
    assert (codes == want[0]).all() and (scale == want[1]).all()
    (codes, _), y2 = compat.fused_reduce_act_mul_fp8_group_quant(x, dtype_quant=torch.float8_e4m3fn)
    want, _ = compat.act_mul_and_fp8_group_quant(x, "silu", 128, torch.float8_e4m3fn)
    assert (codes.view(torch.uint8) == want.view(torch.uint8)).all() and y2 is None
    with pytest.raises(ValueError, match="x2 is given"):
        compat.fused_reduce_act_mul_fp8_group_quant(x, x2=second)
