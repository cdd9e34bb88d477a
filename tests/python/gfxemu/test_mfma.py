"""Matrix instructions of every form against NumPy, with the register layouts of the ISA documents."""

import re

import numpy as np
import pytest
import toolchain
from aiter.emulator import device

ml_dtypes = pytest.importorskip("ml_dtypes")
pytestmark = [
    pytest.mark.skipif(device.library_path() is None, reason="libaiter_gfxemu.so is not built"),
    pytest.mark.skipif(toolchain.zig() is None, reason=toolchain.MISSING),
]


def names(arch):
    """The mfma and smfmac mnemonics that the emulator has for an arch."""
    import ctypes

    found, index = [], 0
    if device.library_path() is None:
        return []
    while True:
        name, words = ctypes.c_char_p(), (ctypes.c_uint32 * 4)()
        n = device.lib().aiter_gfxemu_example(arch.encode(), index, 1, ctypes.byref(name), words)
        if n == 0:
            return found
        text = name.value.decode()
        if n > 0 and re.match(r"v_s?mfma", text):
            found.append(text)
        index += 1


FORMATS = {
    "f32": (np.float32, 32),
    "xf32": (np.float32, 32),
    "f16": (np.float16, 16),
    "bf16": (ml_dtypes.bfloat16, 16),
    "i8": (np.int8, 8),
    "f64": (np.float64, 64),
}


def element(kind, arch):
    if kind in FORMATS:
        return FORMATS[kind]
    fnuz = arch == "gfx942"
    return {
        "fp8": (ml_dtypes.float8_e4m3fnuz if fnuz else ml_dtypes.float8_e4m3fn, 8),
        "bf8": (ml_dtypes.float8_e5m2fnuz if fnuz else ml_dtypes.float8_e5m2, 8),
    }[kind]


def shape(name):
    """(M, K, blocks, A kind, B kind, result) out of a mnemonic of either naming."""
    m = re.match(r"v_s?mfmac?_(f32|i32|f64)_(\d+)x(\d+)x(\d+)_?(?:(\d+)b_)?(.*?)(_1k)?$", name)
    result, rows, _, k, blocks, kinds, _ = m.groups()
    kinds = kinds.split("_")
    rows, k = int(rows), int(k)
    if blocks is None:
        # gfx90a's names leave the blocks out: they follow from the registers of A.
        blocks = {
            4: 4 if kinds[0] == "f64" else 16,
            16: 4
            if (kinds[0], k) in {("f32", 1), ("f16", 4), ("bf16", 4), ("bf16", 2), ("i8", 4)}
            else 1,
            32: 2
            if (kinds[0], k) in {("f32", 1), ("f16", 4), ("bf16", 4), ("bf16", 2), ("i8", 4)}
            else 1,
        }[rows]
        if name in ("v_mfma_f32_32x32x4bf16",):
            blocks = 1
        if name.endswith("b_f32") or name in ("v_mfma_f32_32x32x4_xf32",):
            blocks = 1
    return rows, k, int(blocks), kinds[0], kinds[-1], result


