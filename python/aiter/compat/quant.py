"""AITER's quantization functions: outputs first, in place, on torch tensors."""

import functools

import torch

import aiter as _aiter
from aiter.quant import _aiter as _core

from . import dtypes
from ._enums import ActivationType

__all__ = [
    "create_hadamard_matrix",
    "dynamic_mxfp4_quant",
    "dynamic_mxfp8_quant",
    "dynamic_mxfp8_quant_n32k4_mbn",
    "dynamic_nvfp4_quant",
    "dynamic_per_group_scaled_quant",
    "dynamic_per_group_scaled_quant_fp4",
    "dynamic_per_tensor_quant",
    "dynamic_per_tensor_quant_fp8_i8",
    "dynamic_per_token_quant_fp8_i8",
    "dynamic_per_token_scaled_quant",
    "e8m0_shuffle",
    "fp8_legacy_to_mxfp8",
    "fused_dynamic_mx_quant_moe_sort",
    "fused_dynamic_mx_quant_moe_sort_hip",
    "fused_dynamic_mxfp4_quant_moe_sort",
    "fused_dynamic_mxfp8_quant_moe_sort",
    "fused_flatten_fp8_group_quant",
    "fused_flatten_mxfp4_quant",
    "fused_flatten_mxfp8_quant",
    "fused_quant_fp8_sort",
    "get_dtype_max",
    "get_hip_quant",
    "get_torch_act",
    "get_torch_quant",
    "get_triton_quant",
    "interleave_gate_up_rows",
    "moe_shuffle_scale",
    "moe_shuffle_weight",
    "moe_smooth_per_token_scaled_quant",
    "moe_smooth_per_token_scaled_quant_v1",
    "moe_smooth_per_token_scaled_quant_v2",
    "moe_smoothquant_fwd",
    "mxfp4_moe_sort_fwd",
    "mxfp4_moe_sort_hip",
    "pack_int8_to_packed_int4",
    "partial_transpose",
    "per_1x32_f4_quant",
    "per_1x32_f4_quant_for_dot_scaled",
    "per_1x32_f4_quant_hip",
    "per_1x32_f4_quant_triton",
    "per_1x32_f8_scale_f8_quant",
    "per_1x32_i4_quant",
    "per_1x32_mx_quant_hip",
    "per_block_quant_wrapper",
    "per_group_quant_hip",
    "per_tensor_quant",
    "per_tensor_quant_hip",
    "per_tensor_quant_triton",
    "per_token_quant_hip",
    "per_token_quant_triton",
    "pertoken_quant",
    "quant_mxfp4",
    "quant_mxfp4_hip",
    "rmsnorm_rope_rotate_activation_fp4quant_kvcache",
    "rope_rotate_activation",
    "rotate_activation",
    "shuffle_mxfp8fp4_a",
    "shuffle_mxfp8fp4_b",
    "shuffle_mxfp8fp4_scale",
    "shuffle_scale",
    "shuffle_scale_a16w4",
    "shuffle_scale_f4",
    "shuffle_scale_for_int4",
    "shuffle_scale_n32k4",
    "shuffle_weight",
    "shuffle_weight_NK",
    "shuffle_weight_a16w4",
    "shuffle_weight_f4",
    "shuffle_weight_gfx1250",
    "smooth_per_token_scaled_quant",
    "smoothquant_fwd",
    "static_per_tensor_quant",
    "static_per_tensor_quant_fp8_i8",
]

_FP4, _E8M0 = "float4_e2m1fnx2", "float8_e8m0fnu"
_HEAD = 64  # bytes in front of shuffled weights, which describe them


def _name(dtype):
    """The library's name of a torch dtype."""
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
):
    """shuffle_scale: e8m0 scales of groups of 32 in their shuffled order, others column-major."""
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
        smooth_scale_map = smooth_scale_map.to(dtype=torch.int32, copy=False).reshape(
            input.shape[:-1]
        )
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
    moe_smoothquant_fwd(out, input, smooth_scale, ids.to(torch.int32), scales)


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
    """Where they are shuffled, weights keep their shape."""
    codes, _ = _aiter.quant_mxfp4_hip(
        inp,
        group_size,
        round_mode,
        e8m0_shuffle,
        a16w4_shuffle,
        gate_up and a16w4_shuffle,
        shuffle_weight,
        out=None if shuffle_weight else out_packed.view(torch.uint8),
        out_scale=out_scale.view(torch.uint8),
    )
    if shuffle_weight:
        out_packed.view(torch.uint8).copy_(codes[_HEAD:].view(out_packed.shape))


