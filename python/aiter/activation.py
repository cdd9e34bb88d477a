"""Gated activations, quantized too, and their gradients.

All are one C operator, `aiter_act_and_mul`, with another activation; `act_and_mul` takes its name.
"""

from __future__ import annotations

from . import _aiter
from .quant import MxScaleRoundMode, Quant

__all__ = [
    "act_and_mul",
    "act_and_mul_backward",
    "act_mul_and_fp8_group_quant",
    "act_mul_and_mxfp4_quant",
    "fused_clamp_act_mul",
    "fused_silu_mul_fp8_per_tensor_static_quant",
    "gelu_and_mul",
    "gelu_and_mul_bias",
    "gelu_tanh_and_mul",
    "scaled_silu_and_mul",
    "silu_and_mul",
    "silu_and_mul_bias",
    "silu_and_mul_quant",
    "situv2_and_mul",
    "swiglu_and_mul",
    "swiglu_and_mul_bias",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .typing import ArrayLike, ArrayT, DType, Stream

_ACTIVATIONS = {
    "silu": _aiter.ACTIVATION_SILU,
    "gelu": _aiter.ACTIVATION_GELU,
    "gelu_tanh": _aiter.ACTIVATION_GELU_TANH,
    "swiglu": _aiter.ACTIVATION_SWIGLU,
    "situv2": _aiter.ACTIVATION_SITUV2,
}


def _activation(name):
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation is {name!r}, expected one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def act_and_mul(
    x: ArrayT,
    activation: str = "silu",
    *,
    limit: float = 0.0,
    bias: ArrayLike | None = None,
    expert_ids: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    interleaved: bool = False,
    beta: float = 4.0,
    linear_beta: float = 25.0,
    dtype: DType | None = None,
    quant: Quant | None = None,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """Gated activation: y = act(gate, up) * weights, gate and up the two halves of x's rows.

    x: (..., 2 d) bf16, f16 or f32; the last stride is 1, the others are free as long as they fold
        into two dimensions.
    activation: "silu", "gelu" (erf), "gelu_tanh", "swiglu" (GPT-OSS: gate * sigmoid(1.702 gate) *
        (up + 1)), "situv2" (Kimi-K3: beta tanh(gate / beta) sigmoid(gate) * linear_beta tanh(up /
        linear_beta)).
    limit: where positive, gate is first clamped to at most limit and up to [-limit, limit].
    bias: (experts, 2 d) f32, a row of which is added to x's before; expert_ids (...) int32 or int64
        tell which. A row whose id is no expert's gives zeros. With one expert no ids are needed.
    weights: (..., d) or (..., 1), of f32 or x's dtype.
    interleaved: gate and up alternate in x (and bias), instead of being its halves.
    dtype: of the result, x's by default; f32 x may give "bfloat16" or "float16".
    quant: an aiter.Quant, to quantize the fp32 results. Then codes and scales are returned (codes
        alone where scales are given), those of aiter.quantize.
    out: (..., d), may be either half of x, unless that is interleaved, or y is quantized.
    out_scale: for the scales; may be a transposed view, for column-major scales.
    Returns an array (..., d); fp32 inside. Raises ValueError on a wrong shape, dtype or stride.
    Source: AITER's gated activations with their GateMode, and fused_clamp_act_mul.
    """
    return _aiter.act_and_mul(
        x,
        bias,
        expert_ids,
        weights,
        _activation(activation),
        limit,
        interleaved,
        beta,
        linear_beta,
        dtype,
        quant,
        out,
        out_scale,
        stream,
    )


def silu_and_mul(
    x: ArrayT,
    limit: float = 0.0,
    *,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Gated SiLU: y = gate * sigmoid(gate) * up, gate the first and up the second half of x's rows.

    The arguments are those of act_and_mul. Source: AITER silu_and_mul.
    """
    return act_and_mul(x, "silu", limit=limit, dtype=dtype, out=out, stream=stream)


def gelu_and_mul(
    x: ArrayT,
    *,
    limit: float = 0.0,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Gated GELU: y = gate * Phi(gate) * up, Phi the normal distribution function (erf).

    The arguments are those of act_and_mul. Source: AITER gelu_and_mul.
    """
    return act_and_mul(x, "gelu", limit=limit, dtype=dtype, out=out, stream=stream)


def gelu_tanh_and_mul(
    x: ArrayT,
    *,
    limit: float = 0.0,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Gated GELU with tanh: gate * (1 + tanh(sqrt(2 / pi) (gate + 0.044715 gate^3))) / 2 * up.

    The arguments are those of act_and_mul. Source: AITER gelu_tanh_and_mul.
    """
    return act_and_mul(x, "gelu_tanh", limit=limit, dtype=dtype, out=out, stream=stream)


def swiglu_and_mul(
    x: ArrayT,
    *,
    limit: float = 7.0,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The GPT-OSS gate: y = gate * sigmoid(1.702 gate) * (up + 1), gate and up clamped by limit.

    The arguments are those of act_and_mul; limit=0 clamps nothing. Source: AITER swiglu_and_mul.
    """
    return act_and_mul(x, "swiglu", limit=limit, dtype=dtype, out=out, stream=stream)


def situv2_and_mul(
    x: ArrayT,
    beta: float = 4.0,
    linear_beta: float = 25.0,
    *,
    dtype: DType | None = None,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """The Kimi-K3 gate: beta tanh(gate / beta) sigmoid(gate) * linear_beta tanh(up / linear_beta).

    The arguments are those of act_and_mul. Source: AITER's ActivationType.Situv2.
    """
    return act_and_mul(
        x, "situv2", beta=beta, linear_beta=linear_beta, dtype=dtype, out=out, stream=stream
    )


def silu_and_mul_bias(
    x: ArrayT,
    expert_ids: ArrayLike,
    bias: ArrayLike,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """silu_and_mul of x + bias[expert_ids]; see act_and_mul. Source: AITER silu_and_mul_bias."""
    return act_and_mul(x, "silu", bias=bias, expert_ids=expert_ids, out=out, stream=stream)


def gelu_and_mul_bias(
    x: ArrayT,
    expert_ids: ArrayLike,
    bias: ArrayLike,
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """gelu_and_mul of x + bias[expert_ids]; see act_and_mul. Source: AITER gelu_and_mul_bias."""
    return act_and_mul(x, "gelu", bias=bias, expert_ids=expert_ids, out=out, stream=stream)


def swiglu_and_mul_bias(
    x: ArrayT,
    expert_ids: ArrayLike,
    bias: ArrayLike,
    *,
    limit: float = 7.0,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """swiglu_and_mul of x + bias[expert_ids]; see act_and_mul. Source: AITER swiglu_and_mul_bias."""
    return act_and_mul(
        x, "swiglu", limit=limit, bias=bias, expert_ids=expert_ids, out=out, stream=stream
    )


def act_and_mul_backward(
    dy: ArrayT,
    x: ArrayLike,
    activation: str = "silu",
    *,
    limit: float = 0.0,
    interleaved: bool = False,
    beta: float = 4.0,
    linear_beta: float = 25.0,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """Gradient by x of sum(dy * act_and_mul(x, activation, ...)).

    dy: (..., d) of x's dtype; of f32 x also "bfloat16" or "float16". What limit clamps has
        gradient 0.
    out: like x; may be x. Returns an array like x. `aiter.autograd` has these joined to the
        functions themselves, for torch and JAX.
    """
    return _aiter.act_and_mul_backward(
        dy, x, _activation(activation), limit, interleaved, beta, linear_beta, out, stream
    )


def scaled_silu_and_mul(
    x: ArrayT,
    scale: ArrayLike,
    quant_dtype: DType = "float8_e4m3fn",
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """silu_and_mul, quantized with a given scale (1,): codes of y / scale.

    Source: AITER scaled_silu_and_mul.
    """
    return act_and_mul(x, "silu", quant=Quant(quant_dtype, scale=scale), out=out, stream=stream)


def fused_silu_mul_fp8_per_tensor_static_quant(
    inp: ArrayT,
    inp_scale: ArrayLike,
    dtype_quant: DType = "float8_e4m3fn",
    *,
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
    """scaled_silu_and_mul under its other name in AITER."""
    return scaled_silu_and_mul(inp, inp_scale, dtype_quant, out=out, stream=stream)


def silu_and_mul_quant(
    x: ArrayT,
    group_size: int,
    quant_dtype: DType = "float8_e4m3fn",
    limit: float = 0.0,
    shuffle_scale: bool = False,
    *,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """silu_and_mul, quantized in groups of 16, 32, 64 or 128 columns, or of all with group_size = d.

    fp8 codes have f32 scales; shuffle_scale makes them column-major, which out_scale as a transposed
    view does here, so it is refused. fp4 codes ("float4_e2m1fnx2") have e8m0 scales, in the shuffled
    order of `aiter.quantize` with shuffle_scale. Returns (codes, scale).
    Source: AITER silu_and_mul_quant.
    """
    group = (
        0 if group_size == x.shape[-1] // 2 and group_size not in (16, 32, 64, 128) else group_size
    )
    if _is_fp4(quant_dtype):
        quant = Quant(
            quant_dtype,
            group,
            scale_dtype="float8_e8m0fnu",
            scale_layout="shuffled" if shuffle_scale else "strided",
        )
    else:
        if shuffle_scale:
            raise ValueError(
                "silu_and_mul_quant: shuffle_scale is for fp4; give a transposed view as out_scale"
            )
        quant = Quant(quant_dtype, group)
    return act_and_mul(
        x, "silu", limit=limit, quant=quant, out=out, out_scale=out_scale, stream=stream
    )


def _is_fp4(dtype):
    return "float4" in str(dtype)


def act_mul_and_mxfp4_quant(
    x: ArrayT,
    activation: str,
    scaling_mode: str = "even",
    shuffle: bool = False,
    *,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """act_and_mul, quantized to MXFP4: groups of 32 with e8m0 scales.

    scaling_mode: "even", "up", "down" or "ceil", the modes of MxScaleRoundMode. shuffle: scales in
    the shuffled order of `aiter.quantize`. Returns (codes, scale).
    Source: AITER act_mul_and_mxfp4_quant.
    """
    modes = {
        "even": MxScaleRoundMode.Even,
        "up": MxScaleRoundMode.RoundUp,
        "down": MxScaleRoundMode.RoundDown,
        "ceil": MxScaleRoundMode.Ceil,
    }
    if scaling_mode not in modes:
        raise ValueError(f"scaling_mode is {scaling_mode!r}, expected one of {', '.join(modes)}")
    quant = Quant(
        "float4_e2m1fnx2",
        32,
        scale_dtype="float8_e8m0fnu",
        scale_layout="shuffled" if shuffle else "strided",
        round_mode=modes[scaling_mode],
    )
    return act_and_mul(x, activation, quant=quant, out=out, out_scale=out_scale, stream=stream)


def act_mul_and_fp8_group_quant(
    x: ArrayT,
    activation: str,
    group_size: int,
    dtype_quant: DType = "float8_e4m3fn",
    *,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> tuple[ArrayT, ArrayT]:
    """act_and_mul, quantized to fp8 in groups with f32 scales. Returns (codes, scale).

    Source: AITER act_mul_and_fp8_group_quant.
    """
    quant = Quant(dtype_quant, group_size)
    return act_and_mul(x, activation, quant=quant, out=out, out_scale=out_scale, stream=stream)


def fused_clamp_act_mul(
    inp: ArrayT,
    swiglu_limit: float = 0.0,
    activation: str = "silu",
    weights: ArrayLike | None = None,
    dtype_quant: DType | None = None,
    quant_block_size: int = 128,
    scale_dtype_fmt: str = "fp32",
    shuffle_scale: bool = False,
    *,
    out: ArrayT | None = None,
    out_scale: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT | tuple[ArrayT, ArrayT]:
    """act_and_mul with limit and weights, quantized to fp8 where dtype_quant says so.

    scale_dtype_fmt: "fp32", or "ue8m0" for powers of two, which may be shuffled.
    Returns y, or (codes, scale). Source: AITER fused_clamp_act_mul.
    """
    quant = None
    if dtype_quant is not None:
        scales = {"fp32": "float32", "ue8m0": "float8_e8m0fnu"}
        if scale_dtype_fmt not in scales:
            raise ValueError(f"scale_dtype_fmt is {scale_dtype_fmt!r}, expected fp32 or ue8m0")
        quant = Quant(
            dtype_quant,
            quant_block_size,
            scale_dtype=scales[scale_dtype_fmt],
            scale_layout="shuffled" if shuffle_scale else "strided",
        )
    return act_and_mul(
        inp,
        activation,
        limit=max(swiglu_limit, 0.0),
        weights=weights,
        quant=quant,
        out=out,
        out_scale=out_scale,
        stream=stream,
    )
