"""Sampling and top-k with AITER's signatures."""

from __future__ import annotations

import torch

import aiter as _aiter

__all__ = [
    "exponential",
    "greedy_sample",
    "mixed_sample",
    "mixed_sample_outer_exponential",
    "random_sample",
    "random_sample_outer_exponential",
    "top_k_per_row_decode",
    "top_k_per_row_decode_fast",
    "top_k_per_row_prefill",
    "top_k_per_row_prefill_fast",
    "top_k_renorm_probs",
    "top_k_top_p_sampling_from_probs",
    "top_p_sampling_from_probs",
    "topk",
    "topk_plain",
]


def _draw(device, generator=None):
    """The seed and offset of the next draw of a torch generator, which is moved on."""
    if device.type == "cuda":
        if generator is None:
            torch.cuda.init()
            generator = torch.cuda.default_generators[device.index or 0]
        offset = generator.get_offset()
        generator.set_offset(offset + 4)
        return {"seed": generator.initial_seed() % 2**64, "offset": offset}
    drawn = torch.randint(2**62, (), generator=generator, dtype=torch.int64, device="cpu")
    return {"seed": int(drawn), "offset": 0}


def greedy_sample(out, input):
    _aiter.greedy_sample(input, out=out)


def random_sample_outer_exponential(out, input, exponentials, temperatures, eps=1e-10):
    exponentials = exponentials.expand(input.shape)
    _aiter.random_sample_outer_exponential(input, exponentials, temperatures, eps=eps, out=out)


def random_sample(out, input, temperatures, lambd=1.0, generator=None, eps=1e-10):
    draw = _draw(input.device, generator)
    _aiter.random_sample(input, temperatures, lambd, eps=eps, **draw, out=out)


def mixed_sample_outer_exponential(out, input, exponentials, temperature, eps=1e-10):
    random_sample_outer_exponential(out, input, exponentials, temperature, eps)


def mixed_sample(out, input, temperature, lambd=1.0, generator=None, eps=1e-10):
    random_sample(out, input, temperature, lambd, generator, eps)


def exponential(out, lambd=1.0, generator=None, eps=1e-10):
    _aiter.exponential(out, lambd, eps=eps, **_draw(out.device, generator))


def top_k_renorm_probs(probs, maybe_top_k_arr, top_k_val):
    return _aiter.top_k_renorm_probs(probs, _either(maybe_top_k_arr, top_k_val))


def top_p_sampling_from_probs(probs, indices, maybe_top_p_arr, top_p_val, deterministic=False):
    return _aiter.top_p_sampling_from_probs(
        probs, indices, _either(maybe_top_p_arr, top_p_val), **_draw(probs.device)
    )


def top_k_top_p_sampling_from_probs(
    probs,
    indices,
    maybe_top_k_arr,
    top_k_val,
    maybe_top_p_arr,
    top_p_val,
    deterministic=False,
):
    top_k, top_p = _either(maybe_top_k_arr, top_k_val), _either(maybe_top_p_arr, top_p_val)
    return _aiter.top_k_top_p_sampling_from_probs(
        probs, indices, top_k, top_p, **_draw(probs.device)
    )


def _either(array, value):
    return value if array is None else array


def top_k_per_row_prefill(
    logits, rowStarts, rowEnds, indices, values, numRows, stride0, stride1, k=2048, stable=False
):
    """Of both orders that AITER has, `stable` or not, this is the stable one: by ascending index."""
    _aiter.top_k_per_row_prefill(
        logits.as_strided((numRows, logits.shape[-1]), (stride0, stride1)),
        rowStarts[:numRows],
        rowEnds[:numRows],
        k,
        values=None if values is None else values[:numRows, :k],
        out=indices[:numRows, :k],
    )


def top_k_per_row_decode(
    logits, next_n, seqLens, indices, numRows, stride0, stride1, k=2048, stable=False
):
    """See top_k_per_row_prefill."""
    _aiter.top_k_per_row_decode(
        logits.as_strided((numRows, logits.shape[-1]), (stride0, stride1)),
        next_n,
        seqLens.reshape(-1)[: numRows // next_n],
        k,
        out=indices[:numRows, :k],
    )


def top_k_per_row_prefill_fast(
    logits, rowStarts, rowEnds, indices, values, numRows, stride0, stride1
):
    top_k_per_row_prefill(logits, rowStarts, rowEnds, indices, values, numRows, stride0, stride1)


def top_k_per_row_decode_fast(logits, next_n, seqLens, indices, numRows, stride0, stride1):
    top_k_per_row_decode(logits, next_n, seqLens, indices, numRows, stride0, stride1)


def topk_plain(
    x,
    topk_ids,
    topk_out,
    topk,
    largest=True,
    rowStarts=None,
    rowEnds=None,
    stride0=-1,
    stride1=1,
):
    if stride0 >= 0:
        x = x.as_strided(x.shape, (stride0, stride1))
    if topk_out is None:
        topk_out = torch.empty_like(topk_ids, dtype=x.dtype)
    _aiter.topk(
        x, topk, -1, largest, row_starts=rowStarts, row_ends=rowEnds, out=(topk_out, topk_ids)
    )


def topk(x, k, *, dim=-1, largest=True, sorted=True, tiny_row_thresh=1024):
    return _aiter.topk(x, k, dim, largest, sorted)