def run(arch, name, a, b, c, d_regs, modifiers="", index=None, extra=None, scale=None):
    """a, b, c: (registers, 64) of uint32. Returns D the same way."""
    na, nb, nc = len(a), len(b), len(c)
    va, vb, vc = 8, 8 + (na + 1) // 2 * 2, 8 + (na + 1) // 2 * 2 + (nb + 1) // 2 * 2
    lines = [
        "s_load_dwordx8 s[4:11], s[0:1], 0x0",
        "s_load_dwordx4 s[12:15], s[0:1], 0x20",
        "v_lshlrev_b32 v1, 2, v0",
        "s_waitcnt lgkmcnt(0)",
    ]

    def load(first, count, base):
        for r in range(count):
            lines.append(f"global_load_dword v{first + r}, v1, s[{base}:{base + 1}]")
            lines.append(f"s_add_u32 s{base}, s{base}, 256")
            lines.append(f"s_addc_u32 s{base + 1}, s{base + 1}, 0")

    load(va, na, 4)
    load(vb, nb, 6)
    load(vc, nc, 8)
    load(2, 2, 10)

    def reg(first, count):
        return f"v{first}" if count == 1 else f"v[{first}:{first + count - 1}]"

    lines.append("s_waitcnt vmcnt(0)")
    third = "v2" if index is not None else reg(vc, nc)
    scales = ", v2, v3" if scale is not None else ""
    lines.append(f"{name} {reg(vc, nc)}, {reg(va, na)}, {reg(vb, nb)}, {third}{scales} {modifiers}")
    lines += ["s_nop 7"] * 4
    for r in range(d_regs):
        lines.append(f"global_store_dword v1, v{vc + r}, s[12:13]")
        lines.append("s_add_u32 s12, s12, 256")
        lines.append("s_addc_u32 s13, s13, 0")
    text = toolchain.kernel_asm("\n".join("  " + x for x in lines), args=6, vgprs=128)
    device.option(arch=arch)
    module = device.Module(toolchain.compile_asm(text, arch))
    side = np.zeros((2, 64), np.uint32)
    if index is not None:
        side[0] = index
    if scale is not None:
        side[:] = scale
    out = np.zeros((d_regs, 64), np.uint32)
    buffers = [device.Buffer(np.ascontiguousarray(x)) for x in (a, b, c, side, out)]
    module.launch("k", 1, 64, *buffers, buffers[-1])
    return buffers[-1].read()


