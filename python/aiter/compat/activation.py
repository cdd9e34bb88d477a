"""Activations: outputs first, as in aiter.ops.activation, and the functions of aiter.ops.triton."""

import aiter as _aiter

from . import dtypes

__all__ = [
    "act_mul_and_fp8_group_quant",
    "act_mul_and_mxfp4_quant",
    "fused_clamp_act_mul",
    "fused_reduce_act_mul_and_mxfp4_quant",
    "fused_reduce_act_mul_fp8_group_quant",
    "fused_silu_mul",
    "fused_silu_mul_fp8_per_tensor_static_quant",
    "gelu_and_mul",
    "gelu_and_mul_bias",
    "gelu_fast",
    "gelu_tanh_and_mul",
    "scaled_silu_and_mul",
    "silu_and_mul",
    "silu_and_mul_bias",
    "silu_and_mul_quant",
    "swiglu_and_mul",
    "swiglu_and_mul_bias",
]


def silu_and_mul(out, input, limit=0.0):
    _aiter.silu_and_mul(input, limit, dtype=out.dtype, out=out)


def gelu_and_mul(out, input):
    _aiter.gelu_and_mul(input, dtype=out.dtype, out=out)


def gelu_tanh_and_mul(out, input):
    _aiter.gelu_tanh_and_mul(input, dtype=out.dtype, out=out)


def swiglu_and_mul(out, input):
    _aiter.swiglu_and_mul(input, dtype=out.dtype, out=out)


def silu_and_mul_bias(out, input, expert_ids, bias):
    _aiter.silu_and_mul_bias(input, expert_ids, bias, out=out)


def gelu_and_mul_bias(out, input, expert_ids, bias):
    _aiter.gelu_and_mul_bias(input, expert_ids, bias, out=out)


def swiglu_and_mul_bias(out, input, expert_ids, bias):
    _aiter.swiglu_and_mul_bias(input, expert_ids, bias, out=out)


def gelu_fast(out, input):
    _aiter.gelu_fast(input, out=out)


def scaled_silu_and_mul(out, input, scale):
    _aiter.scaled_silu_and_mul(input, scale.reshape(1), out.dtype, out=out)


def silu_and_mul_quant(out, input, scale, group_size, limit=0.0, shuffle_scale=False):
    """fp8 with f32 scales, which shuffle_scale makes column-major; fp4 (uint8 or fp4x2) with e8m0
    scales, which it shuffles."""
    d = input.shape[-1] // 2
    rows = input.numel() // max(input.shape[-1], 1)
    x = input.reshape(rows, 2 * d)
    groups = d // group_size
    if out.element_size() == 1 and out.shape[-1] * 2 == d:
        out = out.view(dtypes.u8).view(rows, d // 2)
        shape = (-1, (groups + 7) // 8 * 8) if shuffle_scale else (rows, groups)
        scale = scale.view(dtypes.u8).view(shape)
        _aiter.silu_and_mul_quant(
            x, group_size, "float4_e2m1fnx2", limit, shuffle_scale, out=out, out_scale=scale
        )
        return
    scale = scale.view(groups, rows).t() if shuffle_scale else scale.view(rows, groups)
    _aiter.silu_and_mul_quant(
        x, group_size, out.dtype, limit, out=out.view(rows, d), out_scale=scale
    )


def act_mul_and_mxfp4_quant(
    x, activation, scaling_mode="even", shuffle=False, scale_shuffle_padding=False
):
    codes, scale = _aiter.act_mul_and_mxfp4_quant(x, activation, scaling_mode, shuffle)
    scale = scale.view(dtypes.u8)
    if scale_shuffle_padding and not shuffle:
        padded = scale.new_empty((-(-scale.shape[0] // 256) * 256, -(-scale.shape[1] // 8) * 8))
        padded[: scale.shape[0], : scale.shape[1]] = scale
        scale = padded
    return codes, scale


def act_mul_and_fp8_group_quant(x, activation, group_size, dtype_quant=None):
    return _aiter.act_mul_and_fp8_group_quant(x, activation, group_size, dtype_quant or dtypes.fp8)


def fused_silu_mul_fp8_per_tensor_static_quant(
    inp, inp_scale, dtype_quant=None, silu_convert_to_inp_type=False
):
    """silu_convert_to_inp_type: the product is rounded to inp's dtype before it is quantized."""
    if silu_convert_to_inp_type:
        codes, _ = _aiter.per_tensor_quant(
            _aiter.silu_and_mul(inp), inp_scale.reshape(1), dtype_quant or dtypes.fp8
        )
        return codes
    return _aiter.scaled_silu_and_mul(inp, inp_scale.reshape(1), dtype_quant or dtypes.fp8)


def _sum_of_parts(x, x2, dtype):
    """(x, x2), added up in f32 over their first dimension where they are parts of split sums."""
    if x.dim() == 2:
        if x2 is not None:
            raise ValueError("x2 is given, expected None for an x of two dimensions")
        return x, None
    return x.sum(0, dtype=dtypes.fp32), x2.sum(0, dtype=dtypes.fp32).to(dtype)


def fused_reduce_act_mul_fp8_group_quant(
    x, activation="silu", x2=None, group_size=128, dtype_quant=None, dtype=dtypes.bf16
):
    """Parts of split sums are added up first, in f32: x (parts, M, 2 N), x2 (parts, M, N2)."""
    x, y2 = _sum_of_parts(x, x2, dtype)
    return act_mul_and_fp8_group_quant(x, activation, group_size, dtype_quant), y2


def fused_reduce_act_mul_and_mxfp4_quant(
    x,
    activation,
    x2=None,
    scaling_mode="even",
    shuffle=False,
    scale_shuffle_padding=False,
    dtype=dtypes.bf16,
):
    x, y2 = _sum_of_parts(x, x2, dtype)
    return (
        act_mul_and_mxfp4_quant(x, activation, scaling_mode, shuffle, scale_shuffle_padding),
        y2,
    )


def fused_silu_mul(x, out=None):
    return _aiter.silu_and_mul(x, out=out)


def fused_clamp_act_mul(
    inp,
    out=None,
    scale=None,
    swiglu_limit=0,
    activation="silu",
    weights=None,
    dtype_quant=None,
    transpose_scale=False,
    quant_block_size=128,
    scale_dtype_fmt="fp32",
    shuffle_scale=False,
):
    rows, groups = inp.shape[0], -(-(inp.shape[1] // 2) // quant_block_size)
    if dtype_quant is None:
        return _aiter.fused_clamp_act_mul(inp, swiglu_limit, activation, weights, out=out)
    stored = {"fp32": dtypes.fp32, "ue8m0": dtypes.u8}[scale_dtype_fmt]
    if transpose_scale and scale is None:
        scale = inp.new_empty((groups, rows), dtype=stored)
    codes, made = _aiter.fused_clamp_act_mul(
        inp,
        swiglu_limit,
        activation,
        weights,
        dtype_quant if out is None else out.dtype,
        quant_block_size,
        scale_dtype_fmt,
        shuffle_scale,
        out=out,
        out_scale=scale.t() if transpose_scale else scale,
    )
    return codes, scale.view(rows, groups) if transpose_scale else made.view(stored)
