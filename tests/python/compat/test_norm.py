"""aiter.compat's norms on torch tensors: results in the given tensors, and those that torch computes."""

import pytest

torch = pytest.importorskip("torch")

import aiter
import aiter.compat as compat

EPS = 1e-5
F = torch.nn.functional


def numbers(*shape, dtype=torch.bfloat16, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


M, N = 6, 256
X, R, Z = (numbers(M, N, seed=s) for s in (0, 1, 2))
W, B, BIAS = (numbers(N, seed=s) for s in (3, 4, 5))
XSCALE = numbers(N, dtype=torch.float32, seed=6).abs() + 0.5
SUM = (X.float() + R.float()).bfloat16()


def rms(x, w=W, eps=EPS, gemma=False):
    w = w.float() + 1 if gemma else w.float()
    return F.rms_norm(x.float(), w.shape, w, eps)


def layer(x, x_bias=None):
    x = x.float() if x_bias is None else x.float() + x_bias.float()
    return F.layer_norm(x, W.shape, W.float(), B.float(), EPS)


def close(got, want):
    torch.testing.assert_close(got.float(), want.float(), rtol=2**-7, atol=2**-7)


def check_quantized(codes, scale, want, group=0):
    """codes * scale is the fp32 norm `want`, to the steps of the codes."""
    groups = want.shape[-1] // group if group else 1
    wide = scale.reshape(want.shape[0], groups).repeat_interleave(want.shape[-1] // groups, 1)
    error = (codes.float() * wide.float() - want).abs()
    step = wide.float() / 2 if codes.dtype == torch.int8 else codes.float().abs() * wide / 16 + wide
    assert (error <= step * 1.01 + want.abs() * 1e-5).all()
    most = codes.float().abs().reshape(-1, want.shape[-1] // groups).amax(1)
    assert (most == (127 if codes.dtype == torch.int8 else torch.finfo(codes.dtype).max)).all()


def outputs(dtype=torch.int8, groups=1):
    return torch.empty(M, N, dtype=dtype), torch.empty(M, groups), torch.empty_like(X)


def test_plain_and_added():
    out, _, residual_out = outputs(torch.bfloat16)
    close(compat.rms_norm(X, W, EPS), rms(X))
    close(compat.rmsnorm2d_fwd(X, W, EPS), rms(X))
    for norm in (compat.rms_norm_cu, compat.rmsnorm):
        assert norm(out.zero_(), X, W, EPS) is None
        close(out, rms(X))
    compat.rmsnorm(out, X, W, EPS, True)
    close(out, rms(X, gemma=True))
    for norm in (compat.rmsnorm2d_fwd_with_add, compat.add_rmsnorm):
        assert norm(out.zero_(), X, R, residual_out.zero_(), W, EPS) is None
        close(out, rms(SUM))
        assert torch.equal(residual_out, SUM)
    x, r = X.clone(), R.clone()
    compat.fused_add_rms_norm_cu(x, r, W, EPS)
    close(x, rms(SUM))
    assert torch.equal(r, SUM)
    y, total = compat.fused_rmsnorm_add(X, W, EPS, R)
    close(y, rms(SUM))
    assert torch.equal(total, SUM)
    y, total = compat.fused_add_rmsnorm_pad(X, W, EPS, R, 96)
    assert y.shape == (M, 288) and (y[:, N:] == 0).all() and torch.equal(total, SUM)
    close(y[:, :N], rms(SUM))


def test_layer_norm():
    out, _, residual_out = outputs(torch.bfloat16)
    close(compat.layer_norm(X, W, B), layer(X))
    close(compat.layernorm2d_fwd(X, W, B, EPS, BIAS), layer(X, BIAS))
    compat.layernorm2d_fwd_with_add(out, X, R, residual_out, W, B, EPS, BIAS)
    total = (X.float() + BIAS.float() + R.float()).bfloat16()
    assert torch.equal(residual_out, total)
    close(out, layer(total))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.float8_e4m3fnuz])
def test_quantized_per_token(dtype):
    out, scale, residual_out = outputs(dtype)
    before = torch.empty_like(X)
    compat.rmsnorm2d_fwd_with_dynamicquant(out, X, scale, W, EPS)
    check_quantized(out, scale, rms(X))
    compat.rmsnorm2d_fwd_with_smoothquant(out, X, XSCALE, scale, W, EPS)
    check_quantized(out, scale, rms(X) * XSCALE)
    compat.rmsnorm2d_fwd_with_add_dynamicquant(out, X, R, residual_out, scale, W, EPS)
    check_quantized(out, scale, rms(SUM))
    assert torch.equal(residual_out, SUM)
    compat.rmsnorm2d_fwd_with_add_smoothquant(
        out, X, R, residual_out.zero_(), XSCALE, scale, W, EPS, before
    )
    check_quantized(out, scale, rms(SUM) * XSCALE)
    close(before, rms(SUM))
    assert torch.equal(residual_out, SUM)
    compat.rmsnorm_quant(out, X, scale, W, EPS, gemma_norm=True)
    check_quantized(out, scale, rms(X, gemma=True))

    compat.layernorm2d_fwd_with_dynamicquant(out, X, scale, W, B, EPS, BIAS)
    check_quantized(out, scale, layer(X, BIAS))
    compat.layernorm2d_fwd_with_smoothquant(out, X, XSCALE, scale, W, B, EPS)
    check_quantized(out, scale, layer(X) * XSCALE)
    compat.layernorm2d_fwd_with_add_dynamicquant(out, X, R, residual_out.zero_(), scale, W, B, EPS)
    check_quantized(out, scale, layer(SUM))
    assert torch.equal(residual_out, SUM)
    compat.layernorm2d_fwd_with_add_smoothquant(out, X, R, residual_out, XSCALE, scale, W, B, EPS)
    check_quantized(out, scale, layer(SUM) * XSCALE)


def test_quantized_in_groups():
    out, scale, residual_out = outputs(torch.float8_e4m3fn, N // 128)
    compat.add_rmsnorm_quant(out, X, R, residual_out, scale, W, EPS, 128)
    check_quantized(out, scale, rms(SUM), 128)
    (codes, scales), plain, _, total = compat.fused_rms_fp8_group_quant(
        X, W, EPS, dtype_quant=torch.float8_e4m3fn, res1=R, output_unquantized_inp1=True
    )
    assert torch.equal(codes.view(torch.uint8), out.view(torch.uint8))
    assert torch.equal(scales, scale) and torch.equal(total, SUM)
    close(plain, rms(SUM))
    (codes, scales), *_ = compat.fused_rms_fp8_group_quant(
        X, W, EPS, dtype_quant=torch.float8_e4m3fn, res1=R, transpose_scale=True
    )
    assert torch.equal(scales.view(N // 128, M).t(), scale)


def test_fp4_and_shuffled_scales():
    want = aiter.rmsnorm_quant(X, W, EPS, 32, quant_dtype="float4_e2m1fnx2")
    codes = torch.empty(M, N // 2, dtype=torch.uint8)
    scale = torch.empty(M, N // 32, dtype=torch.uint8)
    compat.rmsnorm_quant(codes, X, scale, W, EPS, 32)
    assert torch.equal(codes, want[0]) and torch.equal(scale, want[1].view(torch.uint8))
    shuffled = torch.zeros(256, 8, dtype=torch.uint8)
    compat.rmsnorm2d_fwd_with_dynamicquant(codes, X, shuffled, W, EPS, 0, 32, True)
    assert torch.equal(codes, want[0])
    order = shuffled.view(8, 1, 4, 16, 2, 2).permute(0, 5, 3, 1, 4, 2).reshape(256, 8)
    assert torch.equal(order[:M], scale)
    even = aiter.Quant("float4_e2m1fnx2", 32, scale_dtype="float8_e8m0fnu", round_mode=2)
    want = aiter.norm_quant(X, W, quant=even, eps=EPS)
    (codes, scale), *_ = compat.fused_rms_mxfp4_quant(X, W, EPS)
    assert torch.equal(codes, want[0]) and torch.equal(scale, want[1].view(torch.uint8))
    codes, scale = compat.fused_rms_mxfp8_quant(X, W, EPS)
    wide = torch.exp2(scale.float() - 127).repeat_interleave(32, 1)
    torch.testing.assert_close(codes.float() * wide, rms(X), rtol=2**-4, atol=2**-6)


def test_static_scale():
    scale = torch.tensor([0.01])
    codes, plain, out2, total = compat.fused_rms_fp8_per_tensor_static_quant(
        X, W, EPS, scale, Z, W, EPS, torch.float8_e4m3fn, R
    )
    assert plain is None and torch.equal(total, SUM)
    close(out2, rms(Z))
    want = (rms(SUM) / 0.01).clamp(-448, 448)
    torch.testing.assert_close(codes.float(), want, rtol=2**-4, atol=2**-6)


def test_two_norms():
    k_w = W[:64]
    k = Z[:, :64]
    out, _, residual_out = outputs(torch.bfloat16)
    k_out = torch.empty(M, 64, dtype=torch.bfloat16)
    compat.fused_qk_rmsnorm(out, None, X, W, EPS, k_out=k_out, k=k, k_weight=k_w, k_epsilon=EPS)
    close(out, rms(X))
    close(k_out, rms(k, k_w))
    codes, scale, plain = outputs(torch.float8_e4m3fn)
    compat.fused_qk_rmsnorm(
        codes, scale, X, W, EPS, plain, k_out.zero_(), residual_out, k, k_w, EPS, R, True,
        compat.QuantType.per_Token,
    )  # fmt: skip
    check_quantized(codes, scale, rms(SUM, gemma=True))
    close(plain, rms(SUM, gemma=True))
    close(k_out, rms(k, k_w, gemma=True))
    assert torch.equal(residual_out, SUM)
    scale = torch.empty(M, 2)
    compat.fused_qk_rmsnorm_group_quant(codes, scale, X, W, EPS, transpose_scale=True)
    check_quantized(codes, scale.view(2, M).t(), rms(X), 128)
    with pytest.raises(NotImplementedError):
        compat.fused_qk_rmsnorm(codes, scale, X, W, quant_type=compat.QuantType.per_Tensor)


@pytest.mark.parametrize("transpose", [False, True])
def test_gated(transpose):
    x, z = X.view(M, 2, 128), Z.view(M, 2, 128)
    w = W[:128]
    want = (rms(x, w) * F.silu(z.float())).reshape(M, N)
    codes, scale = torch.empty(M, N, dtype=torch.float8_e4m3fn), torch.empty(M, 2)
    compat.gated_rmsnorm_fp8_group_quant(codes, scale, x, z, w, EPS, 128, transpose)
    check_quantized(codes, scale.view(2, M).t() if transpose else scale, want, 128)
    scale = torch.empty(M)
    compat.gated_rmsnorm_fp8_per_token_quant(codes, scale, x, z, w, EPS)
    check_quantized(codes, scale, want)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_group_norm(format):
    x = numbers(2, 8, 4, 6).contiguous(memory_format=format)
    module = compat.GroupNorm(2, 8, dtype=torch.bfloat16)
    torch.nn.init.normal_(module.weight)
    torch.nn.init.normal_(module.bias)
    y = module(x)
    assert y.is_contiguous(memory_format=format)
    close(y, module(x, use_torch=True))
    close(compat.groupnorm_run(x, 2, W[:8], B[:8], EPS), F.group_norm(x, 2, W[:8], B[:8], EPS))


FP8 = torch.float8_e4m3fn


def bits(t):
    return t.contiguous().view(torch.uint8)


def test_names_of_other_backends():
    out, again = torch.empty_like(X), torch.empty_like(X)
    compat.rms_norm_opus(out, X, W, EPS, 0, True)
    compat.rmsnorm(again, X, W, EPS, True)
    assert torch.equal(out, again)
    assert torch.equal(compat.rmsnorm2d_fwd_opus(X, W, EPS), compat.rms_norm(X, W, EPS))
    assert torch.equal(compat.rmsnorm_forward_inference(X, W, EPS), compat.rms_norm(X, W, EPS))
    x, residual = X.clone(), R.clone()
    compat.fused_add_rms_norm_opus(x, residual, W, EPS)
    sums = torch.empty_like(X)
    compat.rmsnorm2d_fwd_with_add_opus(out, X, R, sums, W, EPS)
    assert torch.equal(x, out) and torch.equal(residual, sums) and torch.equal(sums, SUM)
    for name, arguments in (
        ("rmsnorm2d_fwd_with_dynamicquant", ()),
        ("rmsnorm2d_fwd_with_smoothquant", (XSCALE,)),
        ("rmsnorm2d_fwd_with_add_dynamicquant", (R, sums)),
        ("rmsnorm2d_fwd_with_add_smoothquant", (R, sums, XSCALE)),
    ):
        results = []
        for function in (getattr(compat, name), getattr(compat, name + "_opus")):
            codes, scale = outputs()[:2]
            function(codes, X, *arguments, scale, W, EPS)
            results.append((codes, scale))
        assert torch.equal(results[0][0], results[1][0]), name
        assert torch.equal(results[0][1], results[1][1]), name


def test_static_scale_of_the_rounded_norm():
    """rmsnorm_convert_to_inp1_type: what is quantized is the bf16 norm."""
    scale = torch.tensor([0.03])
    out, plain, second, sums = compat.fused_rms_fp8_per_tensor_static_quant(
        X, W, EPS, scale, Z, B, EPS, FP8, R, True, True
    )
    assert torch.equal(sums, SUM) and torch.equal(second, compat.rms_norm(Z, B, EPS))
    assert torch.equal(plain, compat.rms_norm(SUM, W, EPS))
    want = (plain.float() * (1 / scale)).clamp(-448, 448).to(FP8)
    assert torch.equal(bits(out), bits(want))
    unrounded, *_ = compat.fused_rms_fp8_per_tensor_static_quant(X, W, EPS, scale, dtype_quant=FP8)
    rounded, *_ = compat.fused_rms_fp8_per_tensor_static_quant(
        X, W, EPS, scale, dtype_quant=FP8, rmsnorm_convert_to_inp1_type=True
    )
    assert not torch.equal(bits(unrounded), bits(rounded))


def test_strided_transposed_scales():
    (codes, scale), *_ = compat.fused_rms_fp8_group_quant(X, W, EPS, dtype_quant=FP8)
    for strided in (False, True):
        (same, other), *_ = compat.fused_rms_fp8_group_quant(
            X, W, EPS, dtype_quant=FP8, transpose_scale=True, is_x_scale_strided=strided
        )
        assert torch.equal(bits(same), bits(codes)) and other.shape == scale.shape
        assert other.stride() == ((1, M) if strided else (2, 1))
        assert torch.equal(other if strided else other.view(2, M).t(), scale)


def test_mxfp8():
    y, scale = compat.fused_rms_mxfp8_quant(X, W, EPS)
    want = compat.dynamic_mxfp8_quant(compat.rms_norm(X.float(), W.float(), EPS))
    assert torch.equal(bits(y), bits(want[0])) and torch.equal(scale, want[1])
    yq, sq, yk = compat.fused_dual_rmsnorm_mxfp8_quant(X, Z, W, B, EPS)
    assert torch.equal(bits(yq), bits(y)) and torch.equal(sq, scale)
    assert torch.equal(yk, compat.rms_norm(Z, B, EPS))
    *_, yk = compat.fused_dual_rmsnorm_mxfp8_quant(X, Z, W, B, EPS, 0.5)
    assert torch.equal(yk, compat.rms_norm(Z, B, 0.5))


@pytest.mark.parametrize("kind", ["fp8", "mxfp4"])
def test_sums_of_parts(kind):
    """Parts of split sums are added up in f32, and not rounded before the norm."""
    x1, x2, x3 = (numbers(3, M, n, dtype=torch.float32, seed=n) for n in (N, 64, 32))
    if kind == "fp8":
        reduced, plain = compat.fused_reduce_rms_fp8_group_quant, compat.fused_rms_fp8_group_quant
        options = {"dtype_quant": FP8}
    else:
        reduced, plain = compat.fused_reduce_rms_mxfp4_quant, compat.fused_rms_mxfp4_quant
        options = {"shuffle": True}
    w, b = W.float(), W[:64].float()
    (codes, scale), unquantized, second, sums, third = reduced(
        x1, W, EPS, x2, W[:64], EPS, x3, res1=R, dtype=torch.bfloat16,
        output_unquantized_inp1=True, **options
    )  # fmt: skip
    (same, same_scale), *want = plain(
        x1.sum(0), w, EPS, x2.sum(0), b, EPS, res1=R.float(), output_unquantized_inp1=True,
        **options,
    )  # fmt: skip
    assert torch.equal(bits(codes), bits(same))
    if kind == "fp8":
        assert torch.equal(scale, same_scale)
    for got, expected in zip((unquantized, second, sums), want, strict=True):
        assert got.dtype == torch.bfloat16 and torch.equal(got, expected.bfloat16())
    assert torch.equal(third, x3.sum(0).bfloat16())
    (codes, _), *rest = reduced(X, W, EPS, **options)  # nothing to add up
    (same, _), *want = plain(X, W, EPS, **options)
    assert torch.equal(bits(codes), bits(same)) and rest == [*want, None]


@pytest.mark.parametrize("activation", ["silu", "swish", "sigmoid"])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("bias", [None, B])
def test_gated_group_quant(activation, before, bias):
    gate = torch.sigmoid(Z.float()) * (1 if activation == "sigmoid" else Z.float())
    want = rms(X) if before else rms(X.float() * gate)
    want = want if bias is None else want + bias.float()
    want = want * gate if before else want
    for group, ue8m0 in ((None, False), (64, False), (64, True)):
        codes, scale = compat.fused_rms_gated_fp8_group_quant(
            X, W, bias, Z, EPS, norm_before_gate=before, activation=activation, out_dtype=FP8,
            group_size=group, use_ue8m0=ue8m0,
        )  # fmt: skip
        assert scale.shape == ((M, N // group) if group else (M,)) and scale.dtype == torch.float32
        if ue8m0:
            assert (torch.frexp(scale).mantissa == 0.5).all()
            wide = scale.repeat_interleave(64, 1)
            assert ((codes.float() * wide - want).abs() <= want.abs() / 15 + wide).all()
        else:
            check_quantized(codes, scale, want, group or 0)
    with pytest.raises(ValueError, match="both or neither"):
        compat.fused_rms_gated_fp8_group_quant(X, W, bias, Z, EPS, fp8_min=-1.0)
    groups = want.view(M, -1, 64)
    factor = groups.abs().amax(-1) / 112
    least = factor.median().item()
    bounds = {"fp8_min": -100.0, "fp8_max": 112.0, "fp8_min_scaling_factor": least}
    codes, scale = compat.fused_rms_gated_fp8_group_quant(
        X, W, bias, Z, EPS, norm_before_gate=before, activation=activation, out_dtype=FP8,
        group_size=64, **bounds,
    )  # fmt: skip
    factor = factor.clamp(min=least)
    torch.testing.assert_close(scale, factor)
    exact = (groups / factor.unsqueeze(-1)).clamp(-100, 112)
    got = codes.float().view(exact.shape)
    assert ((got - exact).abs() <= exact.abs() / 15 + 2**-9).all() and got.max() == 112
    with pytest.raises(ValueError, match='activation is "relu"'):
        compat.fused_rms_gated_fp8_group_quant(X, W, bias, Z, EPS, activation="relu")