def pack(planes, bits):
    """(lanes, elements) of unsigned codes to (registers, 64) of uint32."""
    lanes, n = planes.shape
    out = np.zeros((n * bits // 32, lanes), np.uint32)
    for e in range(n):
        value = planes[:, e].astype(np.uint64)
        if bits == 64:
            out[2 * e] = value & 0xFFFFFFFF
            out[2 * e + 1] = value >> 32
        else:
            out[e * bits // 32] |= (value << (e * bits % 32) & 0xFFFFFFFF).astype(np.uint32)
            if e * bits % 32 + bits > 32:
                out[e * bits // 32 + 1] |= (value >> (32 - e * bits % 32)).astype(np.uint32)
    return out


def codes(x):
    return x.view({1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}[x.dtype.itemsize])


def fill(rng, kind, dtype, shape_):
    if kind == "i8":
        return rng.integers(-128, 128, shape_).astype(np.int8)
    return rng.standard_normal(shape_).astype(dtype)


def to_lanes(matrix, rows, blocks):
    """(blocks, rows, K) to (64, K / groups) by lane: row, then block, then group of k."""
    k = matrix.shape[2]
    groups = 64 // (rows * blocks)
    return (
        matrix.reshape(blocks, rows, groups, k // groups)
        .transpose(2, 0, 1, 3)
        .reshape(64, k // groups)
    )


def d_coordinates(rows, blocks, wide):
    """(register, lane) -> (block, row, column)."""
    regs = rows * rows * blocks // 64
    r, lane = np.meshgrid(np.arange(regs), np.arange(64), indexing="ij")
    if wide:
        return (lane // rows) % blocks, 4 * r + lane // (rows * blocks), lane % rows
    if rows == 32:
        q = r % 16
        return r // 16, 8 * (q // 4) + 4 * (lane // 32) + q % 4, lane % 32
    if rows == 16:
        return r // 4, 4 * (lane // 16) + r % 4, lane % 16
    return lane // 4, r, lane % 4


def c_planes(c, result, rows, blocks):
    block, row, column = d_coordinates(rows, blocks, result == "f64")
    values = c[block, row, column]
    if result == "f64":
        flat = codes(np.ascontiguousarray(values))
        out = np.empty((2 * flat.shape[0], 64), np.uint32)
        out[0::2], out[1::2] = flat & 0xFFFFFFFF, flat >> 32
        return out, (block, row, column)
    return codes(np.ascontiguousarray(values)).astype(np.uint32), (block, row, column)


def unpack_result(regs, result):
    if result == "f64":
        return (regs[0::2].astype(np.uint64) | regs[1::2].astype(np.uint64) << np.uint64(32)).view(
            np.float64
        )
    return regs.view(np.float32 if result == "f32" else np.int32)


CASES = [
    (arch, n)
    for arch in ("gfx90a", "gfx942", "gfx950")
    for n in names(arch)
    if "smfmac" not in n and "f8f6f4" not in n
]


@pytest.mark.parametrize("arch,name", CASES)
def test_mfma(arch, name):
    rng = np.random.default_rng(len(name))
    rows, k, blocks, ka, kb, result = shape(name)
    (ta, bits), (tb, _) = element(ka, arch), element(kb, arch)
    a, b = fill(rng, ka, ta, (blocks, rows, k)), fill(rng, kb, tb, (blocks, rows, k))
    ct = {"f32": np.float32, "i32": np.int32, "f64": np.float64}[result]
    c = (rng.standard_normal((blocks, rows, rows)) * 3).astype(ct)
    if result == "i32":
        c = rng.integers(-(2**30), 2**30, c.shape).astype(np.int32)
    planes, where = c_planes(c, result, rows, blocks)
    got = run(
        arch,
        name,
        pack(codes(to_lanes(a, rows, blocks)), bits),
        pack(codes(to_lanes(b, rows, blocks)), bits),
        planes,
        len(planes),
    )
    got = unpack_result(got, result)
    wide = np.float64 if result != "i32" else np.int64
    expect = np.einsum("bik,bjk->bij", a.astype(wide), b.astype(wide)) + c.astype(wide)
    expect = expect[where]
    if result == "i32":
        assert (got == expect.astype(np.int32)).all()
    else:
        bound = 1e-12 if result == "f64" else 2e-2 if ka == "xf32" else 2e-5
        assert np.abs(got - expect).max() < bound * (1 + np.abs(expect).max())
        assert np.abs(got * 1.05 - expect).max() > bound * (
            1 + np.abs(expect).max()
        )  # the bound bites


SPARSE = [(arch, n) for arch in ("gfx942", "gfx950") for n in names(arch) if "smfmac" in n]


@pytest.mark.parametrize("arch,name", SPARSE)
def test_smfmac(arch, name):
    rng = np.random.default_rng(len(name))
    rows, k, _, ka, kb, result = shape(name)
    (ta, bits), (tb, _) = element(ka, arch), element(kb, arch)
    groups = 64 // rows
    per_b, per_a = k // groups, k // groups // 2
    a, b = fill(rng, ka, ta, (64, per_a)), fill(rng, kb, tb, (1, rows, k))
    # Two positions, ascending, of every four.
    pairs = np.array([(i, j) for i in range(4) for j in range(i + 1, 4)])
    pos = pairs[rng.integers(0, 6, (64, per_a // 2))].reshape(64, per_a)
    index = np.zeros(64, np.uint32)
    for e in range(per_a):
        index |= (pos[:, e] << 2 * e).astype(np.uint32)
    wide = np.float64 if result == "f32" else np.int64
    dense = np.zeros((rows, k), wide)
    for lane in range(64):
        for e in range(per_a):
            dense[lane % rows, per_b * (lane // rows) + 4 * (e // 2) + pos[lane, e]] = a[lane, e]
    c = (rng.standard_normal((1, rows, rows)) * 3).astype(
        np.float32 if result == "f32" else np.int32
    )
    planes, where = c_planes(c, result, rows, 1)
    got = unpack_result(
        run(
            arch,
            name,
            pack(codes(a), bits),
            pack(codes(to_lanes(b, rows, 1)), bits),
            planes,
            len(planes),
            index=index,
        ),
        result,
    )
    expect = (dense @ b[0].astype(wide).T + c[0].astype(wide))[where[1], where[2]]
    assert np.abs(got - expect).max() <= 2e-5 * (1 + np.abs(expect).max())


SMALL = [
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
    ml_dtypes.float6_e2m3fn,
    ml_dtypes.float6_e3m2fn,
    ml_dtypes.float4_e2m1fn,
]
SMALL_BITS = [8, 8, 6, 6, 4]


def small_lanes(matrix, rows, bits):
    matrix.shape[1]
    groups = 64 // rows
    if bits == 8:  # two chunks of 16 k, the groups taking turns
        return matrix.reshape(rows, 2, groups, 16).transpose(2, 0, 1, 3).reshape(64, 32)
    return matrix.reshape(rows, groups, 32).transpose(1, 0, 2).reshape(64, 32)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("fb", range(5))
@pytest.mark.parametrize("fa", range(5))
@pytest.mark.parametrize("rows", [16, 32])
def test_f8f6f4(rows, fa, fb, scaled):
    rng = np.random.default_rng(fa * 5 + fb)
    k = 128 if rows == 16 else 64
    a, b = (
        rng.standard_normal((rows, k)).astype(SMALL[fa]),
        rng.standard_normal((rows, k)).astype(SMALL[fb]),
    )
    c = rng.standard_normal((1, rows, rows)).astype(np.float32)
    planes, where = c_planes(c, "f32", rows, 1)
    name = f"v_mfma_{'scale_' if scaled else ''}f32_{rows}x{rows}x{k}_f8f6f4"
    modifiers = f"cbsz:{fa} blgp:{fb}"
    scale, sa, sb = None, np.ones((rows, k // 32)), np.ones((rows, k // 32))
    if scaled:
        scale = rng.integers(120, 134, (2, 64, 4)).astype(np.uint8)
        modifiers = (
            "op_sel:[1,0,0] op_sel_hi:[0,1,0] " + modifiers
        )  # byte 1 of A's scales, byte 2 of B's
        lane = np.arange(64)
        sa[lane % rows, lane // rows] = 2.0 ** (scale[0, :, 1].astype(int) - 127)
        sb[lane % rows, lane // rows] = 2.0 ** (scale[1, :, 2].astype(int) - 127)
        scale = scale.view(np.uint32).reshape(2, 64)
    pa, pb = (
        pack(codes(small_lanes(x, rows, SMALL_BITS[f])), SMALL_BITS[f])
        for x, f in ((a, fa), (b, fb))
    )
    got = run("gfx950", name, pa, pb, planes, len(planes), modifiers, scale=scale).view(np.float32)
    full_a = a.astype(np.float64) * np.repeat(sa, 32, 1)
    full_b = b.astype(np.float64) * np.repeat(sb, 32, 1)
    expect = (full_a @ full_b.T + c[0])[where[1], where[2]]
    assert np.abs(got - expect).max() < 2e-5 * (1 + np.abs(expect).max())


def test_broadcast_modifiers():
    """cbsz and abid repeat a block of A, blgp rearranges B's lanes."""
    rng = np.random.default_rng(1)
    a, b = (
        rng.standard_normal((4, 16, 4)).astype(np.float16),
        rng.standard_normal((4, 16, 4)).astype(np.float16),
    )
    c = np.zeros((4, 16, 16), np.float32)
    planes, where = c_planes(c, "f32", 16, 4)
    for modifiers, pick_a, pick_b in (
        ("cbsz:2 abid:3", [3] * 4, range(4)),
        ("cbsz:1 abid:1", [1, 1, 3, 3], range(4)),
        ("blgp:1", range(4), [0, 1, 0, 1]),
        ("blgp:2", range(4), [2, 3, 2, 3]),
        ("blgp:3", range(4), [1, 2, 3, 0]),
        ("blgp:5", range(4), [1] * 4),
    ):
        got = run(
            "gfx942",
            "v_mfma_f32_16x16x4_4b_f16",
            pack(codes(to_lanes(a, 16, 4)), 16),
            pack(codes(to_lanes(b, 16, 4)), 16),
            planes,
            len(planes),
            modifiers,
        ).view(np.float32)
        expect = np.einsum(
            "bik,bjk->bij", a[list(pick_a)].astype(np.float64), b[list(pick_b)].astype(np.float64)
        )[where]
        assert np.abs(got - expect).max() < 1e-4, modifiers
