"""Problems, data and reference of fused_qk_rope_reshape_and_cache, for its test and its bench."""

import cases_reshape_and_cache as plain
import cases_reshape_and_cache_with_block_quant as paged_quant
import numpy as np
from aiter.testing import Case, dtype_of

EPS = 1e-5
SMALL = {"q_heads": 4, "heads": 2, "head_dim": 32, "pages": 3, "block": 16}

CASES = [
    *(
        Case("smoke", tokens=9, **SMALL, dtype=d, layout=layout, neox=neox)
        for d in ("bf16", "fp16", "fp32")
        for layout in ("flash", "vectorized", "asm")
        for neox in (True, False)
    ),
    *(
        Case("smoke", tokens=9, **SMALL, dtype="bf16", cache=c, layout="asm", scales=s)
        for c in ("float8_e4m3fn", "float8_e4m3fnuz", "int8")
        for s in ("none", "one", "heads")
    ),
    *(
        Case("edge", tokens=9, **SMALL, dtype="bf16", width=w, nope_first=n, neox=neox)
        for w in (1, 5, 8, 13)
        for n in (True, False)
        for neox in (True, False)
    ),
    *(Case("edge", tokens=9, **SMALL, dtype="bf16", tables=t) for t in ("fp32", "fp16")),
    *(Case("edge", tokens=9, **SMALL, dtype="bf16", slots=s) for s in ("int32", "skip", "short")),
    # Neighbouring slots, which are written together.
    *(
        Case("edge", tokens=40, **SMALL, dtype="bf16", layout=layout, slots="prefill", **c)
        for layout in ("flash", "vectorized", "asm")
        for c in ({}, {"cache": "float8_e4m3fn", "scales": "token"}, {"cache": "int8", "scales": "one"})
    ),
    Case("edge", tokens=9, **SMALL, dtype="bf16", key_out=True),
    Case("edge", tokens=9, **SMALL, dtype="bf16", v_dim=7),
    # With a norm, and with scales of tokens and of pages.
    *(
        Case("smoke", tokens=9, **SMALL, dtype=d, norm=n, neox=neox)
        for d, n in (("bf16", "plain"), ("fp16", "ones"), ("fp32", "gemma"), ("bf16", "fp32"))
        for neox in (True, False)
    ),
    *(
        Case("smoke", tokens=9, **SMALL, dtype=d, cache=c, layout=layout, scales=s, norm="plain")
        for d, c in (("bf16", "float8_e4m3fn"), ("fp16", "int8"), ("fp32", "float8_e4m3fnuz"))
        for layout in ("flash", "vectorized", "asm")
        for s in ("token", "pages", "page")
    ),
    *(
        Case("edge", tokens=9, **SMALL, dtype="bf16", cache=c, layout="asm", scales=s)
        for c in ("float8_e5m2", "float8_e5m2fnuz")
        for s in ("one", "token", "page")
    ),
    *(
        Case("edge", tokens=9, **SMALL, dtype="bf16", sections=(4, 6, 6), woven=w, norm="plain")
        for w in (False, True)
    ),
    *(
        Case("edge", tokens=9, **SMALL, dtype="bf16", full_width=True, width=w, neox=neox)
        for w in (16, 5)
        for neox in (True, False)
    ),
    *(
        Case("edge", tokens=5, q_heads=3, heads=1, head_dim=d, pages=2, block=4, dtype="bf16",
             norm="plain", cache="int8", scales="token", width=w)
        for d, w in ((1, 0), (7, 2), (24, 8), (40, 16), (130, 33), (512, 64))
    ),
    *(
        Case("edge", tokens=9, **SMALL, dtype="bf16", cache="float8_e4m3fn", scales=s, values=v)
        for s in ("one", "token", "page")
        for v in ("zeros", "special")
    ),
    Case("edge", tokens=60, **SMALL, dtype="bf16", slots="short", norm="plain", no_positions=True),
    Case("edge", tokens=9, **SMALL, dtype="fp32", width=0, norm="plain"),
    Case("edge", tokens=9, **SMALL, dtype="bf16", cache="float8_e4m3fn", scales="page", group=3),
    Case("edge", tokens=0, **SMALL, dtype="bf16"),
    Case("edge", tokens=0, **SMALL, dtype="bf16", cache="int8", scales="page"),
    Case("edge", tokens=3, q_heads=1, heads=1, head_dim=1024, pages=2, block=4, dtype="fp32"),
    Case("perf", tokens=8192, q_heads=32, heads=8, head_dim=128, pages=512, block=16, dtype="bf16"),
    Case("perf", tokens=8192, q_heads=32, heads=8, head_dim=128, pages=512, block=16, dtype="bf16",
         cache="float8_e4m3fn", scales="one"),
    *(
        Case("perf", tokens=8192, q_heads=32, heads=8, head_dim=128, pages=512, block=16,
             dtype="bf16", cache="float8_e4m3fn", layout="asm", scales=s, norm="plain")
        for s in ("one", "token", "page")
    ),
]  # fmt: skip


