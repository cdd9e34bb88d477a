"""Problems and reference of renorm_probs; data of top_k_top_p_sampling's cases."""

import cases_top_k_top_p_sampling as sampling
import numpy as np

FILTERS = [f for f in sampling.FILTERS if f]


def _case(tag, **parameters):
    return sampling._case(tag, kind="probs", **{"batch": 10} | parameters)


CASES = [
    *(_case("smoke", dtype=d, **f) for d in sampling.DTYPES for f in FILTERS),
    *(_case("edge", vocab=v, batch=3, top_k=7, top_p=0.8)
      for v in (1, 2, 15, 16, 17, 63, 64, 65, 129, 2050)),
    *(_case("edge", values=v, **f) for v in ("ties", "special") for f in FILTERS),
    _case("edge"), _case("edge", batch=0), _case("edge", top_k=5000, top_p=1.0),
    *(_case("model", batch=b, vocab=151936, values="peaked", top_k=50, top_p=0.9, place="cpu")
      for b in (1, 2)),
    *(_case("perf", batch=b, vocab=151936, values="peaked", **f) for b in (1, 64)
      for f in ({"top_k": 50}, {"top_p": 0.9}, {"min_p": 0.05})),
]  # fmt: skip

make = sampling.make
options = sampling.options


def reference(probs, top_k=0, top_p=1.0, min_p=0.0, filter_apply_order="top_k_first"):
    """float64, but for the integer weights by which min_p and top_p keep or drop."""
    rows = []
    for x in probs.astype(np.float32):
        row = np.zeros(x.size)
        q = sampling.integer_weights(x, "probs", min_p, 1.0)
        if q is None:
            token = sampling.greedy(x)
            if token >= 0:
                row[token] = 1
            rows.append(row)
            continue
        x = x.astype(np.float64)
        kept = x > 0
        if min_p > 0:
            kept &= q > 0
        whole = int(q.sum())
        there = np.sort(x[~np.isnan(x)])
        if 0 < top_k < there.size:
            kept &= x >= there[-top_k]
        if top_p < 1:
            # As of the sampler: what top_k drops has no mass, where it comes first.
            mass = int(q[kept].sum()) if filter_apply_order == "top_k_first" else whole
            limit = max(1, int(np.ceil(float(np.float32(top_p)) * mass)))
            order = np.argsort(-np.where(kept, x, -1), kind="stable")
            q = np.where(kept, q, 0)
            above = np.zeros(x.size, np.int64)
            above[order] = np.cumsum(q[order]) - q[order]
            # Equal ones have the same mass above them: that of the first of them.
            for v in np.unique(x[kept]):
                above[x == v] = above[x == v].min()
            kept &= above < limit
        row[kept] = x[kept] / x[kept].sum()
        rows.append(row)
    return np.array(rows).reshape(probs.shape)