def quant_mxfp4_hip(
    x,
    group_size=32,
    round_mode=1,
    e8m0_shuffle=False,
    a16w4_shuffle=False,
    gate_up=False,
    shuffle_weight=False,
):
    rows, groups = x.shape[0], x.shape[1] // group_size
    if e8m0_shuffle:
        rows, groups = -(-rows // 256) * 256, -(-groups // 8) * 8
    codes = torch.empty((x.shape[0], x.shape[1] // 2), dtype=torch.uint8, device=x.device)
    scale = torch.empty((rows, groups), dtype=torch.uint8, device=x.device)
    quant_mxfp4(x, codes, scale, group_size, int(round_mode), e8m0_shuffle, a16w4_shuffle, gate_up,
                shuffle_weight)  # fmt: skip
    return codes.view(dtypes.fp4x2), scale.view(dtypes.fp8_e8m0)


def rotate_activation(out, input, scale=None, group_size=None, shuffle_scale=True):
    if _codes(out) != _FP4:
        _aiter.rotate_activation(input, out=out)
    elif shuffle_scale:
        rope_rotate_activation(out, input, None, None, None, 0, scale, group_size)
    else:
        quant = _aiter.Quant(_FP4, group_size or 32, None, _E8M0)
        _aiter.rotate_activation(input, quant, out=out, out_scale=scale)


def rope_rotate_activation(
    out,
    input,
    cos,
    sin,
    positions,
    rope_dim,
    out_scale=None,
    group_size=None,
    shuffle_scale=True,
    do_rotate_act=True,
):
    """Scales of fp4 in the order of tiles of 16 heads with shuffle_scale; those of fp8 are rows."""
    if cos is not None and rope_dim != 2 * cos.shape[-1]:
        raise ValueError(
            f"rope_rotate_activation: rope_dim is {rope_dim}, expected {2 * cos.shape[-1]}, twice the "
            "width of cos"
        )
    heads = input.shape[-2] if input.dim() > 2 else 1
    x, y = (t.view(-1, heads, t.shape[-1]) for t in (input, out))
    code = _codes(out) if out.element_size() == 1 else None
    if code is not None:
        group_size = group_size or (32 if code == _FP4 else 128)
        groups = x.shape[-1] // group_size
        tiled = code == _FP4 and shuffle_scale
        shape = (len(x), groups, 16, -1) if tiled else (len(x), heads, groups)
        out_scale = out_scale.view(shape)
    _aiter.rope_rotate_activation(
        x,
        cos,
        sin,
        positions,
        code or out.dtype,
        group_size,
        do_rotate_act=do_rotate_act,
        out=y,
        out_scale=out_scale,
    )


def rmsnorm_rope_rotate_activation_fp4quant_kvcache(
    kvcache,
    scale,
    input,
    norm_weight,
    cos,
    sin,
    positions,
    slot_mapping,
    epsilon,
    rope_dim,
    kv_block_size=16,
    group_size=32,
    shuffle_scale=True,
    do_rotate_act=False,
):
    """The first head of each token goes to the cache."""
    name = "rmsnorm_rope_rotate_activation_fp4quant_kvcache"
    if rope_dim != 2 * cos.shape[-1] or (shuffle_scale and kvcache.shape[3] != kv_block_size):
        raise ValueError(
            f"{name}: rope_dim and kv_block_size are {rope_dim} and {kv_block_size}, expected twice "
            "the width of cos and the slots of kvcache's pages"
        )
    _aiter.rmsnorm_rope_rotate_activation_fp4quant_kvcache(
        kvcache,
        scale,
        input[:, 0],
        norm_weight,
        cos,
        sin,
        positions,
        slot_mapping,
        epsilon,
        group_size,
        shuffle_scale,
        do_rotate_act,
    )


def _scale_for(amax, largest):
    scale = amax / largest
    return torch.where(scale == 0, 1, scale)


def pertoken_quant(
    x, scale=None, x_scale=None, scale_dtype=torch.float32, quant_dtype=torch.int8, dtypeMax=None
):
    """dtypeMax: what the largest number of a row becomes, for codes that use a part of their range."""
    if dtypeMax is not None and scale is None:
        v = x.float() if x_scale is None else x.float() * x_scale
        scale = _scale_for(v.abs().amax(-1, keepdim=True), dtypeMax)
    codes, scale = _aiter.pertoken_quant(x, scale, x_scale, quant_dtype=_name(quant_dtype))
    return codes, scale.to(scale_dtype)


def per_tensor_quant(
    x, scale=None, scale_dtype=torch.float32, quant_dtype=torch.int8, dtypeMax=None
):
    if dtypeMax is not None and scale is None:
        scale = _scale_for(x.float().abs().max(), dtypeMax)
    scale = scale if scale is None else scale.view(1).float()
    codes, scale = _aiter.per_tensor_quant(x, scale, _name(quant_dtype))
    return codes, scale.view(1).to(scale_dtype)


def per_tensor_quant_hip(x, scale=None, quant_dtype=torch.int8, num_rows=None, num_rows_factor=1):
    if num_rows is not None:
        raise NotImplementedError("num_rows is not supported for per_tensor_quant_hip")
    codes, scale = _aiter.per_tensor_quant(x, scale, _name(quant_dtype))
    return codes, scale.view(1)


def per_token_quant_hip(x, scale=None, quant_dtype=torch.int8, num_rows=None, num_rows_factor=1):
    if scale is not None:
        raise ValueError("unsupported: static per token quant")
    return _aiter.per_token_quant_hip(x, None, _name(quant_dtype), num_rows, num_rows_factor)


def per_group_quant_hip(
    x,
    scale=None,
    quant_dtype=torch.int8,
    group_size=128,
    transpose_scale=False,
    num_rows=None,
    num_rows_factor=1,
    scale_type=torch.float32,
):
    """With transpose_scale the bytes of scale are in another order than its shape says, as in AITER."""
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
        y, x, scale, group_size, transpose_scale, num_rows, num_rows_factor
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
    packed, scale = _aiter.per_1x32_i4_quant(weight, group_size)
    pairs = torch.stack([packed << 4, packed & 0xF0], dim=-1).view(torch.int8) >> 4
    return pairs.view(weight.shape), scale.transpose(-1, -2).contiguous()


# ---- layouts of weights and scales ---------------------------------------------------------------


def _shuffled(packed, like):
    """A tensor like `like` of what aiter.shuffle_weight packed, tagged `is_shuffled` as in AITER.

    `packed` of it is the whole, whose head describes layout and shape.
    """
    shuffled = packed[_HEAD:].view(like.dtype).view(like.shape)
    shuffled.is_shuffled = True
    shuffled.packed = packed
    return shuffled


def shuffle_weight(
    x, layout=(16, 16), use_int4=False, is_guinterleave=False, gate_up=False, pad_k_to=0
):
    """A tensor like x (with K padded) in the new order, tagged as in AITER: `is_shuffled`, and with
    pad_k_to `aiter_original_k` and `aiter_padded_k`. `packed` is what aiter.shuffle_weight made."""
    if pad_k_to and (use_int4 or is_guinterleave):
        raise NotImplementedError("pad_k_to with use_int4 or is_guinterleave")
    w = x.view(torch.uint8) if x.dtype == dtypes.fp4x2 else x
    packed = _aiter.shuffle_weight(w, layout, use_int4, is_guinterleave, gate_up, pad_k_to)
    k, padded = x.shape[-1], -(-x.shape[-1] // max(pad_k_to, 1)) * max(pad_k_to, 1)
    shuffled = _shuffled(packed, x if padded == k else x.new_empty((*x.shape[:-1], padded)))
    if pad_k_to:
        shuffled.aiter_original_k, shuffled.aiter_padded_k = k, padded
    return shuffled


def shuffle_weight_a16w4(src, NLane, gate_up):
    return shuffle_weight(src, (NLane, 16), is_guinterleave=True, gate_up=gate_up)


def moe_shuffle_weight(
    src, experts_cnt=None, is_guinterleave=False, gate_up=False, layout=(16, 16)
):
    return shuffle_weight(src, layout, False, is_guinterleave, gate_up)


def shuffle_weight_NK(x, inst_N, inst_K, use_int4=False):
    """Tiles of inst_N rows of inst_K elements, of which a lane of 64 has its part together."""
    pack = inst_K // (64 // inst_N) * (2 if use_int4 else 1)
    tile = 64 // inst_N * pack
    return _shuffled(_core.shuffle_weight(x, inst_N, tile, pack, False, 0, None, None), x)


def interleave_gate_up_rows(w):
    return torch.stack(w.chunk(2, dim=1), dim=2).flatten(1, 2).contiguous()


def pack_int8_to_packed_int4(x_shuf_i8):
    """Eight numbers in four bytes: the first four in the lower halves, the others in the upper."""
    pairs = x_shuf_i8.contiguous().view(-1, 2, 4).view(torch.uint8)
    return (pairs[:, 0] & 15 | pairs[:, 1] << 4).view(torch.int8).view(-1)


def shuffle_scale_for_int4(scale, group_size=32):
    """(experts, groups, N): bf16 scales of two groups come together."""
    if group_size != 32:
        raise ValueError(f"shuffle_scale_for_int4: group_size is {group_size}, expected 32")
    if scale.dtype != torch.bfloat16:
        return scale.contiguous()
    experts, groups, n = scale.shape
    return scale.view(experts, groups // 2, 2, n).transpose(2, 3).contiguous()


def shuffle_scale(src, experts_cnt=None, is_guinterleave=False, gate_up=False):
    if src is None or src.dtype == torch.float32:
        return src
    if is_guinterleave and experts_cnt is None:
        raise ValueError("experts_cnt is required when is_guinterleave=True")
    scale = src.view(torch.uint8)
    if is_guinterleave and src.shape[1] % 8:
        scale = torch.nn.functional.pad(scale, (0, -src.shape[1] % 8), value=0x7F)
    return _aiter.shuffle_scale(scale, experts_cnt, is_guinterleave, gate_up).view(src.dtype)


moe_shuffle_scale = shuffle_scale


def shuffle_scale_a16w4(src, experts_cnt, gate_up):
    return shuffle_scale(src, experts_cnt, True, gate_up)


def e8m0_shuffle(scale):
    return shuffle_scale(scale)


def _in_tiles(x, rows, cols):
    """Bytes in tiles of rows x cols, each together. A matrix, or one for each expert."""
    x_bytes = x.view(torch.uint8)
    return _shuffled(_core.shuffle_weight(x_bytes, rows, cols, cols, False, 0, None, None), x)


def shuffle_mxfp8fp4_a(src):
    return _in_tiles(src, 2, 128)


def shuffle_mxfp8fp4_b(src):
    return _in_tiles(src, 16, 16)


shuffle_weight_f4 = shuffle_mxfp8fp4_b


def shuffle_mxfp8fp4_scale(src):
    """Rows are padded to a multiple of 32 with 0x7F, the scale 1."""
    scale = torch.nn.functional.pad(
        src.view(torch.uint8), (0, 0, 0, -src.shape[0] % 32), value=0x7F
    )
    return _in_tiles(scale.view(src.dtype), 32, 4)


def shuffle_scale_f4(src, intype=7):
    """intype: 8 for NVFP4, else MXFP4."""
    return _in_tiles(src, 32, 8 if intype == 8 else 4)


def shuffle_scale_n32k4(src, experts_cnt=None, is_guinterleave=False, gate_up=False):
    """(experts, N / 32, groups * 32) uint8; src: (experts, N, groups), or (experts * N, groups)."""
    scale = src.view(torch.uint8).contiguous()
    if scale.dim() == 2:
        if experts_cnt is None:
            raise ValueError("shuffle_scale_n32k4: experts_cnt is None, expected a number")
        scale = scale.view(experts_cnt, -1, scale.shape[-1])
    if is_guinterleave and gate_up:
        scale = interleave_gate_up_rows(scale)
    experts, n, groups = scale.shape
    return _in_tiles(scale, 32, 4).view(experts, n // 32, groups * 32)


def shuffle_weight_gfx1250(w):
    """(N, K) -> (N / 16, K * 16); (experts, K, N) -> (experts, K * 16, N / 16)."""
    rows = w if w.dim() == 2 else w.transpose(-1, -2).contiguous()
    elements = rows.view(torch.uint8) if rows.dtype == dtypes.fp4x2 else rows
    tiles = _core.shuffle_weight(elements, 16, 32, 16, False, 0, None, None)
    n, k = rows.shape[-2:]
    tiles = tiles[_HEAD:].view(w.dtype).view(*rows.shape[:-2], n // 16, k * 16)
    return tiles if w.dim() == 2 else tiles.transpose(-1, -2)


def partial_transpose(out, input, num_rows):
    x = input.view(-1, input.shape[-1])
    _aiter.partial_transpose(x, num_rows, out=out.view(x.shape[::-1]))


# ---- mixtures of experts -------------------------------------------------------------------------


def moe_smooth_per_token_scaled_quant_v2(
    out,
    input,
    scales,
    smooth_scale,
    sorted_token_ids,
    sorted_expert_ids,
    num_valid_ids,
    block_m,
    shuffle_scale=False,
    transpose_out=False,
):
    """The experts of tokens come from the sorted ids. input: (tokens, columns), or (tokens, topk,
    columns)."""
    tokens, cols = input.shape[0], input.shape[-1]
    topk = out.numel() // (tokens * cols)
    ids = sorted_token_ids[: sorted_expert_ids.shape[0] * block_m]
    place = torch.arange(ids.shape[0], device=ids.device)
    token, k = (ids & 0xFFFFFF).long(), (ids >> 24).long()
    expert = sorted_expert_ids[place // block_m].to(torch.int32)
    valid = (place < num_valid_ids[0]) & (token < tokens) & (k < topk)
    experts = torch.full((tokens * topk + 1,), -1, dtype=torch.int32, device=ids.device)
    experts[torch.where(valid, token * topk + k, tokens * topk)] = expert
    experts = experts[:-1].view(tokens, topk)
    x = input if input.dim() == 3 else input.unsqueeze(1).expand(-1, topk, -1)
    shape = (topk, tokens) if transpose_out else (tokens, topk)
    codes, scale = out.view(*shape, -1), scales.view(*shape, 1)
    if transpose_out:
        x, experts = x.transpose(0, 1), experts.t()
    _aiter.quantize(x, (1, 0), _codes(out), smooth=smooth_scale, smooth_map=experts, out=codes,
                    out_scale=scale)  # fmt: skip


def moe_smooth_per_token_scaled_quant(
    out,
    input,
    scales,
    smooth_scale,
    topk_ids,
    sorted_token_ids,
    sorted_expert_ids,
    num_valid_ids,
    block_m,
    local_expert_hash=None,
    shuffle_scale=False,
    transpose_out=False,
    is_balanced=False,
):
    """By the ids of experts where there are such of all experts, or else by the sorted ids."""
    if input.numel() != out.numel() and local_expert_hash is not None:
        moe_smooth_per_token_scaled_quant_v1(out, input, scales, smooth_scale, topk_ids,
                                             shuffle_scale, local_expert_hash,
                                             transpose_out)  # fmt: skip
    else:
        moe_smooth_per_token_scaled_quant_v2(out, input, scales, smooth_scale, sorted_token_ids,
                                             sorted_expert_ids, num_valid_ids, block_m,
                                             shuffle_scale, transpose_out)  # fmt: skip


def _sort_scales(out_scale, scale, sorted_ids, num_valid_ids, token_num):
    """Rows of scale in the order of the sorted ids, 0 where there is none, and shuffled."""
    scale = scale.view(torch.uint8).reshape(-1, scale.shape[-1])
    topk = scale.shape[0] // max(token_num, 1)
    place = torch.arange(sorted_ids.shape[0], device=sorted_ids.device)
    token, k = (sorted_ids & 0xFFFFFF).long(), (sorted_ids >> 24).long()
    valid = (place < num_valid_ids[0]) & (token < token_num)
    row = token
    if topk > 1:
        valid, row = valid & (k < topk), token * topk + k
    rows = torch.where(valid.unsqueeze(1), scale[torch.where(valid, row, 0)], 0)
    padding = (0, -rows.shape[1] % 8, 0, -rows.shape[0] % 32)
    rows = torch.nn.functional.pad(rows, padding)
    _core.shuffle_scale(rows, 1, False, True, out_scale.view(torch.uint8), None)


def mxfp4_moe_sort_hip(out_scale, scale, sorted_ids, num_valid_ids, token_num, cols):
    _sort_scales(out_scale, scale[..., : -(-cols // 32)], sorted_ids, num_valid_ids, token_num)


def mxfp4_moe_sort_fwd(scale, sorted_ids, num_valid_ids, token_num, cols):
    out_scale = _sorted_scale(sorted_ids, cols, 32)
    mxfp4_moe_sort_hip(out_scale, scale, sorted_ids, num_valid_ids, token_num, cols)
    return out_scale


def _sorted_scale(sorted_ids, cols, group_size):
    rows, groups = -(-sorted_ids.shape[0] // 32) * 32, -(-cols // group_size)
    shape = (rows, -(-groups // 8) * 8)
    return torch.empty(shape, dtype=torch.uint8, device=sorted_ids.device).view(dtypes.fp8_e8m0)


def _quant_and_sort(
    out,
    scales,
    input,
    sorted_ids,
    num_valid_ids,
    token_num,
    group_size,
    sorted_weights,
    num_rows=None,
    round_mode=_aiter.MxScaleRoundMode.RoundUp,
):
    """Quantizes each row once, then sorts the scales. Rows whose weight is 0 become zeros."""
    x = input.view(-1, input.shape[-1])
    topk = max(x.shape[0] // max(token_num, 1), 1)
    codes = out.view(torch.uint8) if _codes(out) == _FP4 else out
    _, scale = _aiter.quantize(
        x,
        (1, group_size),
        _codes(out),
        scale_dtype=_E8M0,
        round_mode=round_mode,
        num_rows=num_rows,
        num_rows_factor=topk,
        out=codes,
    )
    scale = scale.view(torch.uint8)
    if sorted_weights is not None:
        place = torch.arange(sorted_ids.shape[0], device=sorted_ids.device)
        token, k = (sorted_ids & 0xFFFFFF).long(), (sorted_ids >> 24).long()
        zero = (sorted_weights[: sorted_ids.shape[0]] == 0) & (place < num_valid_ids[0])
        zero &= (token < token_num) & (k < topk)
        keep = torch.ones(x.shape[0] + 1, dtype=torch.uint8, device=x.device)
        keep[torch.where(zero, token * topk + k if topk > 1 else token, x.shape[0])] = 0
        keep = keep[:-1].unsqueeze(1)
        codes.view(torch.uint8).mul_(keep)
        scale = scale * keep
    _sort_scales(scales, scale, sorted_ids, num_valid_ids, token_num)


def fused_dynamic_mx_quant_moe_sort_hip(
    out,
    scales,
    input,
    sorted_ids,
    num_valid_ids,
    token_num,
    block_m,
    group_size=32,
    sorted_weights=None,
):
    _quant_and_sort(out, scales, input, sorted_ids, num_valid_ids, token_num, group_size,
                    sorted_weights)  # fmt: skip


def fused_dynamic_mx_quant_moe_sort(
    input,
    sorted_ids,
    num_valid_ids,
    token_num,
    topk,
    block_size,
    quant_dtype=dtypes.fp4x2,
    num_rows=None,
    group_size=32,
    sorted_weights=None,
):
    """Returns (codes, sorted and shuffled scales)."""
    rows, cols = input.view(-1, input.shape[-1]).shape
    fp4 = quant_dtype == dtypes.fp4x2
    out = torch.empty((rows, cols // 2 if fp4 else cols), dtype=quant_dtype, device=input.device)
    scale = _sorted_scale(sorted_ids, cols, group_size)
    _quant_and_sort(out, scale, input, sorted_ids, num_valid_ids, token_num, group_size,
                    sorted_weights, num_rows)  # fmt: skip
    return out, scale


def fused_dynamic_mxfp4_quant_moe_sort(
    input, sorted_ids, num_valid_ids, token_num, topk, block_size, num_rows=None, group_size=32,
    sorted_weights=None,
):  # fmt: skip
    return fused_dynamic_mx_quant_moe_sort(
        input, sorted_ids, num_valid_ids, token_num, topk, block_size, dtypes.fp4x2, num_rows,
        group_size, sorted_weights,
    )  # fmt: skip


def fused_dynamic_mxfp8_quant_moe_sort(
    input, sorted_ids, num_valid_ids, token_num, topk, block_size, num_rows=None, group_size=32,
    sorted_weights=None,
):  # fmt: skip
    return fused_dynamic_mx_quant_moe_sort(
        input, sorted_ids, num_valid_ids, token_num, topk, block_size, dtypes.fp8, num_rows,
        group_size, sorted_weights,
    )  # fmt: skip


def fused_quant_fp8_sort(
    input, sorted_ids, num_valid_ids, token_num, block_size=32, quant_block_size=8,
    quant_dtype=dtypes.fp8,
):  # fmt: skip
    """Scales of groups of 32 numbers, whatever block_size, rounded as by `dynamic_mxfp8_quant`."""
    out = torch.empty(input.shape, dtype=quant_dtype, device=input.device)
    scale = _sorted_scale(sorted_ids, input.shape[-1], 32)
    _quant_and_sort(out, scale, input, sorted_ids, num_valid_ids, token_num, 32, None,
                    round_mode=_aiter.MxScaleRoundMode.EvenFp4)  # fmt: skip
    return out, scale


# ---- AITER's references, and its Triton functions ------------------------------------------------


@functools.lru_cache
def get_dtype_max(dtype):
    return (torch.finfo if dtype.is_floating_point else torch.iinfo)(dtype).max


def get_torch_act(aType):
    functional = torch.nn.functional
    acts = {
        ActivationType.No: lambda *a, **k: a[0],
        ActivationType.Silu: functional.silu,
        ActivationType.Gelu: functional.gelu,
    }
    return acts.get(aType, NotImplementedError)


def per_1x32_f4_quant(
    x, scale=None, quant_dtype=dtypes.fp4x2, shuffle=False, pack_dim=-1, round_mode=1
):
    """pack_dim=0: of the columns of (K, N), as tl.dot_scaled has its right operand."""
    if scale is not None:
        raise ValueError("per_1x32_f4_quant: scale is computed, expected None")
    if pack_dim == 0:
        codes, found = per_1x32_f4_quant(x.t().contiguous(), None, quant_dtype, shuffle, -1,
                                         round_mode)  # fmt: skip
        codes, found = (t.view(torch.uint8).t().contiguous() for t in (codes, found))
        return codes.view(quant_dtype), found.view(dtypes.fp8_e8m0)
    codes, found = _aiter.quantize(x, (1, 32), _FP4, scale_dtype=_E8M0, round_mode=int(round_mode))
    found = found.view(torch.uint8).view(-1, found.shape[-1])
    found = shuffle_scale(found) if shuffle else found
    return codes.view(quant_dtype), found.view(dtypes.fp8_e8m0)


def per_1x32_f4_quant_for_dot_scaled(
    lhs, rhs, quant_dtype=dtypes.fp4x2, shuffle=False, round_mode=1
):
    return (
        *per_1x32_f4_quant(lhs, None, quant_dtype, shuffle, -1, round_mode),
        *per_1x32_f4_quant(rhs, None, quant_dtype, shuffle, 0, round_mode),
    )


def per_1x32_f8_scale_f8_quant(
    x, scale=None, quant_dtype=None, scale_type=torch.float32, shuffle=False
):
    """f32 scales make room for 256, as in AITER; e8m0 ones are the smallest that do not saturate."""
    name = _name(quant_dtype or dtypes.fp8)
    v = x.reshape(-1, x.shape[-1])
    if scale_type == torch.float32:
        scale = _scale_for(v.float().view(v.shape[0], -1, 32).abs().amax(-1), 256.0)
        codes = _aiter.quantize(v, (1, 32), name, scale=scale)
    else:
        codes, scale = _aiter.per_1x32_mx_quant(v, name)
        scale = shuffle_scale(scale.view(torch.uint8)) if shuffle else scale.view(torch.uint8)
    return codes.view(x.shape), scale


def per_block_quant_wrapper(block_shape=(1, 128)):
    """A decorator: a quantizer of tokens becomes one of groups of block_shape[1] neighbours."""
    rows, columns = block_shape

    def decorator(per_token_quant_func):
        def wrapper(x, scale=None, quant_dtype=torch.int8):
            if rows != 1:
                raise NotImplementedError("per_block_quant_wrapper: blocks are of one row")
            groups = x.reshape(-1, columns)
            codes, scale = per_token_quant_func(groups, scale=scale, quant_dtype=quant_dtype)
            return codes.view(x.shape), scale.view(x.shape[0], -1)

        return wrapper

    return decorator


def per_token_quant_triton(x, scale=None, quant_dtype=torch.int8):
    return per_token_quant_hip(x, scale, quant_dtype)


def per_tensor_quant_triton(x, scale=None, quant_dtype=torch.int8):
    return per_tensor_quant_hip(x, scale, quant_dtype)


def per_1x32_f4_quant_triton(x, scale=None, quant_dtype=dtypes.fp4x2, shuffle=False):
    return per_1x32_f4_quant(x, scale, quant_dtype, shuffle, -1, _aiter.MxScaleRoundMode.Even)


def _quantizer(by_type):
    def get(qType):
        def unsupported(*args, **kwargs):
            raise NotImplementedError(f"unsupported quant type {qType}")

        return by_type.get(_aiter.QuantType(int(qType)), unsupported)

    return get


def _no_quant(*args, **kwargs):
    return args[0], None


get_torch_quant = _quantizer(
    {
        _aiter.QuantType.No: _no_quant,
        _aiter.QuantType.per_Tensor: per_tensor_quant,
        _aiter.QuantType.per_Token: pertoken_quant,
        _aiter.QuantType.per_1x32: per_1x32_f4_quant,
        _aiter.QuantType.per_1x128: per_block_quant_wrapper((1, 128))(pertoken_quant),
    }
)
get_hip_quant = _quantizer(
    {
        _aiter.QuantType.No: _no_quant,
        _aiter.QuantType.per_Tensor: per_tensor_quant_hip,
        _aiter.QuantType.per_Token: per_token_quant_hip,
        _aiter.QuantType.per_1x32: per_1x32_mx_quant_hip,
        _aiter.QuantType.per_1x128: functools.partial(per_group_quant_hip, group_size=128),
    }
)
get_triton_quant = _quantizer(
    {
        _aiter.QuantType.No: _no_quant,
        _aiter.QuantType.per_Tensor: per_tensor_quant_triton,
        _aiter.QuantType.per_Token: per_token_quant_triton,
        _aiter.QuantType.per_1x32: per_1x32_f4_quant_triton,
        _aiter.QuantType.per_1x128: per_block_quant_wrapper((1, 128))(per_token_quant_triton),
    }
)


def static_per_tensor_quant_fp8_i8(qx, x_in, scale_in):
    static_per_tensor_quant(qx, x_in, scale_in)
    return qx


def dynamic_per_tensor_quant_fp8_i8(qx, x_in, scale_out):
    dynamic_per_tensor_quant(qx, x_in, scale_out)
    return qx, scale_out


def dynamic_per_token_quant_fp8_i8(qx, x_in, scale_out):
    dynamic_per_token_scaled_quant(qx, x_in, scale_out)
    return qx, scale_out


def dynamic_mxfp4_quant(x, scaling_mode="even"):
    """Scales are column-major, as in AITER's Triton."""
    scale = _column_major(x.shape[0], -(-x.shape[1] // 32), torch.uint8, x.device)
    return _aiter.quantize(x, (1, 32), _FP4, scale_dtype=_E8M0, round_mode=2, out_scale=scale)


def _column_major(rows, groups, dtype, device):
    return torch.empty((groups, rows), dtype=dtype, device=device).t()


def dynamic_nvfp4_quant(x, global_scale=None):
    """Codes are those of the rounded e4m3 scale (AITER's Triton: of the unrounded one).

    global_scale: a number, or a tensor of one on x's device.
    """
    scale = _column_major(x.shape[0], -(-x.shape[1] // 16), torch.float8_e4m3fn, x.device)
    return _aiter.dynamic_nvfp4_quant(x, 1.0 if global_scale is None else global_scale,
                                      out_scale=scale)  # fmt: skip


def dynamic_mxfp8_quant(x, scale=None, quant_dtype=torch.float8_e4m3fn):
    v = x.reshape(-1, x.shape[-1])
    if scale is None:
        scale = torch.empty((v.shape[0], v.shape[1] // 32), dtype=torch.uint8, device=x.device)
    codes = torch.empty(v.shape, dtype=quant_dtype, device=x.device)
    _aiter.quantize(v, (1, 32), _name(quant_dtype), scale_dtype=_E8M0,
                    round_mode=_aiter.MxScaleRoundMode.EvenFp4, out=codes,
                    out_scale=scale)  # fmt: skip
    return codes.view(x.shape), scale.view(*x.shape[:-1], -1)


def dynamic_mxfp8_quant_n32k4_mbn(o, quant_dtype=torch.float8_e4m3fn):
    """o: (tokens, batches, K), K a multiple of 128. Scales: (ceil(tokens / 32), batches, K), in tiles
    of 32 tokens x 4 groups, those of rows past the tokens 0."""
    codes, scale = dynamic_mxfp8_quant(o, None, quant_dtype)
    tokens, batches, groups = scale.shape
    scale = torch.nn.functional.pad(scale, (0, 0, 0, 0, 0, -tokens % 32))
    tiles = scale.view(-1, 32, batches, groups // 4, 4).permute(0, 2, 3, 1, 4)
    return codes, tiles.reshape(-1, batches, groups * 32)


def create_hadamard_matrix(block_size, device="cuda", dtype=torch.bfloat16):
    """Sylvester's, not normalized: `rotate_activation` multiplies by it / sqrt(block_size)."""
    if block_size < 1 or block_size & (block_size - 1):
        raise ValueError(
            f"create_hadamard_matrix: block_size is {block_size}, expected a power of 2"
        )
    h = torch.ones(1, 1, device=device, dtype=dtype)
    while h.shape[0] < block_size:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h


def fp8_legacy_to_mxfp8(x_fnuz, x_scale_fp32, y_fn=None, y_scale=None):
    rows, cols = x_fnuz.shape
    if y_fn is None:
        y_fn = torch.empty((rows, cols), dtype=torch.float8_e4m3fn, device=x_fnuz.device)
    if y_scale is None:
        y_scale = torch.empty((rows, cols // 32), dtype=torch.uint8, device=x_fnuz.device)
    _aiter.fp8_legacy_to_mxfp8(x_fnuz, x_scale_fp32, out=y_fn, out_scale=y_scale)
    return y_fn, y_scale


def fused_flatten_fp8_group_quant(x, group_size, dtype_quant=None, transpose_scale=False):
    """(M, N1, N2) as (M, N1 * N2). transpose_scale: scales have the strides (1, M)."""
    v, code = x.flatten(1), _name(dtype_quant or dtypes.fp8)
    rows, groups = v.shape[0], -(-v.shape[1] // group_size)
    if not transpose_scale:
        return _aiter.quantize(v, (1, group_size), code)
    scale = _column_major(rows, groups, torch.float32, x.device)
    return _aiter.quantize(v, (1, group_size), code, out_scale=scale)


def fused_flatten_mxfp4_quant(x):
    return dynamic_mxfp4_quant(x.flatten(1))


def fused_flatten_mxfp8_quant(x, quant_dtype=torch.float8_e4m3fn):
    return dynamic_mxfp8_quant(x.flatten(1), None, quant_dtype)
