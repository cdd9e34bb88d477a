"""AMD's own code objects: out of the wheel amd-aiter 0.1.7.post2.dev18, unpacked, never installed."""

import ctypes
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from aiter.emulator import device

pytestmark = pytest.mark.skipif(
    device.library_path() is None, reason="libaiter_gfxemu.so is not built"
)

WHEEL = "amd_aiter-0.1.7.post2.dev18-py3-none-any.whl"
SHA256 = "fe139d74438217c35e87e3b961166bac8db2d381eadccb371da2e63615f05a31"


def fetch():
    """The verified wheel, or None with a reason. AITER_TEST_CACHE keeps it between runs."""
    root = Path(
        os.environ.get("AITER_TEST_CACHE") or Path(tempfile.gettempdir()) / "aiter-gfxemu-tests"
    )
    root.mkdir(parents=True, exist_ok=True)
    path = root / WHEEL
    if not path.exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary=:none:",
            "-d",
            str(root),
            "amd-aiter==0.1.7.post2.dev18",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except (OSError, subprocess.TimeoutExpired) as e:
            return None, str(e)
        if done.returncode or not path.exists():
            return None, (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == SHA256, f"{path} has sha256 {digest}, expected {SHA256}"
    return path, None


def unpack(path):
    with zipfile.ZipFile(path) as z:
        return {n.split("aiter_meta/hsa/")[1]: z.read(n) for n in z.namelist() if n.endswith(".co")}


@pytest.fixture(scope="session")
def blobs():
    path, why = fetch()
    if path is None:
        pytest.skip(f"amd-aiter's wheel cannot be fetched: {why}")
    return unpack(path)


def executable(image):
    """(file offset, size) of the code, from the program headers."""
    import struct

    (phoff,) = struct.unpack_from("<Q", image, 32)
    (count,) = struct.unpack_from("<H", image, 56)
    for i in range(count):
        kind, flags, offset, _, _, size = struct.unpack_from("<IIQQQQ", image, phoff + 56 * i)
        if kind == 1 and flags & 1:
            return offset, size
    raise AssertionError("no code")


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_all_decode(blobs, arch):
    lib = device.lib()
    unknown, instructions = {}, 0
    names = [n for n in blobs if n.startswith(arch + "/")]
    assert len(names) > 1000
    for name in names:
        image = blobs[name]
        text = lib.aiter_gfxemu_sweep(arch.encode(), image, ctypes.c_size_t(len(image)))
        result = json.loads(text)
        instructions += result["instructions"]
        for entry in result["unknown"]:
            unknown.setdefault(entry, name)
    assert instructions > 1_000_000
    assert not unknown, f"{len(unknown)} unknown: " + str(dict(list(unknown.items())[:20]))


# ---- blobs that run, with their arguments laid out as AITER's host code lays them out ----


def slots(*values):
    """Arguments in slots of 16 bytes: buffers and integers of 64 bits, 32-bit integers and floats."""
    import struct

    out = b""
    for v in values:
        if isinstance(v, device.Buffer):
            out += struct.pack("<QQ", v.address, 0)
        elif v is None:
            out += bytes(16)
        elif isinstance(v, float):
            out += struct.pack("<f12x", v)
        else:
            out += struct.pack("<I12x", v)
    return out


def run(blobs, arch, path, kernel, grid, block, args):
    device.option(arch=arch)
    module = device.Module(blobs[f"{arch}/{path}"])
    module.launch(kernel, grid, block, raw=slots(*args))


def bf16(x):
    return x.astype(ml_dtypes.bfloat16)


def exact(x):
    return x.astype(np.float64)


@pytest.mark.parametrize("experts,topk", [(128, 6), (128, 8), (256, 6), (256, 8)])
@pytest.mark.parametrize("rows", [4, 12])
def test_topk_softmax(blobs, rows, experts, topk):
    tokens = 37
    x = np.random.default_rng(1).standard_normal((tokens, experts)).astype(np.float32)
    ids, weights, a = (
        device.Buffer(np.zeros((tokens, topk), np.int32)),
        device.Buffer(np.zeros((tokens, topk), np.float32)),
        device.Buffer(x),
    )
    name = f"topksoftmax_{rows}x{experts}x{topk}"
    run(
        blobs,
        "gfx942",
        f"topksoftmax/{name}.co",
        f"_ZN5aiter{len(name)}{name}E",
        (-(-tokens // rows), 1, 1),
        256,
        (ids, weights, a, tokens, experts, topk, 1, topk * 4),
    )
    p = np.exp(exact(x) - x.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    expect = np.argsort(-p, 1, kind="stable")[:, :topk]
    picked = np.take_along_axis(p, expect, 1)
    assert (ids.read() == expect).all()
    assert np.abs(weights.read() - picked / picked.sum(1, keepdims=True)).max() < 1e-5


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
@pytest.mark.parametrize("tile", [32, 48, 64, 96])
def test_bf16_gemm(blobs, arch, tile):
    m, n, k = tile + 5, 192, 256
    r = np.random.default_rng(2)
    a, b = bf16(r.standard_normal((m, k))), bf16(r.standard_normal((n, k)))
    out = device.Buffer(np.zeros((m, n), np.float32))
    name = f"bf16gemm_outf32_tn_{tile}x64_pf3"
    args = (
        out,
        None,
        device.Buffer(a),
        device.Buffer(b),
        1.0,
        0.0,
        0,
        0,
        n * 4,
        0,
        k * 2,
        0,
        k * 2,
        0,
        m,
        n,
        k,
        1,
    )
    run(
        blobs,
        arch,
        f"bf16gemm/{name}.co",
        f"_ZN5aiter{len(name)}{name}E",
        (-(-n // 64), -(-m // tile), 1),
        256,
        args,
    )
    expect = exact(a) @ exact(b).T
    assert np.abs(out.read() - expect).max() < 1e-5 * k


def attention(q, k, v, scale, causal=False):
    """(heads, queries, d), (heads, keys, d) in float64, and the log-sum-exp."""
    s = q @ k.transpose(0, 2, 1) * scale
    if causal:
        nq, nk = s.shape[1:]
        s = np.where(np.arange(nk)[None] <= np.arange(nq)[:, None] + nk - nq, s, -np.inf)
    m = s.max(-1, keepdims=True)
    p = np.exp(s - m)
    total = p.sum(-1, keepdims=True)
    return p / total @ v, (m + np.log(total))[..., 0]


FORWARD = [
    ("gfx942", "MI300/fwd_hd128_bf16_rtne.co", "fmha_fwd_hd128_bf16_rtne", False),
    ("gfx942", "MI300/fwd_hd128_bf16_causal_rtne.co", "fmha_fwd_hd128_bf16_causal_rtne", True),
    ("gfx942", "MI308/fwd_hd128_bf16_rtne.co", "fmha_fwd_hd128_bf16_rtne", False),
    ("gfx950", "fwd_hd128_bf16.co", "fmha_fwd_hd128_bf16", False),
    ("gfx950", "fwd_hd128_bf16_causal.co", "fmha_fwd_hd128_bf16_causal", True),
]


def attention_forward(blobs, arch, path, name, causal, q, k, v, scale):
    """The launch as a function, and the buffers of its results."""
    length, heads, d = q.shape
    kv_heads = k.shape[1]
    out, lse = device.Buffer(np.zeros_like(q)), device.Buffer(np.zeros((heads, length), np.float32))
    tile = 256
    stride_q, stride_k, head = heads * d * 2, kv_heads * d * 2, d * 2
    args = (
        out, device.Buffer(q), device.Buffer(k), device.Buffer(v), lse, float(scale), length,
        stride_q, tile * stride_q, head, length * stride_q, heads // kv_heads,
        stride_k, head, length * stride_k, 5 if heads % 8 == 0 or not causal else 3, 1, length,
        d, d, heads, stride_k, head, length * stride_k,
        stride_q, head, length * stride_q, None, None, length * 4, None, None,
    )  # fmt: skip
    tiles = -(-length // tile)
    if causal:
        tiles = -(-tiles // 2)
    file = f"fmha_v3_fwd/{path}"
    mangled = f"_ZN5aiter{len(name)}{name}E"
    symbol = mangled if mangled in symbols(blobs, f"{arch}/{file}") else name
    return lambda: run(blobs, arch, file, symbol, (tiles, heads, 1), 512, args), out, lse


@pytest.mark.parametrize("arch,path,name,causal", FORWARD)
@pytest.mark.parametrize("length", [512, 384])
def test_attention_forward(blobs, arch, path, name, causal, length):
    heads, kv_heads, d = 4, 2, 128
    r = np.random.default_rng(3)
    q, k, v = (bf16(r.standard_normal((length, h, d))) for h in (heads, kv_heads, kv_heads))
    scale = d**-0.5
    launch, out, lse = attention_forward(blobs, arch, path, name, causal, q, k, v, scale)
    launch()
    group = np.arange(heads) // (heads // kv_heads)
    expect, expect_lse = attention(
        exact(q).transpose(1, 0, 2),
        exact(k).transpose(1, 0, 2)[group],
        exact(v).transpose(1, 0, 2)[group],
        scale,
        causal,
    )
    got = exact(out.read()).transpose(1, 0, 2)
    assert np.abs(got - expect).max() < 2e-2
    assert np.abs(lse.read() - expect_lse).max() < 1e-3


def symbols(blobs, name):
    return [k["name"] for k in device.describe(blobs[name])["kernels"]]


@pytest.mark.parametrize("arch,gqa", [("gfx942", 8), ("gfx942", 16), ("gfx950", 8), ("gfx950", 16)])
def test_paged_attention(blobs, arch, gqa):
    heads, d, block, lengths = 2 * gqa, 128, 16, [1, 16, 77, 300]
    r = np.random.default_rng(4)
    per = -(-max(lengths) // block)
    table = r.permutation(per * len(lengths)).astype(np.int32).reshape(len(lengths), per)
    k = bf16(r.standard_normal((table.size, 2, block, d)))  # block, head, position, d
    v = bf16(r.standard_normal((table.size, 2, block, d)))
    q = bf16(r.standard_normal((len(lengths), heads, d)))
    k_cache = np.ascontiguousarray(k.reshape(-1, 2, block, d // 8, 8).transpose(0, 1, 3, 2, 4))
    v_cache = np.ascontiguousarray(v.reshape(-1, 2, block // 8, 8, d).transpose(0, 1, 2, 4, 3))
    out = device.Buffer(np.zeros_like(q))
    name = f"pa_bf16_noquant_gqa{gqa}_1tg_4w"
    args = (
        out,
        device.Buffer(q),
        device.Buffer(k_cache),
        device.Buffer(v_cache),
        device.Buffer(table),
        device.Buffer(np.array(lengths, np.int32)),
        None,
        None,
        float(np.log2(np.e) / np.sqrt(d)),
        per,
        2,
        heads * d * 2,
        2 * block * d * 2,
        block * d * 2,
        gqa,
        None,
    )
    run(
        blobs,
        arch,
        f"pa/{name}.co",
        f"_ZN5aiter{len(name)}{name}E",
        (2, len(lengths), 1),
        256,
        args,
    )
    got = exact(out.read())
    for s, n in enumerate(lengths):
        keys, values = (
            exact(x)[table[s]].transpose(1, 0, 2, 3).reshape(2, -1, d)[:, :n] for x in (k, v)
        )
        group = np.arange(heads) // gqa
        expect = attention(exact(q)[s][:, None], keys[group], values[group], d**-0.5)[0][:, 0]
        assert np.abs(got[s] - expect).max() < 2e-2, f"sequence {s}"


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_mla_decode(blobs, arch):
    heads, d, dv, splits, lengths = 16, 576, 512, 2, [70, 33, 200]
    r = np.random.default_rng(5)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    pages = r.permutation(indptr[-1]).astype(np.int32)
    kv = bf16(r.standard_normal((indptr[-1], d)))
    q = bf16(r.standard_normal((len(lengths), heads, d)))
    batch = len(lengths)
    data, lse = (
        device.Buffer(np.zeros((batch, splits, heads, dv), np.float32)),
        device.Buffer(np.full((batch, splits, heads), -np.inf, np.float32)),
    )
    out = device.Buffer(np.zeros((batch, heads, dv), ml_dtypes.bfloat16))
    name = "mla_dec_stage1_bf16_a16w16_subQ16_mqa16"
    scale = d**-0.5
    args = (
        data,
        lse,
        device.Buffer(q),
        device.Buffer(kv),
        device.Buffer(indptr),
        device.Buffer(pages),
        device.Buffer(np.ones(batch, np.int32)),
        float(scale),
        heads,
        splits,
        heads * d * 2,
        d * 2,
        0,
        device.Buffer(np.arange(batch + 1, dtype=np.int32)),
        device.Buffer((np.arange(batch + 1) * splits).astype(np.int32)),
        out,
        None,
        None,
        splits,
    )
    run(
        blobs, arch, f"mla/{name}.co", f"_ZN5aiter{len(name)}{name}E", (1, batch, splits), 256, args
    )
    part, logs = exact(data.read()), exact(lse.read())
    for s in range(batch):
        keys = exact(kv)[pages[indptr[s] : indptr[s + 1]]][None].repeat(heads, 0)
        expect = attention(exact(q)[s][:, None], keys, keys[..., :dv], scale)[0][:, 0]
        weight = np.exp(logs[s] - logs[s].max(0))
        got = (part[s] * weight[..., None]).sum(0) / weight.sum(0)[:, None]
        assert np.abs(got - expect).max() < 1e-2, f"sequence {s}"


def shuffle_weight(w):
    """16 x 16-byte tiles, as AITER stores expert weights."""
    per = 16 // w.itemsize
    e, n, k = w.shape
    return np.ascontiguousarray(
        w.reshape(e, n // 16, 16, k // 32, 32 // per, per).transpose(0, 1, 3, 4, 2, 5)
    ).reshape(w.shape)


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_fused_moe(blobs, arch):
    tokens, dim, inter, experts, topk, tile = 40, 512, 512, 4, 2, 32
    r = np.random.default_rng(6)
    x = bf16(r.standard_normal((tokens, dim)))
    w1, w2 = (
        bf16(r.standard_normal((experts, inter, dim)) / 16),
        bf16(r.standard_normal((experts, dim, inter)) / 16),
    )
    chosen = np.stack([r.permutation(experts)[:topk] for _ in range(tokens)])
    weight = r.random((tokens, topk)).astype(np.float32)
    ids, weights, block_expert = [], [], []
    for e in range(experts):
        hits = np.argwhere(chosen == e)
        rows = [int(t) | int(j) << 24 for t, j in hits]
        pad = -len(rows) % tile
        ids += rows + [tokens | topk << 24] * pad
        weights += [weight[t, j] for t, j in hits] + [0.0] * pad
        block_expert += [e] * ((len(rows) + pad) // tile)
    out = device.Buffer(np.zeros((tokens, dim), ml_dtypes.bfloat16))
    name = "fmoe_bf16_noquantBf16_g1u0_vs_atm_inlv_silu_1tg_32x512"
    path = next(n for n in blobs if n.endswith(f"/{name}.co") and n.startswith(arch))
    args = (
        out,
        device.Buffer(x),
        device.Buffer(shuffle_weight(w1)),
        device.Buffer(np.array([len(ids)], np.int32)),
        device.Buffer(shuffle_weight(w2)),
        None,
        None,
        None,
        None,
        device.Buffer(np.array(ids, np.int32)),
        device.Buffer(np.array(weights, np.float32)),
        device.Buffer(np.array(block_expert, np.int32)),
        dim,
        inter,
        tokens,
        experts,
        dim * 2,
        dim * 2,
        inter * 2,
        dim * 2,
        dim * 2 * inter,
        inter * 2 * dim,
        0,
        0,
        inter * 4,
        topk,
        0,
        1,
    )
    run(
        blobs,
        arch,
        path.split("/", 1)[1],
        f"_ZN5aiter{len(name)}{name}E",
        (inter // 512, len(block_expert), 1),
        256,
        args,
    )
    expect = np.zeros((tokens, dim))
    for t in range(tokens):
        for j in range(topk):
            h = exact(x)[t] @ exact(w1)[chosen[t, j]].T
            h = h / (1 + np.exp(-h))
            expect[t] += weight[t, j] * (exact(w2)[chosen[t, j]] @ h)
    assert np.abs(exact(out.read()) - expect).max() < 3e-2 * np.abs(expect).max()


def test_sanitizer_finds_nothing_in_most_of_them(blobs):
    device.option(check=1)
    try:
        test_topk_softmax(blobs, 4, 128, 8)
        test_bf16_gemm(blobs, "gfx942", 64)
        test_bf16_gemm(blobs, "gfx950", 64)
        test_mla_decode(blobs, "gfx942")
        test_attention_forward(blobs, "gfx942", *FORWARD[1][1:], 512)
    finally:
        device.option(check=0)


def test_sanitizer_finds_a_missing_wait(blobs):
    """This blob waits for vmcnt(24) with 23 loads after the one that it uses next."""
    device.option(check=1)
    try:
        with pytest.raises(
            device.EmulatorError,
            match="v16 is read before the s_waitcnt vmcnt that covers its load",
        ):
            test_paged_attention(blobs, "gfx942", 8)
    finally:
        device.option(check=0)


def shuffle_scale(scale):
    """E8M0 scales of (rows, k / 32), padded to 256 x 8, in the order in which the kernel reads them."""
    rows, n = scale.shape
    padded = np.zeros(((rows + 255) // 256 * 256, (n + 7) // 8 * 8), np.uint8)
    padded[:rows, :n] = scale
    r, c = padded.shape
    return np.ascontiguousarray(
        padded.reshape(r // 32, 2, 16, c // 8, 2, 4).transpose(0, 3, 5, 2, 4, 1)
    ).reshape(r, c)


@pytest.mark.parametrize("tile", [(128, 128), (256, 256)])
def test_fp4_gemm(blobs, tile):
    m, n, k = tile[0], tile[1] * 2, 512
    r = np.random.default_rng(8)
    a, b = (r.standard_normal((x, k)).astype(ml_dtypes.float4_e2m1fn) for x in (m, n))
    sa, sb = (r.integers(120, 132, (x, k // 32)).astype(np.uint8) for x in (m, n))

    def packed(x):
        codes = x.view(np.uint8)
        return (codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8)

    out = device.Buffer(np.zeros((m, n), ml_dtypes.bfloat16))
    ssa, ssb = shuffle_scale(sa), shuffle_scale(sb)
    name = f"f4gemm_bf16_per1x32Fp4_BpreShuffle_{tile[0]}x{tile[1]}"
    args = (
        out,
        None,
        device.Buffer(packed(a)),
        device.Buffer(shuffle_weight(packed(b)[None])[0]),
        1.0,
        0.0,
        0,
        0,
        n,
        0,
        k,
        0,
        k,
        0,
        m,
        n,
        k,
        device.Buffer(ssa),
        device.Buffer(ssb),
        ssa.shape[1],
        0,
        ssb.shape[1],
        0,
        0,
    )
    grid = (n // tile[1], m // tile[0], 1)
    run(blobs, "gfx950", f"f4gemm/{name}.co", f"_ZN5aiter{len(name)}{name}E", grid, 256, args)
    full_a = exact(a) * np.repeat(2.0 ** (sa.astype(int) - 127), 32, 1)
    full_b = exact(b) * np.repeat(2.0 ** (sb.astype(int) - 127), 32, 1)
    expect = full_a @ full_b.T
    assert np.abs(exact(out.read()) - expect).max() < 1e-2 * np.abs(expect).max()
