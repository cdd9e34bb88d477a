"""Speed of embedding beside torch and the machine's copy rate:
python tests/python/embedding/bench_embedding.py"""

import aiter
import cases_embedding as cases
import numpy as np
from aiter.testing import bench, dtype_of


def main():
    torch = bench.torch_or_none()
    ceilings = {"GB/s": bench.copy_rate() / 1e9}
    print(f"{bench.machine()}; copy {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in cases.CASES if c.tag == "perf"):
        ids, table, scale = cases.make(case)
        out = np.empty((*ids.shape, case.hidden), dtype_of(case.out))
        functions = [lambda i=ids, t=table, s=scale, o=out: aiter.embedding(i, t, s, out=o)]
        if torch and scale is None:
            tids, ttable = torch.from_numpy(ids), bench.to_torch(torch, table)
            functions.append(lambda i=tids, t=ttable: torch.nn.functional.embedding(i, t))
        ours, *peers = bench.sample(*functions)
        read = ids.size * (
            case.hidden * table.itemsize + (scale[0].nbytes if scale is not None else 0)
        )
        bench.report(
            "embedding",
            case,
            ours,
            moved=read + out.nbytes,
            ceilings=ceilings,
            peers=dict(zip(["torch"], peers, strict=False)),
        )


if __name__ == "__main__":
    main()
