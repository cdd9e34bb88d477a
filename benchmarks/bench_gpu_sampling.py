"""Sampling and top-k on a GPU beside torch and the read rate: python benchmarks/bench_gpu_sampling.py

Timed as in bench_gpu.py. GB/s count one read of the input (and one write of what is as large).
"""

import aiter
import torch
from bench_gpu import copies, copy_rate, measure, report


def randn(*shape, dtype=torch.float32):
    return torch.randn(shape, device="cuda", dtype=dtype)


def in_torch(x):
    p = torch.softmax(x, -1, dtype=torch.float32)
    return p.div_(torch.empty_like(p).exponential_(1)).argmax(-1)


def of_top_k(x):
    best, index = torch.topk(x, 50)
    return index.gather(1, torch.multinomial(torch.softmax(best.float(), -1), 1))


def of_top_p(x):
    p, index = torch.sort(torch.softmax(x, -1, dtype=torch.float32), -1, descending=True)
    p[p.cumsum(-1) - p > 0.9] = 0
    return index.gather(1, torch.multinomial(p, 1))


def main():
    copy = copy_rate()
    print(f"{torch.cuda.get_device_name()}; copy {copy / 1e9:.0f} GB/s; torch {torch.__version__}")

    for dtype in (torch.bfloat16, torch.float32):
        for vocab in (129280, 151936):
            for batch in (1, 64, 512):
                shape = batch, vocab
                size = batch * vocab * dtype.itemsize
                sets = copies(lambda s=shape, d=dtype: (2 * randn(*s, dtype=d),), size)
                out = torch.empty(batch, device="cuda", dtype=torch.int32)
                named = (*shape, str(dtype)[6:])

                def ours(name, function, sets=sets, size=size, named=named, peer=None):
                    peers = {"torch": measure(peer, sets, 4)} if peer else {}
                    report(name, named, size, measure(function, sets), copy, **peers)

                ours("greedy_sample", lambda x, o=out: aiter.greedy_sample(x, out=o),
                     peer=lambda x: torch.argmax(x, -1))  # fmt: skip
                ours("random_sample", lambda x, o=out: aiter.random_sample(x, seed=1, out=o),
                     peer=in_torch)  # fmt: skip
                for filters in ({}, {"top_k": 50}, {"top_p": 0.9}, {"top_k": 50, "top_p": 0.9}):
                    ours(
                        "sampling " + " ".join(filters),
                        lambda x, f=filters, o=out: aiter.top_k_top_p_sampling_from_logits(
                            x, **f, seed=1, out=o
                        ),
                        peer=of_top_k if "top_k" in filters else of_top_p if filters else None,
                    )
                ours("topk 50", lambda x: aiter.topk(x, 50), peer=lambda x: torch.topk(x, 50))

    for batch in (1, 64, 512):
        shape = batch, 151936
        sets = copies(
            lambda s=shape: (torch.softmax(2 * randn(*s), -1), randn(*s)), 8 * batch * 151936
        )
        for filters in ({"top_k": 50}, {"top_p": 0.9}, {"min_p": 0.05}):
            time = measure(
                lambda p, o, f=filters: aiter.top_k_top_p_renorm_probs(p, **f, out=o), sets
            )
            report("renorm " + " ".join(filters), shape, 8 * batch * 151936, time, copy)
        time = measure(lambda p, o: aiter.exponential(o, seed=1), sets)
        peer = measure(lambda p, o: o.exponential_(), sets)
        report("exponential", shape, 4 * batch * 151936, time, copy, torch=peer)

    for rows in (1, 16, 64, 1024):
        for length in (4096, 32768, 128000):
            lengths = torch.full((rows,), length, device="cuda", dtype=torch.int32)
            out = torch.empty(rows, 2048, device="cuda", dtype=torch.int32)
            sets = copies(lambda r=rows, n=length: (randn(r, n),), 4 * rows * length)
            time = measure(
                lambda x, n=lengths, o=out: aiter.top_k_per_row_decode(x, 1, n, out=o), sets
            )
            peer = measure(lambda x: torch.topk(x, 2048, sorted=False), sets)
            report(
                "top_k_per_row_decode", (rows, length), 4 * rows * length, time, copy, torch=peer
            )


if __name__ == "__main__":
    main()
