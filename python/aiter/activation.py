"""Gated activations, and their gradients.

All are one C operator, `aiter_act_and_mul`, with another activation; `act_and_mul` takes its name.
"""

from __future__ import annotations

from . import _aiter

__all__ = [
    "act_and_mul",
    "act_and_mul_backward",
    "gelu_and_mul",
    "gelu_and_mul_bias",
    "gelu_tanh_and_mul",
    "silu_and_mul",
    "silu_and_mul_bias",
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
    out: ArrayT | None = None,
    stream: Stream = None,
) -> ArrayT:
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
    out: (..., d), may be either half of x, unless that is interleaved.
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
        out,
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
