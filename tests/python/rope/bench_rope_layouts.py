"""Speed of the rope_* functions beside torch and the machine's copy rate:
python tests/python/rope/bench_rope_layouts.py"""

import aiter
import numpy as np
from aiter.testing import bench, dtype_of

S, B, HEADS, KV_HEADS, SIZE = 4096, 2, 32, 8, 128


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    rng = np.random.default_rng(0)
    angles = np.outer(np.arange(S), 10000.0 ** (-np.arange(SIZE // 2) / (SIZE // 2)))
    freqs = angles.astype(np.float32)[:, None, None, :]
    cos, sin = np.cos(freqs), np.sin(freqs)
    positions = rng.integers(0, S, (S, B))
    lengths = rng.multinomial(S * B, np.full(16, 1 / 16))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    image = cos[:64, :, :, ::2].reshape(1, 64, 1, -1), sin[:64, :, :, ::2].reshape(1, 64, 1, -1)
    for dtype in ("bf16", "fp32"):
        x, y = (
            rng.standard_normal((S, B, h, SIZE), np.float32).astype(dtype_of(dtype))
            for h in (HEADS, KV_HEADS)
        )
        out = np.empty_like(x), np.empty_like(y)
        options = (0, True, False)
        packed, packed_out = (a.reshape(S * B, HEADS, SIZE) for a in (x, out[0]))
        images, images_out = (a.reshape(B, S, HEADS, SIZE) for a in (x, out[0]))
        calls = {
            "rope_2c_fwd": (x, y, freqs, *options),
            "rope_cached_2c_fwd": (x, y, cos, sin, *options),
            "rope_cached_2c_bwd": (x, y, cos, sin, *options),
            "rope_cached_positions_2c_fwd": (x, y, cos, sin, positions, *options),
            "rope_thd_fwd": (packed, bounds, freqs, *options),
            "rope_2d_fwd": (images, *image, *image, 64, 64, *options),
        }
        peer = None
        if torch:
            tx, ty, tf = (bench.to_torch(torch, a) for a in (x, y, freqs))

            def peer(tx=tx, ty=ty, tf=tf):
                f = torch.cat((tf, tf), -1)
                c, s = f.cos().to(tx.dtype), f.sin().to(tx.dtype)

                def turn(t):
                    a, b = t.chunk(2, -1)
                    return t * c + torch.cat((-b, a), -1) * s

                return turn(tx), turn(ty)

        for name, arguments in calls.items():
            two = "_2c" in name
            to = out if two else packed_out if name == "rope_thd_fwd" else images_out

            def ours(name=name, arguments=arguments, to=to):
                getattr(aiter, name)(*arguments, out=to)

            compared = peer and name == "rope_2c_fwd"
            seconds, *others = bench.sample(ours, *([peer] if compared else []))
            bench.report(
                name,
                dtype,
                seconds,
                moved=2 * (x.nbytes + (y.nbytes if two else 0)),
                ceilings=ceilings,
                peers={"torch": others[0]} if compared else {},
            )


if __name__ == "__main__":
    main()
