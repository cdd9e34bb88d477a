"""HIP kernels, compiled at -O0 and -O3 for every arch, against the same computation in NumPy."""

import numpy as np
import pytest
import toolchain
from aiter.emulator import device

pytestmark = [
    pytest.mark.skipif(device.library_path() is None, reason="libaiter_gfxemu.so is not built"),
    pytest.mark.skipif(toolchain.zig() is None, reason=toolchain.MISSING),
]
N = 1024


@pytest.fixture(params=["gfx90a", "gfx942", "gfx950"])
def arch(request):
    device.option(arch=request.param)
    return request.param


@pytest.fixture(params=["-O0", "-O3"])
def level(request):
    return request.param


def rng():
    return np.random.default_rng(7)


def launch(
    source, arch, level, name, arrays, scalars=(), grid=N // 256, block=256, flags=(), lds=0
):
    module = device.Module(toolchain.compile_hip(source, arch, level, flags))
    buffers = [device.Buffer(a) for a in arrays]
    module.launch(name, grid, block, *buffers, *scalars, lds=lds)
    return [b.read() for b in buffers]


def elementwise(expression, ctype, extra=""):
    return (
        f"{extra}\nKERNEL void k(const {ctype}* a, const {ctype}* b, {ctype}* c)"
        f"{{ int i = BID * BDIM + TID; {ctype} x = a[i], y = b[i]; c[i] = {expression}; }}"
    )


