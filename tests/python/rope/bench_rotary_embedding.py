"""Speed of rotary_embedding_fwd beside torch and the machine's copy rate:
python tests/python/rope/bench_rotary_embedding.py"""

import aiter
import cases_rotary_embedding as cases
import numpy as np
from aiter.testing import bench


def in_torch(torch, x, cos, sin, style):
    """The usual composition, as in Hugging Face's Llama (neox) and GPT-J."""
    if style == "neox":
        a, b = x.chunk(2, dim=-1)
        rotated, cos, sin = (
            torch.cat((-b, a), -1),
            torch.cat((cos, cos), -1),
            torch.cat((sin, sin), -1),
        )
    else:
        rotated = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
        cos, sin = cos.repeat_interleave(2, -1), sin.repeat_interleave(2, -1)
    return x * cos + rotated * sin


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        positions, query, key, cos, sin = cases.make(case)
        neox = case.style == "neox"
        fresh = np.empty_like(query), np.empty_like(key)
        peers = {}
        if torch:
            tq, tk, tcos, tsin = (bench.to_torch(torch, a) for a in (query, key, cos, sin))
            at = torch.from_numpy(positions)

            def peer(tq=tq, tk=tk, tcos=tcos, tsin=tsin, at=at, style=case.style):
                c, s = tcos[at][:, None], tsin[at][:, None]
                return in_torch(torch, tq, c, s, style), in_torch(torch, tk, c, s, style)

            peers["torch"] = peer
        # In place call after call: by no angle, as rounding would end in denormals and infinity.
        still = np.ones_like(cos), np.zeros_like(sin)
        for name, out, table in (("", fresh, (cos, sin)), (" in place", (query, key), still)):

            def ours(out=out, q=query, k=key, table=table):
                return aiter.rotary_embedding_fwd(positions, q, k, 0, *table, neox, out=out)

            seconds, *others = bench.sample(ours, *peers.values())
            bench.report(
                "rotary_embedding" + name,
                case,
                seconds,
                moved=2 * (query.nbytes + key.nbytes),
                ceilings=ceilings,
                peers=dict(zip(peers, others, strict=True)),
            )


if __name__ == "__main__":
    main()