def make(case, seed=0):
    """The arguments of aiter.fused_qk_rope_reshape_and_cache, by name."""
    per_page = case.get("scales") == "page"
    base = Case(case.tag, **{**case, "scales": "none"}) if per_page else case
    arguments = plain.make(base, seed)
    arguments["quant"] = "token" if arguments.pop("quant", 0) else "static"
    rng = np.random.default_rng(seed + 1)
    dtype = dtype_of(case.dtype)
    if per_page:
        group = case.get("group", 1)
        for name in ("k_scale", "v_scale"):
            scales = rng.random((case.pages // group, case.heads)).astype(np.float32)
            arguments[name] = scales.T
        arguments |= {"quant": "page", "page_slots": group * case.block}
    width = case.get("width", case.head_dim // 2)
    rows = 50
    if width:
        angles = rng.random((rows, width * (2 if case.get("full_width") else 1))) * 6
        tables = dtype_of(case.get("tables", case.dtype))
        shape = (3, case.tokens) if "sections" in case else (case.tokens,)
        arguments |= {
            "pos": rng.integers(0, rows, shape).astype(
                np.int32 if case.get("slots") == "int32" else np.int64
            ),
            "cos": np.cos(angles).astype(tables),
            "sin": np.sin(angles).astype(tables),
        }
    else:
        arguments |= {"pos": None, "cos": None, "sin": None}
    if case.get("no_positions"):
        arguments["pos"] = None
    if "sections" in case:
        arguments |= {"mrope_section": case.sections, "mrope_interleaved": case.woven}
    if case.get("full_width"):
        arguments["reuse_freqs_front_part"] = False
    if "norm" in case:
        arguments |= {"eps": EPS, "gemma_norm": case.norm == "gemma"}
        if case.norm != "ones":
            kind = np.float32 if case.norm == "fp32" else dtype
            for name in ("q_weight", "k_weight"):
                arguments[name] = rng.standard_normal(case.head_dim).astype(kind)
    return arguments | {
        "q": rng.standard_normal((case.tokens, case.q_heads, case.head_dim)).astype(dtype),
        "is_neox": case.get("neox", True),
        "nope_first": case.get("nope_first", False),
    }


def turned(x, pos, cos, sin, is_neox, nope_first, sections=None, woven=False, full_width=False):
    """Heads turned, in float64, and the magnitude of what each element is a sum of."""
    out = x.astype(np.float64)
    if cos is None:
        return out, np.abs(out)
    width = cos.shape[1] // (2 if full_width else 1)
    first = x.shape[-1] - 2 * width if nope_first else 0
    i = np.arange(width) + first if is_neox else np.arange(0, 2 * width, 2) + first
    j = i + width if is_neox else i + 1
    # Columns of the tables for the two of a pair, and the row of each pair.
    of_i = i - first if full_width else np.arange(width)
    of_j = j - first if full_width else of_i
    if pos is None:
        pos = np.arange(len(x)) % len(cos)
    rows = np.broadcast_to(pos[..., None], (len(x), width)) if pos.ndim == 1 else None
    if rows is None:
        axis = np.repeat([0, 1, 2], sections)
        if woven:
            axis = np.zeros(width, int)
            axis[1 : 3 * sections[1] : 3] = 1
            axis[2 : 3 * sections[2] : 3] = 2
        rows = pos[axis].T
    cos, sin = cos.astype(np.float64), sin.astype(np.float64)
    c_i, s_i, c_j, s_j = (
        table[rows, columns][:, None] for columns in (of_i, of_j) for table in (cos, sin)
    )
    scale = np.abs(out)
    a, b = out[..., i].copy(), out[..., j].copy()
    out[..., i], out[..., j] = a * c_i - b * s_i, b * c_j + a * s_j
    scale[..., i] = scale[..., j] = np.abs(a) + np.abs(b)
    return out, scale


def normalized(x, weight, eps, gemma):
    """Heads after their norm, in float64."""
    x = x.astype(np.float64)
    if eps is None:
        return x
    x = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps)
    return x if weight is None else x * (weight.astype(np.float64) + gemma)


def reference(q, key, pos, cos, sin, is_neox, nope_first, q_weight=None, k_weight=None, eps=None,
              gemma_norm=False, mrope_section=None, mrope_interleaved=False,
              reuse_freqs_front_part=True, **others):  # fmt: skip
    """(result, magnitude) of q and of key; the caches are plain.reference of that key."""
    rope = pos, cos, sin, is_neox, nope_first, mrope_section, mrope_interleaved
    return [
        turned(normalized(x, w, eps, gemma_norm), *rope, not reuse_freqs_front_part)
        for x, w in ((q, q_weight), (key, k_weight))
    ]


def cache_reference(case, arguments, key):
    """The caches and scales after the call, as copies, when `key` is what goes there."""
    names = ("value", "key_cache", "value_cache", "slot_mapping", "k_scale", "v_scale")
    writing = {n: arguments[n] for n in names if n in arguments}
    layout = case.get("layout", "flash")
    if arguments["quant"] == "page":
        value, slots = writing.pop("value"), writing.pop("slot_mapping")
        code = str(writing["key_cache"].dtype)
        return paged_quant.reference(
            writing, key, value, slots, code, layout, arguments["page_slots"]
        )
    results = plain.reference(
        key=key, **writing, quant=int(arguments["quant"] == "token"), layout=layout
    )
    return dict(zip(("key_cache", "value_cache", "k_scale", "v_scale"), results, strict=True))
