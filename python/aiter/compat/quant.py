"""AITER's quantization functions: outputs first, in place, on torch tensors."""

import aiter as _aiter
from aiter.quant import _aiter as _core

__all__ = [
    "dynamic_per_group_scaled_quant",
    "dynamic_per_group_scaled_quant_fp4",
    "dynamic_per_tensor_quant",
    "dynamic_per_token_scaled_quant",
    "moe_smooth_per_token_scaled_quant_v1",
    "moe_smoothquant_fwd",
    "per_1x32_f4_quant_hip",
    "per_1x32_i4_quant",
    "per_1x32_mx_quant_hip",
    "per_group_quant_hip",
    "per_tensor_quant",
    "per_tensor_quant_hip",
    "per_token_quant_hip",
    "pertoken_quant",
    "quant_mxfp4",
    "rotate_activation",
    "shuffle_weight",
    "shuffle_weight_a16w4",
    "smooth_per_token_scaled_quant",
    "smoothquant_fwd",
    "static_per_tensor_quant",
]

_FP4, _E8M0 = "float4_e2m1fnx2", "float8_e8m0fnu"


def _name(dtype):
    return str(dtype).removeprefix("torch.").replace("float4_e2m1fn_x2", _FP4)


def _codes(out):
    """The kind of codes that an output holds: bytes are fp4."""
    return _FP4 if _name(out.dtype) == "uint8" else _name(out.dtype)


def _number(scale):
    return None if scale is None else float(scale)


def _transposed(scale, rows):
    """A view (rows, groups) of memory in the order (groups, rows)."""
    return scale.view(-1, rows).t()


def static_per_tensor_quant(out, input, scale):
    _aiter.quantize(input, (0, 0), _codes(out), scale=scale.view(1), out=out)


def dynamic_per_tensor_quant(out, input, scale):
    _aiter.quantize(input, (0, 0), _codes(out), out=out, out_scale=scale.view(1))


def dynamic_per_token_scaled_quant(
    out, input, scales, scale_ub=None, shuffle_scale=False, num_rows=None, num_rows_factor=1
):
    """shuffle_scale: e8m0 scales in their shuffled order, others column-major.

    As in AITER, input may be (rows * groups, group), with out and scales of (rows, ...): scales of
    groups.
    """
    cols = input.shape[-1]
    if out.shape[-1] > cols and _codes(out) != _FP4:  # groups as rows
        rows = out.numel() // out.shape[-1]
        return dynamic_per_group_scaled_quant(
            out,
            input.view(rows, -1),
            scales,
            cols,
            shuffle_scale,
            num_rows,
            num_rows_factor,
        )
    x = input.view(-1, cols)
    shuffled = shuffle_scale and _name(scales.dtype) in ("uint8", _E8M0)
    _aiter.quantize(
        x,
        (1, 0),
        _codes(out),
        scale_dtype=_E8M0 if _name(scales.dtype) == "uint8" else _name(scales.dtype),
        scale_layout="shuffled" if shuffled else "strided",
        scale_ub=_number(scale_ub),
        num_rows=num_rows,
        num_rows_factor=num_rows_factor,
        out=out.view(x.shape[0], -1),
        out_scale=scales if shuffled else scales.view(-1, 1),
    )


def dynamic_per_group_scaled_quant(
    out,
    input,
    scales,
    group_size=32,
    shuffle_scale=True,
    num_rows=None,
    num_rows_factor=1,
    scale_layout_m32k4=False,
):
    """shuffle_scale: e8m0 scales of groups of 32 in their shuffled order, others column-major."""
    if scale_layout_m32k4:
        raise NotImplementedError("scale_layout_m32k4 is a layout of gfx1250")
    x = input.view(-1, input.shape[-1])
    e8m0 = _name(scales.dtype) in ("uint8", _E8M0)
    shuffled = shuffle_scale and e8m0 and group_size == 32
    if shuffle_scale and not shuffled:
        scales = _transposed(scales, x.shape[0])
    elif not shuffled:
        scales = scales.view(x.shape[0], -1)
    _aiter.quantize(
        x,
        (1, group_size),
        _codes(out),
        scale_dtype=_E8M0 if e8m0 else _name(scales.dtype),
        scale_layout="shuffled" if shuffled else "strided",
        num_rows=num_rows,
        num_rows_factor=num_rows_factor,
        out=out.view(x.shape[0], -1),
        out_scale=scales,
    )


