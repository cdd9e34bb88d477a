"""Attention in float64, from the contract in include/aiter/attention.h, and bounds on the error."""

import numpy as np


def attention(
    q, k, v, scale=None, soft_cap=0.0, causal=False, window=(-1, -1), sink_tokens=0, sink=None
):
    """One sequence: q (Sq, Hq, D), k (Sk, Hkv, D), v (Sk, Hkv, Dv), float64.

    Returns out (Sq, Hq, Dv), lse (Hq, Sq), and for error bounds: sum_j w_j |v_j| like out, and the
    largest |score| of each row like lse.
    """
    (seqlen_q, heads, head_dim), (seqlen_k, kv_heads, v_dim) = q.shape, v.shape
    scale = (1 / np.sqrt(head_dim) if head_dim else 1.0) if scale is None else scale
    position = np.arange(seqlen_q)[:, None] + seqlen_k - seqlen_q
    key = np.arange(seqlen_k)[None, :]
    visible = np.ones((seqlen_q, seqlen_k), bool)
    left, right = window
    if causal:
        right = 0
    if left >= 0:
        visible &= (key >= position - left) | (key < sink_tokens)
    if right >= 0:
        visible &= key <= position + right

    out = np.zeros((seqlen_q, heads, v_dim))
    size = np.zeros_like(out)
    lse = np.full((heads, seqlen_q), -np.inf)
    largest = np.zeros_like(lse)
    for h in range(heads):
        g = h // (heads // kv_heads)
        s = q[:, h] @ k[:, g].T * scale
        if soft_cap:
            s = soft_cap * np.tanh(s / soft_cap)
        s = np.where(visible, s, -np.inf)
        top = s.max(axis=1, initial=-np.inf if sink is None else sink[h], keepdims=True)
        weight = np.exp(s - np.where(np.isfinite(top), top, 0))
        z = weight.sum(axis=1, keepdims=True)
        if sink is not None:
            z = z + np.exp(sink[h] - top)
        share = np.divide(weight, z, out=np.zeros_like(weight), where=z > 0)
        out[:, h] = share @ v[:, g]
        size[:, h] = share @ np.abs(v[:, g])
        with np.errstate(divide="ignore"):
            lse[h] = (np.where(np.isfinite(top), top, 0) + np.log(z))[:, 0]
        largest[h] = np.abs(np.where(visible, s, 0)).max(axis=1, initial=0)
    return out, lse, size, largest


def terms(head_dim, seqlen_k, largest):
    """Length of the f32 reductions behind an output.

    The weights' relative error is the scores' absolute one: the roundings of head_dim products,
    as large as the scores themselves.
    """
    return (head_dim + seqlen_k) * (1 + float(np.max(largest, initial=0))) ** 2
