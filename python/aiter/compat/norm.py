"""Norms with AITER's signatures: what is quantized or added comes back in the given tensors.

Codes and scales take the dtypes of their tensors; uint8 is fp4 where it has half of the columns, and
e8m0 for scales.
"""

import torch

from .. import norm as _norm
from ..quant import MxScaleRoundMode, Quant, QuantType, quantize
from .quant import _E8M0, _FP4, _name

__all__ = [
    "GroupNorm",
    "add_rmsnorm",
    "add_rmsnorm_quant",
    "fused_add_rms_norm_cu",
    "fused_add_rms_norm_opus",
    "fused_add_rmsnorm_pad",
    "fused_dual_rmsnorm_mxfp8_quant",
    "fused_qk_rmsnorm",
    "fused_qk_rmsnorm_group_quant",
    "fused_qk_rmsnorm_per_token_quant",
    "fused_reduce_rms_fp8_group_quant",
    "fused_reduce_rms_mxfp4_quant",
    "fused_rms_fp8_group_quant",
    "fused_rms_fp8_per_tensor_static_quant",
    "fused_rms_gated_fp8_group_quant",
    "fused_rms_mxfp4_quant",
    "fused_rms_mxfp8_quant",
    "fused_rmsnorm_add",
    "gated_rmsnorm_fp8_group_quant",
    "gated_rmsnorm_fp8_per_token_quant",
    "groupnorm_run",
    "layer_norm",
    "layernorm2d_fwd",
    "layernorm2d_fwd_with_add",
    "layernorm2d_fwd_with_add_dynamicquant",
    "layernorm2d_fwd_with_add_smoothquant",
    "layernorm2d_fwd_with_dynamicquant",
    "layernorm2d_fwd_with_smoothquant",
    "rms_norm",
    "rms_norm_cu",
    "rms_norm_opus",
    "rmsnorm",
    "rmsnorm2d_fwd",
    "rmsnorm2d_fwd_opus",
    "rmsnorm2d_fwd_with_add",
    "rmsnorm2d_fwd_with_add_dynamicquant",
    "rmsnorm2d_fwd_with_add_dynamicquant_opus",
    "rmsnorm2d_fwd_with_add_opus",
    "rmsnorm2d_fwd_with_add_smoothquant",
    "rmsnorm2d_fwd_with_add_smoothquant_opus",
    "rmsnorm2d_fwd_with_dynamicquant",
    "rmsnorm2d_fwd_with_dynamicquant_opus",
    "rmsnorm2d_fwd_with_smoothquant",
    "rmsnorm2d_fwd_with_smoothquant_opus",
    "rmsnorm_forward_inference",
    "rmsnorm_quant",
]


def _bytes(tensor):
    """Tensors of dtypes that DLPack carries only lately, as uint8."""
    if tensor is None or tensor.element_size() != 1 or tensor.dtype in (torch.int8, torch.uint8):
        return tensor
    return tensor.view(torch.uint8)


def _plan(x, codes, scale, group_size=0, shuffle_scale=False, static=None):
    """The Quant that fits the tensors of codes and scales."""
    packed = codes.dtype == torch.uint8 or codes.shape[-1] * 2 == x.shape[-1]
    dtype = _FP4 if packed else _name(codes.dtype)
    scale_dtype = _name((static if scale is None else scale).dtype)
    if scale_dtype == "uint8" or (packed and scale_dtype.startswith("float8_e8m0")):
        scale_dtype = _E8M0
    return Quant(
        dtype,
        group_size or (32 if packed else 0),
        static,
        scale_dtype,
        "shuffled" if shuffle_scale else "strided",
    )