def dynamic_per_group_scaled_quant_fp4(
    out, input, scales, group_size=32, shuffle_scale=True, num_rows=None, num_rows_factor=1
):
    dynamic_per_group_scaled_quant(
        out, input, scales, group_size, shuffle_scale, num_rows, num_rows_factor
    )


def smoothquant_fwd(out, input, x_scale, y_scale):
    smooth_per_token_scaled_quant(out, input, y_scale, x_scale)


def smooth_per_token_scaled_quant(
    out,
    input,
    scales,
    smooth_scale,
    smooth_scale_map=None,
    shuffle_scale=False,
    num_rows=None,
    num_rows_factor=1,
    smooth_scale_map_hash=None,
    enable_ps=True,
):
    """smooth_scale_map_hash: local experts of global ones, -1 where there is none."""
    if smooth_scale_map is not None:
        if smooth_scale_map_hash is not None:
            smooth_scale_map = smooth_scale_map_hash[smooth_scale_map.long()]
        smooth_scale_map = smooth_scale_map.to(dtype=_int32(), copy=False).reshape(input.shape[:-1])
    _aiter.quantize(
        input,
        (1, 0),
        _codes(out),
        smooth=smooth_scale,
        smooth_map=smooth_scale_map,
        num_rows=num_rows,
        num_rows_factor=num_rows_factor,
        out=out,
        out_scale=scales.view(*input.shape[:-1], 1),
    )


def _int32():
    import torch

    return torch.int32


def moe_smoothquant_fwd(out, input, x_scale, topk_ids, y_scale):
    tokens, topk = topk_ids.shape
    _core.moe_smoothquant(
        input,
        x_scale,
        topk_ids,
        _codes(out),
        out.view(topk, tokens, -1),
        y_scale.view(topk, tokens, 1),
        None,
    )


def moe_smooth_per_token_scaled_quant_v1(
    out,
    input,
    scales,
    smooth_scale,
    smooth_scale_map,
    shuffle_scale=False,
    smooth_scale_map_hash=None,
    transpose_out=False,
):
    """out: (topk, tokens, columns), whatever transpose_out says about its shape."""
    ids = smooth_scale_map
    if smooth_scale_map_hash is not None:
        ids = smooth_scale_map_hash[ids.long()]
    moe_smoothquant_fwd(out, input, smooth_scale, ids.to(_int32()), scales)


def quant_mxfp4(
    inp,
    out_packed,
    out_scale,
    group_size=32,
    round_mode=0,
    e8m0_shuffle=False,
    a16w4_shuffle=False,
    gate_up=False,
    shuffle_weight=False,
):
    if a16w4_shuffle or gate_up or shuffle_weight:
        raise NotImplementedError("quantize first, then shuffle_weight and shuffle_scale")
    _aiter.quant_mxfp4_hip(
        inp, group_size, round_mode, e8m0_shuffle, out=out_packed, out_scale=out_scale
    )


def rotate_activation(out, input, scale=None, group_size=None, shuffle_scale=True):
    if _codes(out) == _FP4:
        layout = "shuffled" if shuffle_scale else "strided"
        quant = _aiter.Quant(_FP4, group_size or 32, None, _E8M0, layout)
        _aiter.rotate_activation(input, quant, out=out, out_scale=scale)
    else:
        _aiter.rotate_activation(input, out=out)


def pertoken_quant(
    x, scale=None, x_scale=None, scale_dtype=None, quant_dtype="int8", dtypeMax=None
):
    if dtypeMax is not None:
        raise NotImplementedError("dtypeMax: the largest number of quant_dtype is used")
    codes, scale = _aiter.pertoken_quant(x, scale, x_scale, quant_dtype=_name(quant_dtype))
    return codes, scale if scale_dtype is None else scale.to(scale_dtype)


