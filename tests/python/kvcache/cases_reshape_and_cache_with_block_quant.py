"""Problems, data and reference of reshape_and_cache_with_block_quant, for its test and its bench."""

import numpy as np
import paged
from aiter.testing import Case, dtype_of
from paged import quant

SMALL = {"heads": 2, "head_dim": 32, "pages": 6, "block": 16}

# lengths: tokens of each sequence in the calls that follow each other.
CASES = [
    *(
        Case("smoke", lengths=((20, 3), (1, 1), (7, 30)), **SMALL, dtype="bf16", code=c, layout=la)
        for c in ("int8", "float8_e4m3fn")
        for la in ("flash", "vectorized", "asm")
    ),
    *(
        Case("edge", lengths=((20, 3), (1, 1)), **SMALL, dtype="fp32", code=c, layout="asm")
        for c in paged.CODES
    ),
    *(
        Case("edge", lengths=((40, 3), (1, 1), (30, 9)), heads=2, head_dim=32, pages=8, block=16,
             dtype="fp16", code=c, layout="asm", page_slots=64)
        for c in ("int8", "float8_e4m3fnuz")
    ),
    *(
        Case("edge", lengths=((9, 3), (1, 1), (4, 0)), heads=h, head_dim=d, v_dim=5, pages=40, block=b,
             dtype="bf16", code="int8")
        for h, d, b in ((1, 1, 1), (3, 17, 5), (5, 70, 3))
    ),
    *(
        Case("edge", lengths=((20, 3), (5, 2)), **SMALL, dtype="fp32", code="int8", values=v)
        for v in ("zeros", "special", "huge")
    ),
    *(
        Case("edge", lengths=((20, 3), (5, 2)), **SMALL, dtype="bf16", code="int8", slots=s)
        for s in ("int32", "skip", "shuffled", "twice")
    ),
    Case("edge", lengths=((0, 0),), **SMALL, dtype="bf16", code="int8"),
    Case("model", lengths=((130, 4), (1, 1)), heads=2, head_dim=128, pages=32, block=16, dtype="bf16",
         code="float8_e4m3fn", layout="asm", page_slots=128),
    Case("perf", lengths=((8192,),), heads=8, head_dim=128, pages=512, block=16, dtype="bf16",
         code="float8_e4m3fn", layout="asm"),
    Case("perf", lengths=((8192,),), heads=8, head_dim=128, pages=512, block=16, dtype="bf16",
         code="float8_e4m3fn", layout="asm", page_slots=128),
]  # fmt: skip


def make(case, seed=0):
    """(caches and scales, by name; the calls: key, value, slot_mapping of each)."""
    rng = np.random.default_rng(seed)
    heads, v_dim = case.heads, case.get("v_dim", case.head_dim)
    dtype, code, layout = dtype_of(case.dtype), dtype_of(case.code), case.get("layout", "flash")
    block = case.block
    page_slots = case.get("page_slots", block)
    scaled = case.pages * block // page_slots
    caches = paged.shapes(layout, case.pages, block, heads, case.head_dim, v_dim, 1)
    state = {
        "key_cache": paged.filled(rng, caches[0], code),
        "value_cache": paged.filled(rng, caches[1], code),
        "k_scale": rng.random((heads, scaled)).astype(np.float32),
        "v_scale": rng.random((scaled, heads)).astype(np.float32).T,
    }
    # Sequence i gets whole scaled pages, in any order.
    order = rng.permutation(scaled)
    sequences = len(case.lengths[0])
    per_sequence = scaled // max(sequences, 1)
    done = [0] * sequences
    calls = []
    for n, lengths in enumerate(case.lengths):
        slots = []
        for i, length in enumerate(lengths):
            at = np.arange(done[i], done[i] + length)
            pages = order[i * per_sequence + at // page_slots]
            slots.append(pages * page_slots + at % page_slots)
            done[i] += length
        slots = np.concatenate(slots) if slots else np.zeros(0, np.int64)
        tokens = len(slots)
        kind = case.get("slots")
        if kind == "shuffled":
            slots = rng.permutation(slots)
        if kind == "twice":
            slots[-1] = slots[0]
        if kind == "skip":
            slots[1::3] = -1
        # Each call has larger numbers than the one before, in some heads.
        growth = np.where(rng.random((1, heads, 1)) < 0.6, 2.0**n, 1.0)
        key = (rng.standard_normal((tokens, heads, case.head_dim)) * growth).astype(dtype)
        value = (rng.standard_normal((tokens, heads, v_dim)) * growth).astype(dtype)
        match case.get("values"):
            case "zeros":
                key[...] = 0
            case "special":
                key[0, 0, 3], key[1, 1, 5], key[2, 0, 7] = np.inf, -np.inf, np.nan
            case "huge":
                key *= dtype.type(1e37)
        slots = slots.astype(np.int32 if kind == "int32" else np.int64)
        calls.append((key, value, slots))
    return state, calls


def reference(state, key, value, slot_mapping, code, layout="flash", page_slots=None):
    """The caches and scales after a call, as copies, from the contract in
    include/aiter/kvcache.h."""
    f32 = np.float32
    state = {name: array.copy() for name, array in state.items()}
    pages = {}
    for token, slot in enumerate(slot_mapping):
        if slot >= 0:
            page, at = divmod(int(slot), page_slots)
            pages.setdefault(page, {})[at] = token
    for which, rows in (("key", key), ("value", value)):
        cache, scales = state[f"{which}_cache"], state[f"{which[0]}_scale"]
        for page, tokens in pages.items():
            for head in range(rows.shape[1]):
                v = np.abs(rows[list(tokens.values()), head].astype(f32))
                amax = min(v[~np.isnan(v)].max(initial=f32(0)), quant.FLOAT_MAX)
                scale = f32(max(amax, f32(1e-6))) / f32(quant.MAX[code])
                old = scales[head, page]
                if 0 in tokens:
                    old = scale
                shrink = old / scale
                raised = not old >= scale
                if not raised:
                    scale = old
                scales[head, page] = scale
                factor = f32(1) / scale
                for at in range(page_slots):
                    slot = page * page_slots + at
                    row = paged.read(cache, layout, which, slot)
                    with np.errstate(invalid="ignore", over="ignore"):
                        if at in tokens:
                            numbers = rows[tokens[at], head].astype(f32) * factor
                        elif raised:
                            numbers = row[head].astype(f32) * shrink
                        else:
                            continue
                        row[head] = quant.encode(numbers, code)
                    paged.write(cache, layout, which, slot, row)
    return state
