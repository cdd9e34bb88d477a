"""Operators that write and read paged caches on a GPU, fused ones beside the operators one after the
other: python benchmarks/bench_gpu_cache.py"""

import argparse
import functools
import re
import statistics

import aiter
import torch
from bench_gpu import copy_rate, measure, report

bf16, HEADS, Q_HEADS, DIM, BLOCK, LATENT, ROPE = torch.bfloat16, 8, 32, 128, 16, 512, 64
X = 8  # numbers of 16 bytes


def randn(*shape):
    return torch.randn(shape, device="cuda", dtype=bf16)


def empty(*shape, dtype=bf16):
    return torch.empty(shape, device="cuda", dtype=dtype)


def problems(tokens):
    """name: (bytes of memory that are needed, call, the same in several calls or None)"""
    pages = -(-tokens // BLOCK)
    q, k, v = randn(tokens, Q_HEADS, DIM), randn(tokens, HEADS, DIM), randn(tokens, HEADS, DIM)
    q_out, k_out = torch.empty_like(q), torch.empty_like(k)
    slots = torch.randperm(pages * BLOCK, device="cuda")[:tokens]
    in_order = torch.arange(tokens, device="cuda")
    flash = [empty(pages, BLOCK, HEADS, DIM) for _ in range(2)]
    tiles = empty(pages, HEADS, DIM // X, BLOCK, X), empty(pages, HEADS, BLOCK // X, DIM, X)
    codes = [empty(*c.shape, dtype=torch.uint8) for c in flash]
    code_tiles = [
        empty(pages, HEADS, DIM // 16, BLOCK, 16, dtype=torch.uint8),
        empty(pages, HEADS, 1, DIM, 16, dtype=torch.uint8),
    ]
    scales = [empty(HEADS, pages * BLOCK, dtype=torch.float32) for _ in range(2)]
    page_scales = [empty(HEADS, pages, dtype=torch.float32).fill_(1) for _ in range(2)]
    w, one = randn(DIM), torch.ones(1, device="cuda")
    table, positions = randn(4096, DIM), torch.arange(tokens, device="cuda") % 4096
    cos, sin = table.chunk(2, -1)
    kv_c, k_pe, mla = randn(tokens, LATENT), randn(tokens, ROPE), empty(pages, BLOCK, LATENT + ROPE)
    slots_of_128 = -(-tokens // 128)
    nvfp4 = empty(slots_of_128, 1, 128, (LATENT + ROPE) // 16 * 9, dtype=torch.uint8)
    indexer = empty(pages, BLOCK, DIM + 4, dtype=torch.uint8)
    block_table = torch.arange(pages, device="cuda", dtype=torch.int32).view(1, -1)
    lengths = torch.tensor([0, tokens], device="cuda", dtype=torch.int32)
    index_out = empty(tokens, DIM, dtype=torch.uint8), empty(tokens, 1, dtype=torch.float32)
    absorbed, q_pe = randn(tokens, Q_HEADS, LATENT), randn(tokens, Q_HEADS, ROPE)
    q_mla = empty(tokens, Q_HEADS, LATENT + ROPE)
    mla_cos, mla_sin = randn(4096, ROPE // 2), randn(4096, ROPE // 2)
    write, row = 2 * (k.nbytes + v.nbytes), kv_c.nbytes + k_pe.nbytes
    fp8 = "float8_e4m3fn"
    norm_rope = functools.partial(
        aiter.fused_qk_norm_rope, q, k, None, w, w, cos, sin, positions, out=(q_out, k_out)
    )
    into = functools.partial(
        aiter.fused_qk_norm_rope_cache_quant_shuffle, q, k, v, 1e-6, w, w, table, True, positions,
        out=(q_out, k_out),
    )  # fmt: skip

    def after(function, *arguments):
        return lambda: (norm_rope(), function(k_out, v, *arguments))

    # DeepSeek V4: heads of 512 dims of which the last 64 turn; q stays as it is, kv gets codes.
    kv, gain = kv_c, randn(LATENT)
    gain32 = gain.float()
    coded, window = absorbed[:, :8], max(tokens // 4, 1)
    group_quant = functools.partial(
        aiter.fused_qk_norm_rope_group_quant, coded, kv, gain, positions, mla_cos, mla_sin, 1e-6,
        q_weight=gain,
    )  # fmt: skip
    results, turned = group_quant(), (torch.empty_like(coded), torch.empty_like(kv)[:, None])
    kv_codes = empty(tokens, LATENT, dtype=torch.uint8), empty(tokens, 8, dtype=torch.float32)

    def group_quant_apart():
        aiter.fused_qk_norm_rope(
            coded, kv[:, None], None, gain, gain, mla_cos, mla_sin, positions, is_neox=False,
            is_nope_first=True, out=turned,
        )  # fmt: skip
        aiter.per_group_quant(turned[1][:, 0], fp8, 64, out=kv_codes[0], out_scale=kv_codes[1])

    # Means of four lines, weighted by their scores, in a cache of their own.
    scores, states = randn(tokens, LATENT), empty(1, 4, LATENT, dtype=torch.float32).zero_()
    last = torch.arange(3, max(tokens, 4), 4, device="cuda", dtype=torch.int32)[:window]
    plan = torch.stack([last.clamp(max=tokens - 1), 0 * last, last, 0 * last], 1).contiguous()
    lines, no_state = empty(-(-window // 64), 64, LATENT), last[:1] * 0
    lines_table = torch.arange(len(lines), device="cuda", dtype=torch.int32).view(1, -1)
    ape = empty(4, LATENT, dtype=torch.float32).zero_()

    return {
        "flash": (write, lambda: aiter.reshape_and_cache_flash(k, v, *flash, slots), None),
        "tiles": (write, lambda: aiter.reshape_and_cache(k, v, *tiles, in_order), None),
        "tiles, slots mixed": (write, lambda: aiter.reshape_and_cache(k, v, *tiles, slots), None),
        "flash fp8": (
            0.75 * write,
            lambda: aiter.reshape_and_cache_flash(k, v, *codes, slots, fp8, one, one),
            None,
        ),
        "tiles fp8 per token": (
            0.75 * write,
            lambda: aiter.reshape_and_cache_with_pertoken_quant(
                k, v, *code_tiles, *scales, in_order, cache_dtype=fp8
            ),
            None,
        ),
        "tiles fp8 per page": (
            0.75 * write,
            lambda: aiter.reshape_and_cache_with_block_quant(
                k, v, *code_tiles, *page_scales, in_order, cache_dtype=fp8
            ),
            None,
        ),
        "mla": (2 * row, lambda: aiter.concat_and_cache_mla(kv_c, k_pe, mla, slots), None),
        "mla nvfp4": (
            row * 1.28125,
            lambda: aiter.cat_and_cache_mla(
                kv_c[:, None], k_pe[:, None], nvfp4, slots, one, True, True,
                cache_dtype="float4_e2m1fnx2",
            ),
            None,
        ),
        "indexer": (
            1.5 * k[:, 0].nbytes,
            lambda: aiter.indexer_k_quant_and_cache(k[:, 0], indexer, slots),
            None,
        ),
        "indexer, gathered": (
            k[:, 0].nbytes,
            lambda: aiter.cp_gather_indexer_k_quant_cache(
                indexer, block_table, lengths, tokens, out=index_out
            ),
            None,
        ),
        "gather_cache": (
            write,
            lambda: aiter.gather_cache(*flash, block_table, lengths, tokens, out=(k_out, k)),
            None,
        ),
        "norm + rope": (2 * (q.nbytes + k.nbytes), norm_rope, None),
        "norm + rope + cache": (
            2 * q.nbytes + k.nbytes + write,
            lambda: into(*tiles, in_order),
            after(aiter.reshape_and_cache, *tiles, in_order),
        ),
        "... fp8 per token": (
            2 * q.nbytes + k.nbytes + 0.75 * write,
            lambda: into(*code_tiles, in_order, fp8, *scales),
            after(
                functools.partial(aiter.reshape_and_cache_with_pertoken_quant, cache_dtype=fp8),
                *code_tiles, *scales, in_order,
            ),
        ),
        "rope + mla cache": (
            2 * (absorbed.nbytes + q_pe.nbytes + row),
            lambda: aiter.fused_qk_rope_concat_and_cache_mla(
                absorbed, q_pe, kv_c, k_pe, mla, slots, positions, mla_cos, mla_sin, q_out=q_mla
            ),
            None,
        ),
        "norm + rope + groups": (
            2 * coded.nbytes + 1.5 * kv.nbytes,
            lambda: group_quant(out=results),
            group_quant_apart,
        ),
        "compress": (
            2 * kv.nbytes + lines.nbytes,
            lambda: aiter.fused_compress_attn(
                kv, scores, states, states, plan, no_state, ape, gain32, 1e-6, mla_cos,
                mla_sin, lines, lines_table, False, 4,
            ),
            None,
        ),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="a regular expression of names")
    parser.add_argument("--tokens", type=int, nargs="*", default=[1, 64, 32768])
    options = parser.parse_args()
    copy = statistics.median(copy_rate() for _ in range(3))
    print(f"{torch.cuda.get_device_name()}; copy {copy / 1e9:.0f} GB/s")
    for tokens in options.tokens:
        for name, (moved, ours, apart) in problems(tokens).items():
            if not re.search(options.only, name):
                continue
            try:
                peers = {"apart": measure(apart, [()])} if apart else {}
                report(name, (tokens,), moved, measure(ours, [()]), copy, **peers)
            except Exception as e:  # the others are still of interest
                print(f"{name}: {type(e).__name__}: {e}")


if __name__ == "__main__":
    main()