def per_tensor_quant(x, scale=None, scale_dtype=None, quant_dtype="int8", dtypeMax=None):
    if dtypeMax is not None:
        raise NotImplementedError("dtypeMax: the largest number of quant_dtype is used")
    codes, scale = _aiter.per_tensor_quant(x, scale, _name(quant_dtype))
    return codes, scale.view(1) if scale_dtype is None else scale.view(1).to(scale_dtype)


def per_tensor_quant_hip(x, scale=None, quant_dtype="int8", num_rows=None, num_rows_factor=1):
    if num_rows is not None:
        raise NotImplementedError("num_rows is not supported for per_tensor_quant_hip")
    codes, scale = _aiter.per_tensor_quant(x, scale, _name(quant_dtype))
    return codes, scale.view(1)


def per_token_quant_hip(x, scale=None, quant_dtype="int8", num_rows=None, num_rows_factor=1):
    if scale is not None:
        raise ValueError("unsupported: static per token quant")
    return _aiter.per_token_quant_hip(x, None, _name(quant_dtype), num_rows, num_rows_factor)


def per_group_quant_hip(
    x,
    scale=None,
    quant_dtype="int8",
    group_size=128,
    transpose_scale=False,
    num_rows=None,
    num_rows_factor=1,
    scale_type="float32",
    scale_layout_m32k4=False,
):
    """With transpose_scale the bytes of scale are in another order than its shape says, as in AITER."""
    import torch

    if scale is not None:
        raise ValueError("unsupported: static per token quant")
    code, kind = _name(quant_dtype), _name(scale_type)
    packed = code in (_FP4, "int4x2")
    y = torch.empty(
        (*x.shape[:-1], x.shape[-1] // (2 if packed else 1)),
        dtype=torch.uint8 if packed else getattr(torch, code),
        device=x.device,
    )
    scale = torch.empty(
        (*x.shape[:-1], x.shape[-1] // group_size), dtype=getattr(torch, kind), device=x.device
    )
    if transpose_scale and kind == _E8M0 and group_size == 32:
        raise NotImplementedError(
            "per_1x32_mx_quant_hip(shuffle=True) has room for shuffled scales"
        )
    dynamic_per_group_scaled_quant(
        y, x, scale, group_size, transpose_scale, num_rows, num_rows_factor, scale_layout_m32k4
    )
    return y, scale


def per_1x32_mx_quant_hip(
    x,
    scale=None,
    quant_dtype=_FP4,
    shuffle=False,
    num_rows=None,
    num_rows_factor=1,
    scale_type=None,
):
    if scale is not None:
        raise ValueError("unsupported: static per token quant")
    kind = None if scale_type is None else _name(scale_type)
    codes, scale = _aiter.per_1x32_mx_quant_hip(
        x, None, _name(quant_dtype), shuffle, num_rows, num_rows_factor, kind
    )
    return codes if isinstance(quant_dtype, str) else codes.view(quant_dtype), scale


def per_1x32_f4_quant_hip(
    x, scale=None, quant_dtype=_FP4, shuffle=False, num_rows=None, num_rows_factor=1
):
    return per_1x32_mx_quant_hip(x, scale, quant_dtype, shuffle, num_rows, num_rows_factor)


def per_1x32_i4_quant(weight, group_size=32):
    """Codes of one byte each, (..., N, K), and bf16 scales (..., K / group_size, N), as in AITER."""
    import torch

    packed, scale = _aiter.per_1x32_i4_quant(weight, group_size)
    pairs = torch.stack([packed << 4, packed & 0xF0], dim=-1).view(torch.int8) >> 4
    return pairs.view(weight.shape), scale.transpose(-1, -2).contiguous()


def shuffle_weight(x, layout=(16, 16), use_int4=False, is_guinterleave=False, gate_up=False):
    """A tensor like x with its elements in the new order, tagged `is_shuffled` as in AITER.

    `packed` of it is what aiter.shuffle_weight made, whose head describes layout and shape.
    """
    packed = _aiter.shuffle_weight(x, layout, use_int4, is_guinterleave, gate_up)
    shuffled = packed[64:].view(x.dtype).view(x.shape)
    shuffled.is_shuffled = True
    shuffled.packed = packed
    return shuffled


def shuffle_weight_a16w4(src, NLane, gate_up):
    return shuffle_weight(src, (NLane, 16), is_guinterleave=True, gate_up=gate_up)