def _scales(x, scale, group_size=0, shuffle_scale=False, transpose_scale=False):
    """The scale tensor as the library sees it: (rows, groups), or padded where shuffled."""
    scale = _bytes(scale)
    if shuffle_scale:
        return scale
    rows, groups = x.shape[0], -(-x.shape[-1] // group_size) if group_size else 1
    if transpose_scale:
        return scale.reshape(-1)[: rows * groups].view(groups, rows).t()
    return scale.view(rows, groups)


def _norm_quant(out, x, yscale, weight, bias, epsilon, group_size=0, shuffle_scale=False, **more):
    quant = _plan(x, out, yscale, group_size, shuffle_scale)
    scales = _scales(x, yscale, quant.group_size, shuffle_scale)
    if "smooth" in more:
        more["smooth"] = more["smooth"].reshape(-1).float()
    _norm.norm_quant(x, weight, bias, quant, eps=epsilon, out=_bytes(out), out_scale=scales, **more)


def rms_norm(input, weight, epsilon, use_model_sensitive_rmsnorm=0):
    return _norm.rms_norm(input, weight, epsilon, use_model_sensitive_rmsnorm)


rmsnorm2d_fwd = rms_norm


def rms_norm_cu(out, input, weight, epsilon):
    _norm.rms_norm(input, weight, epsilon, out=out)


def rmsnorm(out, input, weight, epsilon, gemma_norm=False):
    _norm.rms_norm(input, weight, epsilon, gemma_norm=gemma_norm, out=out)


def rmsnorm2d_fwd_with_add(
    out,
    input,
    residual_in,
    residual_out,
    weight,
    epsilon,
    gemma_norm=False,
    use_model_sensitive_rmsnorm=0,
):
    _norm.rmsnorm2d_fwd_with_add(
        input,
        residual_in,
        weight,
        epsilon,
        use_model_sensitive_rmsnorm,
        gemma_norm=gemma_norm,
        out=out,
        residual_out=residual_out,
    )


def add_rmsnorm(out, input, residual_in, residual_out, weight, epsilon, gemma_norm=False):
    rmsnorm2d_fwd_with_add(out, input, residual_in, residual_out, weight, epsilon, gemma_norm)


def fused_add_rms_norm_cu(input, residual_in, weight, epsilon):
    rmsnorm2d_fwd_with_add(input, input, residual_in, residual_in, weight, epsilon)


def rms_norm_opus(out, input, weight, epsilon, model_sensitive=0, gemma_norm=False):
    _norm.rms_norm(input, weight, epsilon, model_sensitive, gemma_norm=gemma_norm, out=out)


def fused_add_rms_norm_opus(input, residual, weight, epsilon, model_sensitive=0, gemma_norm=False):
    rmsnorm2d_fwd_with_add(input, input, residual, residual, weight, epsilon, gemma_norm,
                           model_sensitive)  # fmt: skip


def rmsnorm2d_fwd_opus(input, weight, epsilon, use_model_sensitive_rmsnorm=0):
    return rms_norm(input, weight, epsilon, use_model_sensitive_rmsnorm)


def rmsnorm2d_fwd_with_add_opus(
    out,
    input,
    residual_in,
    residual_out,
    weight,
    epsilon,
    use_model_sensitive_rmsnorm=0,
    gemma_norm=False,
):
    rmsnorm2d_fwd_with_add(out, input, residual_in, residual_out, weight, epsilon, gemma_norm,
                           use_model_sensitive_rmsnorm)  # fmt: skip


def rmsnorm_forward_inference(x, weight, eps):
    return _norm.rms_norm(x, weight, eps)


def fused_rmsnorm_add(x, weight, epsilon, res1=None):
    if res1 is None:
        return _norm.rms_norm(x, weight, epsilon)
    return _norm.rmsnorm2d_fwd_with_add(x, res1, weight, epsilon)


def fused_add_rmsnorm_pad(x, weight, epsilon, res=None, x_pad_to_multiple=0):
    return _norm.fused_add_rmsnorm_pad(x, weight, epsilon, res, x_pad_to_multiple)


def rmsnorm2d_fwd_with_smoothquant(
    out, input, xscale, yscale, weight, epsilon, use_model_sensitive_rmsnorm=0
):
    _norm_quant(
        out,
        input,
        yscale,
        weight,
        None,
        epsilon,
        smooth=xscale,
        use_model_sensitive_rmsnorm=use_model_sensitive_rmsnorm,
    )


def rmsnorm2d_fwd_with_add_smoothquant(
    out,
    input,
    residual_in,
    residual_out,
    xscale,
    yscale,
    weight,
    epsilon,
    out_before_quant=None,
    use_model_sensitive_rmsnorm=0,
):
    _norm_quant(
        out,
        input,
        yscale,
        weight,
        None,
        epsilon,
        smooth=xscale,
        residual_in=residual_in,
        residual_out=residual_out,
        out_unquantized=out_before_quant,
        use_model_sensitive_rmsnorm=use_model_sensitive_rmsnorm,
    )


def rmsnorm2d_fwd_with_dynamicquant(
    out,
    input,
    yscale,
    weight,
    epsilon,
    use_model_sensitive_rmsnorm=0,
    group_size=0,
    shuffle_scale=False,
):
    _norm_quant(
        out,
        input,
        yscale,
        weight,
        None,
        epsilon,
        group_size,
        shuffle_scale,
        use_model_sensitive_rmsnorm=use_model_sensitive_rmsnorm,
    )


def rmsnorm2d_fwd_with_add_dynamicquant(
    out,
    input,
    residual_in,
    residual_out,
    yscale,
    weight,
    epsilon,
    use_model_sensitive_rmsnorm=0,
    group_size=0,
    shuffle_scale=False,
):
    _norm_quant(
        out,
        input,
        yscale,
        weight,
        None,
        epsilon,
        group_size,
        shuffle_scale,
        residual_in=residual_in,
        residual_out=residual_out,
        use_model_sensitive_rmsnorm=use_model_sensitive_rmsnorm,
    )


def rmsnorm2d_fwd_with_dynamicquant_opus(
    out, input, yscale, weight, epsilon, use_model_sensitive_rmsnorm=0
):
    rmsnorm2d_fwd_with_dynamicquant(out, input, yscale, weight, epsilon,
                                    use_model_sensitive_rmsnorm)  # fmt: skip


def rmsnorm2d_fwd_with_add_dynamicquant_opus(
    out,
    input,
    residual_in,
    residual_out,
    yscale,
    weight,
    epsilon,
    use_model_sensitive_rmsnorm=0,
):
    rmsnorm2d_fwd_with_add_dynamicquant(out, input, residual_in, residual_out, yscale, weight,
                                        epsilon, use_model_sensitive_rmsnorm)  # fmt: skip


rmsnorm2d_fwd_with_smoothquant_opus = rmsnorm2d_fwd_with_smoothquant
rmsnorm2d_fwd_with_add_smoothquant_opus = rmsnorm2d_fwd_with_add_smoothquant


def rmsnorm_quant(
    out, input, scale, weight, epsilon, group_size=0, shuffle_scale=False, gemma_norm=False
):
    _norm_quant(
        out, input, scale, weight, None, epsilon, group_size, shuffle_scale, gemma_norm=gemma_norm
    )


def add_rmsnorm_quant(
    out,
    input,
    residual_in,
    residual_out,
    scale,
    weight,
    epsilon,
    group_size=0,
    shuffle_scale=False,
    gemma_norm=False,
):
    _norm_quant(
        out,
        input,
        scale,
        weight,
        None,
        epsilon,
        group_size,
        shuffle_scale,
        residual_in=residual_in,
        residual_out=residual_out,
        gemma_norm=gemma_norm,
    )


def layer_norm(input, weight=None, bias=None, epsilon=1e-5, x_bias=None):
    return _norm.layer_norm(input, weight, bias, epsilon, x_bias)


def layernorm2d_fwd(input, weight, bias, epsilon=1e-5, x_bias=None):
    return _norm.layer_norm(input, weight, bias, epsilon, x_bias)


def layernorm2d_fwd_with_add(
    out, input, residual_in, residual_out, weight, bias, epsilon, x_bias=None
):
    _norm.layernorm2d_fwd_with_add(
        input, residual_in, weight, bias, epsilon, x_bias, out=out, residual_out=residual_out
    )


def layernorm2d_fwd_with_smoothquant(
    out, input, xscale, yscale, weight, bias, epsilon, x_bias=None
):
    _norm_quant(
        out, input, yscale, weight, bias, epsilon, kind="layer", smooth=xscale, x_bias=x_bias
    )


def layernorm2d_fwd_with_add_smoothquant(
    out, input, residual_in, residual_out, xscale, yscale, weight, bias, epsilon, x_bias=None
):
    _norm_quant(
        out,
        input,
        yscale,
        weight,
        bias,
        epsilon,
        kind="layer",
        smooth=xscale,
        x_bias=x_bias,
        residual_in=residual_in,
        residual_out=residual_out,
    )


def layernorm2d_fwd_with_dynamicquant(out, input, yscale, weight, bias, epsilon=1e-5, x_bias=None):
    _norm_quant(out, input, yscale, weight, bias, epsilon, kind="layer", x_bias=x_bias)
    return out


def layernorm2d_fwd_with_add_dynamicquant(
    out, input, residual_in, residual_out, yscale, weight, bias, epsilon=1e-5, x_bias=None
):
    _norm_quant(
        out,
        input,
        yscale,
        weight,
        bias,
        epsilon,
        kind="layer",
        x_bias=x_bias,
        residual_in=residual_in,
        residual_out=residual_out,
    )
    return out


def gated_rmsnorm_fp8_group_quant(
    out, scale, x, z, weight, epsilon, group_size, transpose_scale=False
):
    rows = x.flatten(1)
    _norm.norm_quant(
        x,
        weight,
        quant=_plan(rows, out, scale, group_size),
        eps=epsilon,
        gate=z,
        flatten=True,
        out=_bytes(out),
        out_scale=_scales(rows, scale, group_size, transpose_scale=transpose_scale),
    )


def gated_rmsnorm_fp8_per_token_quant(out, scale, x, z, weight, epsilon):
    gated_rmsnorm_fp8_group_quant(out, scale, x, z, weight, epsilon, 0)


def _qk(q, out, scale, quant, q_weight, q_epsilon, q_out_unquantized, k_out, q_res_out, k,
        k_weight, k_epsilon, q_residual, gemma_norm):  # fmt: skip
    _norm.fused_qk_rmsnorm(
        q,
        q_weight,
        q_epsilon,
        k,
        k_weight,
        1e-6 if k_epsilon is None else k_epsilon,
        q_residual,
        gemma_norm,
        quant,
        q_out=_bytes(out),
        q_out_scale=scale,
        q_out_unquantized=q_out_unquantized,
        q_res_out=q_res_out,
        k_out=k_out,
    )


def fused_qk_rmsnorm_group_quant(
    q_out_quantized=None,
    q_out_scale=None,
    q=None,
    q_weight=None,
    q_epsilon=1e-6,
    q_out_unquantized=None,
    k_out=None,
    q_res_out=None,
    k=None,
    k_weight=None,
    k_epsilon=None,
    q_residual=None,
    group_size=128,
    transpose_scale=False,
    gemma_norm=False,
):
    rest = (k_out, q_res_out, k, k_weight, k_epsilon, q_residual, gemma_norm)
    if q_out_scale is None:
        _qk(q, q_out_unquantized, None, None, q_weight, q_epsilon, None, *rest)
        return
    quant = _plan(q, q_out_quantized, q_out_scale, group_size)
    scale = _scales(q, q_out_scale, group_size, transpose_scale=transpose_scale)
    _qk(q, q_out_quantized, scale, quant, q_weight, q_epsilon, q_out_unquantized, *rest)


def fused_qk_rmsnorm_per_token_quant(
    q_out_quantized,
    q_out_scale,
    q,
    q_weight,
    q_epsilon,
    q_out_unquantized=None,
    k_out=None,
    q_res_out=None,
    k=None,
    k_weight=None,
    k_epsilon=None,
    q_residual=None,
    gemma_norm=False,
):
    fused_qk_rmsnorm_group_quant(
        q_out_quantized,
        q_out_scale,
        q,
        q_weight,
        q_epsilon,
        q_out_unquantized,
        k_out,
        q_res_out,
        k,
        k_weight,
        k_epsilon,
        q_residual,
        0,
        False,
        gemma_norm,
    )


def fused_qk_rmsnorm(
    q_out_quantized=None,
    q_out_scale=None,
    q=None,
    q_weight=None,
    q_epsilon=1e-6,
    q_out_unquantized=None,
    k_out=None,
    q_res_out=None,
    k=None,
    k_weight=None,
    k_epsilon=None,
    q_residual=None,
    gemma_norm=False,
    quant_type=QuantType.No,
    group_size=None,
    transpose_scale=False,
):
    if quant_type == QuantType.per_Tensor:
        raise NotImplementedError("fused_qk_rmsnorm: quant_type per_Tensor needs a given scale")
    if quant_type == QuantType.No:
        q_out_unquantized, q_out_quantized, q_out_scale = q_out_quantized, None, None
    if group_size is None:
        group_size = {QuantType.per_Token: 0, QuantType.per_1x32: 32}.get(quant_type, 128)
    fused_qk_rmsnorm_group_quant(
        q_out_quantized,
        q_out_scale,
        q,
        q_weight,
        q_epsilon,
        q_out_unquantized,
        k_out,
        q_res_out,
        k,
        k_weight,
        k_epsilon,
        q_residual,
        0 if quant_type == QuantType.per_Token else group_size,
        transpose_scale,
        gemma_norm,
    )


def _fused_rms(x, weight, epsilon, x2, weight2, epsilon2, quant, out, scale, res, unquantized):
    """What the fused_rms_..._quant functions return but for codes and scale, None for what is not
    there: the unquantized norm, the norm of x2, x + res."""
    plain = torch.empty_like(x) if unquantized else None
    out2 = None if x2 is None else torch.empty_like(x2)
    res_out = None if res is None else torch.empty_like(x)
    _qk(x, out, scale, quant, weight, epsilon, plain, out2, res_out, x2, weight2, epsilon2, res,
        False)  # fmt: skip
    return plain, out2, res_out


def fused_rms_fp8_per_tensor_static_quant(
    inp1,
    inp1_weight,
    inp1_epsilon,
    inp1_scale,
    inp2=None,
    inp2_weight=None,
    inp2_epsilon=None,
    dtype_quant=None,
    res1=None,
    output_unquantized_inp1=False,
    rmsnorm_convert_to_inp1_type=False,
):
    """rmsnorm_convert_to_inp1_type: the norm is rounded to inp1's dtype before it is quantized."""
    out = torch.empty(inp1.shape, dtype=dtype_quant or _fp8(), device=inp1.device)
    quant = _plan(inp1, out, None, static=inp1_scale.reshape(1).float())
    if rmsnorm_convert_to_inp1_type:
        plain = torch.empty_like(inp1)
        _, *rest = _fused_rms(inp1, inp1_weight, inp1_epsilon, inp2, inp2_weight, inp2_epsilon,
                              None, plain, None, res1, False)  # fmt: skip
        quantize(plain, (0, 0), quant.quant_dtype, scale=quant.scale, out=_bytes(out))
        return out, plain if output_unquantized_inp1 else None, *rest
    return out, *_fused_rms(inp1, inp1_weight, inp1_epsilon, inp2, inp2_weight, inp2_epsilon,
                            quant, out, None, res1, output_unquantized_inp1)  # fmt: skip


def fused_rms_fp8_group_quant(
    inp1,
    inp1_weight,
    inp1_epsilon,
    inp2=None,
    inp2_weight=None,
    inp2_epsilon=None,
    group_size=128,
    dtype_quant=None,
    res1=None,
    output_unquantized_inp1=False,
    transpose_scale=False,
    is_x_scale_strided=False,
):
    """is_x_scale_strided: transposed scales come as a view with the strides (1, M)."""
    out = torch.empty(inp1.shape, dtype=dtype_quant or _fp8(), device=inp1.device)
    groups = -(-inp1.shape[1] // group_size)
    scale = torch.empty((inp1.shape[0], groups), dtype=torch.float32, device=inp1.device)
    view = _scales(inp1, scale, group_size, transpose_scale=transpose_scale)
    quant = _plan(inp1, out, scale, group_size)
    if transpose_scale and is_x_scale_strided:
        scale = view
    return (out, scale), *_fused_rms(inp1, inp1_weight, inp1_epsilon, inp2, inp2_weight,
                                     inp2_epsilon, quant, out, view, res1,
                                     output_unquantized_inp1)  # fmt: skip


def fused_rms_mxfp4_quant(
    x1,
    x1_weight,
    x1_epsilon,
    x2=None,
    x2_weight=None,
    x2_epsilon=0.0,
    res1=None,
    shuffle=False,
    scale_shuffle_padding=False,
    output_unquantized_inp1=False,
    inargs="auto",
):
    """inargs chooses among AITER's kernels; there is one here."""
    rows, groups = x1.shape[0], -(-x1.shape[1] // 32)
    out = torch.empty((rows, x1.shape[1] // 2), dtype=torch.uint8, device=x1.device)
    if shuffle:
        rows, groups = -(-rows // 256) * 256, -(-groups // 8) * 8
    scale = torch.empty((rows, groups), dtype=torch.uint8, device=x1.device)
    quant = _plan(x1, out, scale, 32, shuffle)._replace(round_mode=2)  # Even, as AITER's Triton
    return (out, scale), *_fused_rms(x1, x1_weight, x1_epsilon, x2, x2_weight, x2_epsilon, quant,
                                     out, scale, res1, output_unquantized_inp1)  # fmt: skip


def fused_rms_mxfp8_quant(x, weight, eps, y=None, scale=None):
    if y is None:
        y = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    if scale is None:
        groups = -(-x.shape[1] // 32)
        scale = torch.empty((x.shape[0], groups), dtype=torch.uint8, device=x.device)
    quant = _plan(x, y, scale, 32)._replace(round_mode=MxScaleRoundMode.EvenFp4)
    _norm.norm_quant(x, weight, None, quant, eps=eps, out=_bytes(y), out_scale=_bytes(scale))
    return y, scale


def fused_dual_rmsnorm_mxfp8_quant(
    q, k, q_weight, k_weight, eps_q, eps_k=None, yq=None, sq=None, yk=None
):
    if yq is None:
        yq = torch.empty(q.shape, dtype=torch.float8_e4m3fn, device=q.device)
    if sq is None:
        sq = torch.empty((q.shape[0], q.shape[1] // 32), dtype=torch.uint8, device=q.device)
    if yk is None:
        yk = torch.empty_like(k)
    quant = _plan(q, yq, sq, 32)._replace(round_mode=MxScaleRoundMode.EvenFp4)
    _qk(q, yq, sq, quant, q_weight, eps_q, None, yk, None, k, k_weight,
        eps_q if eps_k is None else eps_k, None, False)  # fmt: skip
    return yq, sq, yk


def _sum_of_parts(dtype, *parts):
    """Added up in f32 over the first dimension, where they are parts of split sums; the dtype of the
    results."""
    dtype = dtype or parts[0].dtype
    if parts[0].dim() == 2:
        return dtype, *parts
    return dtype, *(p if p is None else p.sum(0, dtype=torch.float32) for p in parts)


def _reduced(function, dtype, x1, weight1, eps1, x2, weight2, eps2, x3, res1, out3, **options):
    """A fused norm of what was added up: results of the wanted dtype."""
    dtype, x1, x2, x3 = _sum_of_parts(dtype, x1, x2, x3)
    if dtype != x1.dtype:
        weight1, weight2, res1 = (
            t if t is None else t.to(x1.dtype) for t in (weight1, weight2, res1)
        )
    quantized, *rest = function(x1, weight1, eps1, x2, weight2, eps2, res1=res1, **options)
    rest = [t if t is None else t.to(dtype) for t in rest]
    if x3 is not None:
        out3 = x3.to(dtype) if out3 is None else out3.copy_(x3)
    return quantized, *rest, out3


def fused_reduce_rms_fp8_group_quant(
    inp1,
    inp1_weight,
    inp1_epsilon,
    inp2=None,
    inp2_weight=None,
    inp2_epsilon=None,
    inp3=None,
    group_size=128,
    dtype_quant=None,
    dtype=None,
    res1=None,
    output_unquantized_inp1=False,
    out3=None,
    transpose_scale=False,
    is_x_scale_strided=False,
):
    """Parts of split sums, (parts, M, N), are added up first, in f32."""
    return _reduced(
        fused_rms_fp8_group_quant,
        dtype,
        inp1,
        inp1_weight,
        inp1_epsilon,
        inp2,
        inp2_weight,
        inp2_epsilon,
        inp3,
        res1,
        out3,
        group_size=group_size,
        dtype_quant=dtype_quant,
        output_unquantized_inp1=output_unquantized_inp1,
        transpose_scale=transpose_scale,
        is_x_scale_strided=is_x_scale_strided,
    )


def fused_reduce_rms_mxfp4_quant(
    x1,
    x1_weight,
    x1_epsilon,
    x2=None,
    x2_weight=None,
    x2_epsilon=0.0,
    x3=None,
    res1=None,
    shuffle=False,
    scale_shuffle_padding=False,
    output_unquantized_inp1=False,
    dtype=None,
    out3=None,
):
    """Parts of split sums, (parts, M, N), are added up first, in f32."""
    return _reduced(
        fused_rms_mxfp4_quant,
        dtype,
        x1,
        x1_weight,
        x1_epsilon,
        x2,
        x2_weight,
        x2_epsilon,
        x3,
        res1,
        out3,
        shuffle=shuffle,
        scale_shuffle_padding=scale_shuffle_padding,
        output_unquantized_inp1=output_unquantized_inp1,
    )


def fused_rms_gated_fp8_group_quant(
    x,
    weight,
    bias,
    z,
    eps,
    *,
    norm_before_gate=True,
    use_ue8m0=False,
    activation="silu",
    out_dtype=None,
    fp8_min=None,
    fp8_max=None,
    fp8_min_scaling_factor=None,
    group_size=None,
):
    """Unless bounds or the factor are given, scales may be as small as f32 allows, and that of zeros
    is 1."""
    if (fp8_min is None) != (fp8_max is None):
        raise ValueError("fp8_min and fp8_max must be given both or neither")
    if activation not in ("silu", "swish", "sigmoid"):
        raise ValueError(f'activation is "{activation}", expected "silu", "swish" or "sigmoid"')
    code = _name(out_dtype or _fp8())
    bounded = fp8_max is not None or fp8_min_scaling_factor is not None
    group, kind = group_size or 0, _E8M0 if use_ue8m0 else "float32"
    if bias is None and norm_before_gate and activation != "sigmoid" and not bounded:
        quant = Quant(code, group, scale_dtype=kind)
        codes, scale = _norm.norm_quant(x, weight, quant=quant, eps=eps, gate=z)
        return codes, scale.float() if group else scale.float().view(-1)
    # in f32, step by step
    v, gate = x.float(), torch.sigmoid(z.float())
    gate = gate if activation == "sigmoid" else gate * z.float()
    v = _norm.rms_norm(v if norm_before_gate else v * gate, weight.float(), eps)
    v = v if bias is None else v + bias.float()
    v = v * gate if norm_before_gate else v
    if bounded:
        if fp8_max is None:
            fp8_max = torch.finfo(out_dtype or _fp8()).max
            fp8_min = -fp8_max
        groups = v.view(v.shape[0], -1, group or v.shape[1])
        scale = groups.abs().amax(-1) / fp8_max
        scale = torch.exp2(torch.ceil(torch.log2(scale))) if use_ue8m0 else scale
        least = 1 / (fp8_max * 512) if fp8_min_scaling_factor is None else fp8_min_scaling_factor
        scale = scale.clamp(min=least)
        v = (groups / scale.unsqueeze(-1)).clamp(fp8_min, fp8_max).view(v.shape)
        codes = quantize(v, (0, 0), code, scale=torch.ones(1, device=v.device))
    else:
        codes, scale = quantize(v, (1, group), code, scale_dtype=kind)
    return codes, scale.float() if group else scale.float().view(-1)


def groupnorm_run(input, num_groups, weight, bias, eps):
    """The result has the memory format of the input: channels last stay last."""
    if not input.is_contiguous() and input.movedim(1, -1).is_contiguous():
        x = input.movedim(1, -1)
        y = _norm.groupnorm_run(x, num_groups, weight, bias, eps, channels_last=True)
        return y.movedim(-1, 1)
    return _norm.groupnorm_run(input.contiguous(), num_groups, weight, bias, eps)


class GroupNorm(torch.nn.GroupNorm):
    def forward(self, x, use_torch=False):
        if use_torch or not self.affine:
            return super().forward(x)
        weight, bias = self.weight.detach(), self.bias.detach()
        return groupnorm_run(x, self.num_groups, weight, bias, self.eps)


def _fp8():
    from . import dtypes

    return dtypes.fp8