INTS = {
    "div_u64": ("u64", "y ? x / y : 7", lambda x, y: np.where(y != 0, x // np.maximum(y, 1), 7)),
    "mod_u64": ("u64", "y ? x % y : 7", lambda x, y: np.where(y != 0, x % np.maximum(y, 1), 7)),
    "mul_u64": (
        "u64",
        "x * y + (x >> 3) - (y << 5)",
        lambda x, y: x * y + (x >> np.uint64(3)) - (y << np.uint64(5)),
    ),
    "shift_u64": (
        "u64",
        "(x << (y & 63)) ^ (x >> ((y >> 8) & 63))",
        lambda x, y: (x << (y & np.uint64(63))) ^ (x >> ((y >> np.uint64(8)) & np.uint64(63))),
    ),
    "div_u32": (
        "u32",
        "y ? x / y + x % y * 3u : 1u",
        lambda x, y: np.where(
            y != 0, x // np.maximum(y, 1) + x % np.maximum(y, 1) * np.uint32(3), 1
        ),
    ),
    "bits_u32": (
        "u32",
        "__builtin_popcount(x) + (x ? __builtin_clz(x) : 40) * 64 + (y ? __builtin_ctz(y) : 50) * 4096",
        lambda x, y: np.array(
            [
                bin(i).count("1")
                + (32 - int(i).bit_length() if i else 40) * 64
                + ((int(j) & -int(j)).bit_length() - 1 if j else 50) * 4096
                for i, j in zip(x, y, strict=False)
            ],
            np.uint32,
        ),
    ),
    "rotate_u32": (
        "u32",
        "__builtin_rotateleft32(x, y & 31) + __builtin_bitreverse32(y) + __builtin_bswap32(x)",
        lambda x, y: (
            (
                (
                    (x.astype(np.uint64) << (y & 31).astype(np.uint64))
                    | (x.astype(np.uint64) >> (32 - (y & 31)).astype(np.uint64))
                )
                & 0xFFFFFFFF
            ).astype(np.uint32)
            + np.array([int(f"{int(j):032b}"[::-1], 2) for j in y], np.uint32)
            + x.byteswap()
        ),
    ),
    "minmax_i16": (
        "i16",
        "x < y ? x - y : x * y",
        lambda x, y: np.where(x < y, x - y, x * y).astype(np.int16),
    ),
    "sat_u32": (
        "u32",
        "__builtin_elementwise_add_sat(x, y) ^ __builtin_elementwise_sub_sat(x, y)",
        lambda x, y: (
            np.minimum(x.astype(np.uint64) + y, 0xFFFFFFFF).astype(np.uint32)
            ^ np.where(x > y, x - y, 0).astype(np.uint32)
        ),
    ),
    "sat_i32": (
        "i32",
        "__builtin_elementwise_add_sat(x, y)",
        lambda x, y: np.clip(x.astype(np.int64) + y, -(2**31), 2**31 - 1).astype(np.int32),
    ),
}
NUMPY = {
    "u64": np.uint64,
    "u32": np.uint32,
    "i32": np.int32,
    "i16": np.int16,
    "f64": np.float64,
    "f32": np.float32,
    "f16": np.float16,
}


def integers(ctype):
    t = NUMPY[ctype]
    bits = t().itemsize * 8
    r = rng()
    x = r.integers(0, 2**bits, (2, N), dtype=f"uint{bits}")
    x[:, :64] >>= r.integers(0, bits, (2, 64)).astype(x.dtype)
    x[1, :8] = 0
    x[:, 8:16] = np.array(2**bits - 1).astype(x.dtype)
    return x.view(t)


@pytest.mark.parametrize("case", INTS)
def test_integers(arch, level, case):
    ctype, expression, reference = INTS[case]
    a, b = integers(ctype)
    got = launch(elementwise(expression, ctype), arch, level, "k", [a, b, np.zeros_like(a)])[2]
    with np.errstate(all="ignore"):
        assert (got == reference(a, b).astype(a.dtype)).all()


FLOATS = {
    "arith_f64": (
        "f64",
        "__builtin_fma(x, x, __builtin_fabs(x / y)) + __builtin_sqrt(y * y + 1)",
        lambda x, y: x * x + np.abs(x / y) + np.sqrt(y * y + 1),
        4e-16,
    ),
    "div_f32": ("f32", "x / y", lambda x, y: x / y, 2e-7),
    "round_f64": (
        "f64",
        "__builtin_floor(x) + 2 * __builtin_ceil(y) + 4 * __builtin_trunc(x) + 8 * __builtin_rint(y)",
        lambda x, y: np.floor(x) + 2 * np.ceil(y) + 4 * np.trunc(x) + 8 * np.rint(y),
        0,
    ),
    "round_f32": (
        "f32",
        "__builtin_floorf(x) + 2 * __builtin_ceilf(y) + 4 * __builtin_truncf(x) + 8 * __builtin_rintf(y)",
        lambda x, y: np.floor(x) + 2 * np.ceil(y) + 4 * np.trunc(x) + 8 * np.rint(y),
        0,
    ),
    "minmax_f32": (
        "f32",
        "__builtin_fminf(x, y) - 2 * __builtin_fmaxf(x, y)",
        lambda x, y: np.minimum(x, y) - 2 * np.maximum(x, y),
        1e-7,
    ),
    "exp_log_f32": (
        "f32",
        "__builtin_amdgcn_exp2f(x) + __builtin_amdgcn_logf(__builtin_fabsf(y) + 1.0f)",
        lambda x, y: np.exp2(x.astype(np.float64)) + np.log2(np.abs(y).astype(np.float64) + 1),
        6e-7,
    ),
    "sin_cos_f32": (
        "f32",
        "__builtin_amdgcn_sinf(x) + 2.0f * __builtin_amdgcn_cosf(y)",
        lambda x, y: (
            np.sin(2 * np.pi * x.astype(np.float64)) + 2 * np.cos(2 * np.pi * y.astype(np.float64))
        ),
        1e-5,
    ),
    "rcp_rsq_f32": (
        "f32",
        "__builtin_amdgcn_rcpf(x) + __builtin_amdgcn_rsqf(y * y)",
        lambda x, y: 1 / x + 1 / np.abs(y),
        1e-6,
    ),
    "half": (
        "f16",
        "x * x + (y < 0 ? -y : y) + (f16)0.5",
        lambda x, y: x.astype(np.float64) ** 2 + np.abs(y) + 0.5,
        1.5e-3,
    ),
    "half_div": ("f16", "x / y", lambda x, y: x / y, 2e-3),
    "convert_f64": (
        "f64",
        "(f64)(i32)(x * 1000) + (f64)(u32)(__builtin_fabs(y) * 1e5) + (f64)(f32)x + (f64)(i64)(y * 1e12)",
        lambda x, y: (
            (x * 1000).astype(np.int32)
            + (np.abs(y) * 1e5).astype(np.uint32)
            + x.astype(np.float32)
            + np.trunc(y * 1e12)
        ),
        1e-9,
    ),
    "ldexp_f32": (
        "f32",
        "__builtin_ldexpf(x, (int)(y * 20)) + __builtin_amdgcn_frexp_mantf(y) * __builtin_amdgcn_frexp_expf(x)",
        lambda x, y: np.ldexp(x, (y * 20).astype(np.int32)) + np.frexp(y)[0] * np.frexp(x)[1],
        1e-6,
    ),
}


@pytest.mark.parametrize("case", FLOATS)
def test_floats(arch, level, case):
    ctype, expression, reference, bound = FLOATS[case]
    r = rng()
    a, b = (r.standard_normal(N).astype(NUMPY[ctype]) for _ in range(2))
    got = launch(elementwise(expression, ctype), arch, level, "k", [a, b, np.zeros_like(a)])[2]
    expect = reference(a, b)
    worst = (np.abs(got.astype(np.float64) - expect) / (1e-3 + np.abs(expect))).max()
    assert worst <= bound, worst


def extremes(dtype, r):
    """Every kind of number beside every other: N pairs."""
    info = np.finfo(dtype)
    tiny, least, most = info.tiny, info.smallest_subnormal, info.max
    ends = [0, least, 3 * least, tiny / 2, tiny - least, tiny, 1, 3, 1 / tiny, most / 3, most]
    ends = np.array([*ends, np.inf, np.nan], dtype)
    ends = np.concatenate([ends, -ends])
    x, y = (m.reshape(-1) for m in np.meshgrid(ends, ends))
    exponents = r.integers(info.minexp - info.nmant, info.maxexp, (2, N - len(x)))
    a, b = np.ldexp(r.uniform(1, 2, exponents.shape), exponents).astype(dtype)
    return np.concatenate([x, a]), np.concatenate([y, b])


@pytest.mark.parametrize("expression", ["x / y", "1 / y"])
@pytest.mark.parametrize("ctype", ["f32", "f64"])
def test_division_of_extremes(arch, level, ctype, expression):
    """Correctly rounded: quotients that overflow or are denormal, numbers whose inverse is."""
    x, y = extremes(NUMPY[ctype], rng())
    got = launch(elementwise(expression, ctype), arch, level, "k", [x, y, np.zeros_like(x)])[2]
    with np.errstate(all="ignore"):
        want = x / y if expression == "x / y" else 1 / y
    np.testing.assert_array_equal(got, want)
    zero = (want == 0) & ~np.isnan(got)
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@pytest.mark.parametrize("ctype, call", [("f32", "rcpf"), ("f64", "rcp")])
def test_reciprocal_of_extremes(arch, level, ctype, call):
    """Where it is a normal number, within an ulp (f64: 2^-22, which division refines)."""
    _, y = extremes(NUMPY[ctype], rng())
    source = elementwise(f"__builtin_amdgcn_{call}(y)", ctype)
    got = launch(source, arch, level, "k", [y, y, np.zeros_like(y)])[2]
    with np.errstate(all="ignore"):
        want = 1 / y
    special = (y == 0) | ~np.isfinite(y)
    np.testing.assert_array_equal(got[special], want[special])
    normal = ~special & np.isfinite(want) & (np.abs(want) >= np.finfo(y.dtype).tiny)
    bound = 2.0**-23 if ctype == "f32" else 2.0**-22
    assert (np.abs(got[normal] / want[normal] - 1) <= bound).all()


@pytest.mark.parametrize("flush", [False, True])
def test_denormals(arch, flush):
    flags = ("-fgpu-flush-denormals-to-zero",) if flush else ()
    a = np.array([1e-39, -3e-40, 1.5, 1e-20] * 256, np.float32)
    b = np.array([1.0, 1.0, 2.0, 1e-20] * 256, np.float32)
    got = launch(
        elementwise("x * y", "f32"), arch, "-O3", "k", [a, b, np.zeros_like(a)], flags=flags
    )[2]
    expect = a * b
    if flush:
        expect = np.where(np.abs(expect) < 1.1754944e-38, 0, expect)
    assert (got == expect).all()


def test_packed_and_small_types(arch, level):
    source = """
    KERNEL void k(const f32* a, f32* c, u32* d) {
      int i = BID * BDIM + TID;
      vec<f16, 2> h = {(f16)a[2 * i], (f16)a[2 * i + 1]};
      vec<f16, 2> g = h * h + h;
      vec<f16, 2> m = __builtin_elementwise_max(g, h);
      bf16 b = (bf16)a[2 * i];
      c[i] = (f32)m.x + (f32)m.y * 2.0f + (f32)b;
      vec<i16, 2> s = {(i16)(i * 77), (i16)(i * 1234)};
      s = s * s + (i16)3 - (s >> (i16)2);
      d[i] = __builtin_bit_cast(u32, s);
    }"""
    import ml_dtypes

    a = rng().standard_normal(2 * N).astype(np.float32)
    _, c, d = launch(source, arch, level, "k", [a, np.zeros(N, np.float32), np.zeros(N, np.uint32)])
    h = a.astype(np.float16).astype(np.float64).reshape(N, 2)
    m = np.maximum(h * h + h, h)
    expect = m[:, 0] + 2 * m[:, 1] + a[::2].astype(ml_dtypes.bfloat16).astype(np.float64)
    assert np.abs(c - expect).max() < 2e-2 * (1 + np.abs(expect).max()) / 4
    i = np.arange(N)
    s = np.stack([i * 77, i * 1234], 1).astype(np.int16)
    with np.errstate(all="ignore"):
        s = (s * s + np.int16(3) - (s >> np.int16(2))).astype(np.int16)
    assert (d == s.view(np.uint32)[:, 0]).all()


def test_recursion_and_spills(arch, level):
    source = """
    DEVICE __attribute__((noinline)) int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
    DEVICE __attribute__((noinline)) int apply(int (*f)(int), int x) { return f(x) + 1; }
    KERNEL void k(int* c, const int* n) {
      int i = BID * BDIM + TID;
      int local[40];
      for (int j = 0; j < 40; ++j) local[j] = i * j + n[i % 7];
      int s = 0;
      for (int j = 0; j < 40; ++j) s += local[(j * (n[i % 5] | 1)) % 40];
      c[i] = fib(i % 12) + apply(fib, 5) + s;
    }"""
    n = np.arange(10, dtype=np.int32)
    got = launch(source, arch, level, "k", [np.zeros(256, np.int32), n], grid=1)[0]
    fib = [0, 1]
    while len(fib) < 20:
        fib.append(fib[-1] + fib[-2])
    expect = []
    for i in range(256):
        local = [i * j + n[i % 7] for j in range(40)]
        expect.append(
            fib[i % 12] + fib[5] + 1 + sum(local[(j * (n[i % 5] | 1)) % 40] for j in range(40))
        )
    assert (got == np.array(expect)).all()


def test_atomics(arch, level):
    source = """
    template <class T> DEVICE T add(T* p, T x) { return __scoped_atomic_fetch_add(p, x, __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE); }
    KERNEL void k(u32* c, u64* d, f32* f, i32* m) {
      SHARED static u32 local[4];
      int i = BID * BDIM + TID;
      if (TID < 4) local[TID] = 0;
      SYNC;
      __scoped_atomic_fetch_add(&local[i & 3], 1u + TID, __ATOMIC_RELAXED, __MEMORY_SCOPE_WRKGRP);
      __scoped_atomic_fetch_xor(&local[(i >> 2) & 3], 1u << 20, __ATOMIC_RELAXED, __MEMORY_SCOPE_WRKGRP);
      SYNC;
      if (TID < 4) add(&c[TID], local[TID]);
      add(d, (u64)i << 20);
      add(&c[4 + i % 3], 5u);
      __scoped_atomic_fetch_max(m, (i * 7919) % 1000, __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE);
      __scoped_atomic_fetch_min(m + 1, -((i * 31) % 777), __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE);
      u32 old = c[8];
      while (!__scoped_atomic_compare_exchange_n(&c[8], &old, old + 3, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE)) {}
      __scoped_atomic_fetch_add(f, 0.5f, __ATOMIC_RELAXED, __MEMORY_SCOPE_DEVICE);
    }"""
    c, d, f, m = launch(
        source,
        arch,
        level,
        "k",
        [
            np.zeros(9, np.uint32),
            np.zeros(1, np.uint64),
            np.zeros(1, np.float32),
            np.zeros(2, np.int32),
        ],
    )
    tid = np.arange(N) % 256
    i = np.arange(N)
    for s in range(4):
        assert c[s] == (1 + tid[i % 4 == s]).sum()  # an even number of exclusive-ors
    assert d[0] == (i.astype(np.uint64) << np.uint64(20)).sum()
    assert [c[4 + r] for r in range(3)] == [5 * (i % 3 == r).sum() for r in range(3)]
    assert c[8] == 3 * N and f[0] == 0.5 * N
    assert m[0] == ((i * 7919) % 1000).max() and m[1] == -((i * 31) % 777).max()


def test_lane_moves(arch, level):
    source = """
    KERNEL void k(const i32* a, i32* c) {
      int x = a[TID];
      int* o = c + TID * 12;
      o[0] = __builtin_amdgcn_ds_bpermute(((TID * 5 + 1) & 63) * 4, x);
      o[1] = __builtin_amdgcn_ds_swizzle(x, 0x041f);            // exchange neighbours
      o[2] = __builtin_amdgcn_update_dpp(-1, x, 0x1b, 15, 15, false);  // quad reversed
      o[3] = __builtin_amdgcn_update_dpp(-1, x, 0x111, 15, 15, false); // row_shr:1
      o[4] = __builtin_amdgcn_update_dpp(-1, x, 0x101, 15, 15, true);  // row_shl:1, zero past the row
      o[5] = __builtin_amdgcn_update_dpp(-1, x, 0x142, 10, 15, false); // row_bcast:15 into odd rows
      o[6] = __builtin_amdgcn_update_dpp(-1, x, 0x143, 12, 15, false); // row_bcast:31
      o[7] = __builtin_amdgcn_update_dpp(-1, x, 0x140, 15, 15, false); // row_mirror
      o[8] = __builtin_amdgcn_readlane(x, 17) + __builtin_amdgcn_readfirstlane(x);
      o[9] = (int)__builtin_amdgcn_ballot_w64(x & 1);
      o[10] = __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0));
      o[11] = __builtin_amdgcn_ds_permute(((TID + 9) & 63) * 4, x);
    }"""
    a = rng().integers(-1000, 1000, 64).astype(np.int32)
    c = launch(source, arch, level, "k", [a, np.zeros((64, 12), np.int32)], grid=1, block=64)[1]
    lane_id = np.arange(64)
    row, lane = lane_id // 16, lane_id % 16
    expect = np.stack(
        [
            a[(lane_id * 5 + 1) % 64],
            a[lane_id ^ 1],
            a[lane_id ^ 3],
            np.where(lane > 0, a[lane_id - 1], -1),
            np.where(lane < 15, a[np.minimum(lane_id + 1, 63)], 0),
            np.where(row % 2 == 1, a[np.maximum(row * 16 - 1, 0)], -1),
            np.where(row >= 2, a[31], -1),
            a[row * 16 + 15 - lane],
            np.full(64, a[17] + a[0]),
            np.full(
                64, np.uint32(sum(1 << int(i) for i in np.nonzero(a[:32] & 1)[0])).astype(np.int32)
            ),
            lane_id,
            a[(lane_id - 9) % 64],
        ],
        1,
    )
    assert (c == expect).all(), np.argwhere(c != expect)[:5]


def test_lds_patterns(arch, level):
    source = """
    KERNEL void k(const f32* a, f32* c) {
      SHARED static f32 tile[64][65];
      SHARED static vec<f32, 4> wide[256];
      for (int r = 0; r < 16; ++r) { int e = r * 256 + TID; tile[e / 64][e % 64] = a[BID * 4096 + e]; }
      SYNC;
      for (int r = 0; r < 16; ++r) { int e = r * 256 + TID; c[BID * 4096 + e] = tile[e % 64][e / 64]; }
      wide[TID ^ 85] = vec<f32, 4>{c[BID * 4096 + TID], 1, 2, 3};
      SYNC;
      vec<f32, 4> v = wide[TID];
      c[BID * 4096 + TID] = v.x + v.y + v.z + v.w;
    }"""
    a = rng().standard_normal((4, 64, 64)).astype(np.float32)
    got = launch(source, arch, level, "k", [a, np.zeros_like(a)])[1]
    expect = a.transpose(0, 2, 1).reshape(4, -1).copy()
    first = expect[:, :256][:, np.arange(256) ^ 85] + np.float32(6)
    expect[:, :256] = first
    assert np.allclose(got.reshape(4, -1), expect, atol=1e-6)


def test_workgroups_and_dimensions(arch, level):
    source = """
    KERNEL void k(u32* c) {
      int x = __builtin_amdgcn_workitem_id_x(), y = __builtin_amdgcn_workitem_id_y(), z = __builtin_amdgcn_workitem_id_z();
      int bx = __builtin_amdgcn_workgroup_id_x(), by = __builtin_amdgcn_workgroup_id_y(), bz = __builtin_amdgcn_workgroup_id_z();
      int sx = __builtin_amdgcn_workgroup_size_x(), sy = __builtin_amdgcn_workgroup_size_y(), sz = __builtin_amdgcn_workgroup_size_z();
      int gx = __builtin_amdgcn_grid_size_x() / sx, gy = __builtin_amdgcn_grid_size_y() / sy;
      u32 group = bx + gx * (by + gy * bz), item = x + sx * (y + sy * z);
      c[group * sx * sy * sz + item] = group * 1000 + item;
    }"""
    got = launch(
        source, arch, level, "k", [np.zeros(24 * 90, np.uint32)], grid=(2, 3, 4), block=(5, 6, 3)
    )[0]
    expect = (np.arange(24)[:, None] * 1000 + np.arange(90)).ravel()
    assert (got == expect).all()


def test_dynamic_lds_and_early_exit(arch, level):
    source = """
    extern SHARED i32 buffer[];
    KERNEL void k(i32* c, int n) {
      int i = BID * BDIM + TID;
      if (i >= n) return;
      buffer[TID] = i;
      c[i] = buffer[TID] * 2;
    }"""
    got = launch(
        source, arch, level, "k", [np.full(N, -1, np.int32)], scalars=[np.int32(700)], lds=1024
    )[0]
    assert (got == np.where(np.arange(N) < 700, np.arange(N) * 2, -1)).all()


def test_lds_limits(arch):
    """64 KiB, on gfx950 160: all of it can be used, and no more."""
    source = """
    extern SHARED u32 buffer[];
    KERNEL void k(u32* c, int words) {
      for (int i = TID; i < words; i += 256) buffer[i] = i * 3u;
      SYNC;
      u32 sum = 0;
      for (int i = TID; i < words; i += 256) sum += buffer[words - 1 - i];
      c[TID] = sum;
    }"""
    size = (160 if arch == "gfx950" else 64) << 10
    words = np.arange(size // 4, dtype=np.uint64)
    call = dict(scalars=[np.int32(size // 4)], grid=1)
    got = launch(source, arch, "-O3", "k", [np.zeros(256, np.uint32)], lds=size, **call)[0]
    assert (got == (words[::-1].reshape(-1, 256).sum(0) * 3).astype(np.uint32)).all()
    with pytest.raises(device.EmulatorError, match=f"{size + 4} bytes of LDS, the device has"):
        launch(source, arch, "-O3", "k", [np.zeros(256, np.uint32)], lds=size + 4, **call)


def test_hidden_arguments(arch, level):
    """Code object v5: sizes, dimensions and dynamic LDS stand behind the kernel's own arguments."""
    source = """
    extern SHARED u32 buffer[];
    template <class T> DEVICE T hidden(int at) {
      return *(const T*)((const __attribute__((address_space(4))) char*)
          __builtin_amdgcn_implicitarg_ptr() + at);
    }
    KERNEL void k(u32* c) {
      u32 n[9] = {hidden<u32>(0), hidden<u32>(4), hidden<u32>(8), hidden<u16>(12), hidden<u16>(14),
                  hidden<u16>(16), hidden<u16>(18), hidden<u16>(64), hidden<u32>(120)};
      buffer[0] = 9;
      SYNC;
      for (int i = 0; i < 9; ++i) c[i] = n[i];
      c[9] = buffer[0];
    }"""
    call = dict(grid=(3, 2, 5), block=(4, 8, 2), lds=48)
    got = launch(source, arch, level, "k", [np.zeros(10, np.uint32)], **call)[0]
    assert got.tolist() == [3, 2, 5, 4, 8, 2, 0, 3, 48, 9]


TO_LDS = """
  s_load_dwordx4 s[4:7], s[0:1], 0x0
  s_mov_b32 m0, 256
  v_lshlrev_b32 v1, {shift}, v0
  s_waitcnt lgkmcnt(0)
  s_mov_b32 s8, s4
  s_mov_b32 s9, s5
  s_movk_i32 s10, {bytes}
  s_mov_b32 s11, 0x00027000
  {load}
  s_waitcnt vmcnt(0)
  v_lshlrev_b32 v2, 2, v0
"""


@pytest.mark.parametrize(
    "load, words",
    [
        ("buffer_load_dword v1, s[8:11], 0 offen lds", 1),
        ("buffer_load_dwordx4 v1, s[8:11], 0 offen lds", 4),
        ("global_load_lds_dword v1, s[4:5]", 1),
        ("global_load_lds_dwordx4 v1, s[4:5]", 4),
    ],
)
def test_loads_into_lds(arch, load, words):
    """From M0 on, lane beside lane; out of a buffer's range comes zero."""
    if (words == 4 and arch != "gfx950") or ("global" in load and arch == "gfx90a"):
        pytest.skip(f"{arch} has no such instruction")
    size = 64 * words
    known = size - 24 if "buffer" in load else size  # dwords in the buffer's range
    body = TO_LDS.format(shift=2 if words == 1 else 4, load=load, bytes=4 * known)
    for i in range(words):
        body += f"""
  ds_read_b32 v3, v2 offset:{256 + 256 * i}
  s_waitcnt lgkmcnt(0)
  global_store_dword v2, v3, s[6:7] offset:{256 * i}"""
    text = toolchain.kernel_asm(body + "\n  s_waitcnt vmcnt(0)", args=2, lds=2048)
    x = np.arange(1, size + 1, dtype=np.uint32)
    device.option(check=1)
    buffers = [device.Buffer(x), device.Buffer(np.zeros_like(x))]
    device.Module(toolchain.compile_asm(text, arch)).launch("k", 1, 64, *buffers)
    np.testing.assert_array_equal(buffers[1].read(), np.where(x <= known, x, 0))


def test_groups_that_wait_for_each_other(arch):
    """Workgroup 0 waits for the last one: all of them must be resident."""
    source = """
    KERNEL void k(u32* flag, u32* c) {
      int last = (int)__builtin_amdgcn_grid_size_x() / BDIM - 1;
      if (BID == 0) while (__scoped_atomic_load_n(flag, __ATOMIC_ACQUIRE, __MEMORY_SCOPE_DEVICE) == 0) __builtin_amdgcn_s_sleep(1);
      if (BID == last && TID == 0) __scoped_atomic_store_n(flag, 1u, __ATOMIC_RELEASE, __MEMORY_SCOPE_DEVICE);
      if (TID == 0) c[BID] = BID + 1;
    }"""
    got = launch(
        source,
        arch,
        "-O3",
        "k",
        [np.zeros(1, np.uint32), np.zeros(16, np.uint32)],
        grid=16,
        block=64,
    )[1]
    assert (got == np.arange(16) + 1).all()


@pytest.mark.parametrize("quantum,seed", [(1, 0), (7, 3), (64, 9), (1000000, 0)])
def test_wave_order_does_not_matter(arch, quantum, seed):
    source = """
    KERNEL void k(const f32* a, f32* c, int n) {
      SHARED static f32 s[512];
      f32 x = 0;
      for (int i = TID; i < n; i += 512) x += a[i];
      s[TID] = x;
      SYNC;
      for (int h = 256; h; h /= 2) { if (TID < h) s[TID] += s[TID + h]; SYNC; }
      if (TID == 0) c[BID] = s[0];
    }"""
    a = rng().integers(0, 100, 5000).astype(np.float32)
    device.option(quantum=quantum, seed=seed)
    try:
        got = launch(
            source,
            arch,
            "-O3",
            "k",
            [a, np.zeros(2, np.float32)],
            scalars=[np.int32(5000)],
            grid=2,
            block=512,
        )[1]
    finally:
        device.option(quantum=16, seed=0)
    assert (got == a.sum()).all()


def test_errors_name_the_cause(arch):
    source = "KERNEL void k(f32* a) { a[TID * 1000000] = 1; }"
    with pytest.raises(
        device.EmulatorError, match=r"(?s)kernel k: lane \d+: .*4 bytes at .*global_store"
    ):
        launch(source, arch, "-O3", "k", [np.zeros(64, np.float32)], grid=1, block=64)
    with pytest.raises(device.EmulatorError, match="kernel k: trap"):
        launch(
            "KERNEL void k(int* a) { if (a[TID] == 0) __builtin_trap(); }",
            arch,
            "-O3",
            "k",
            [np.zeros(64, np.int32)],
            grid=1,
            block=64,
        )
    with pytest.raises(device.EmulatorError, match="block of 1025"):
        launch(source, arch, "-O3", "k", [np.zeros(64, np.float32)], grid=1, block=1025)
    other = "gfx950" if arch != "gfx950" else "gfx942"
    with pytest.raises(
        device.EmulatorError, match=f"is for {other}, the emulated device is {arch}"
    ):
        device.Module(toolchain.compile_hip(source, other))
    device.option(limit=1)
    try:
        with pytest.raises(device.EmulatorError, match="more than 1 million instructions"):
            launch(
                "KERNEL void k(volatile int* a) { while (a[0] == 0) {} }",
                arch,
                "-O3",
                "k",
                [np.zeros(1, np.int32)],
                grid=1,
                block=64,
            )
    finally:
        device.option(limit=0)
