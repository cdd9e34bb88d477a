"""Problems, data, float64 reference and tests that gemm_a16w4 and gemm_a16w8 share."""

import aiter
import numpy as np
import pytest
from aiter.testing import Case, assert_close, bound, dtype_of, isas, using, variants

GROUP = 32
DTYPES = ("bf16", "fp16", "fp32")
# How far an x may be off, as a part of its group's largest |x|; from include/aiter/gemm.h.
STEP = {"32bit": 0.0, "16bit": 1 / 64000, "8bit": 1 / 250}
MODEL_NK = ((960, 576), (576, 576), (3072, 576), (576, 1536))  # SmolLM2-135M


def problems(bits):
    """The cases of the operator with weights of `bits` bits."""
    cases = [
        *(Case("smoke", m=5, n=48, k=96, dtype=d, activation=a) for d in DTYPES for a in STEP),
        # Around the tile: 4 rows of x by 32 rows of w, panels of 16.
        *(Case("edge", m=m, n=33, k=64, dtype="fp32") for m in (1, 2, 3, 4, 6, 7, 8, 9)),
        *(Case("edge", m=5, n=n, k=64, dtype="bf16") for n in (1, 15, 16, 17, 31, 32, 49)),
        *(Case("edge", m=2, n=20, k=k, dtype="fp32") for k in (32, 160)),
        *(
            Case("edge", m=m, n=n, k=k, dtype="bf16")
            for m, n, k in ((0, 8, 32), (3, 0, 32), (3, 8, 0))
        ),
        *(Case("edge", m=3, n=20, k=64, dtype="fp16", scale=s) for s in DTYPES),
        *(Case("edge", m=3, n=20, k=64, dtype=d, bias=b) for d in DTYPES for b in (d, "fp32")),
        *(Case("edge", m=3, n=20, k=64, dtype="bf16", out=o) for o in DTYPES),
        *(Case("edge", m=5, n=20, k=64, dtype=d, layout="strided") for d in DTYPES),
        *(
            Case("edge", m=6, n=20, k=64, dtype="fp32", values=v)
            for v in ("tiny", "huge", "special")
        ),
        *(Case("model", m=m, n=n, k=k, dtype="fp32") for m in (1, 6) for n, k in MODEL_NK),
        Case("model", m=131, n=96, k=576, dtype="bf16"),
    ]
    if bits == 4:
        cases.append(Case("edge", m=3, n=20, k=64, dtype="bf16", min=False))
        shapes = MODEL_NK
    else:
        shapes = ((49152, 576),)
    cases += [
        Case("perf", m=m, n=n, k=k, dtype="fp32", activation=a)
        for n, k in shapes
        for m, a in ((1, "16bit"), (4, "16bit"), (8, "16bit"), (512, "16bit"), (512, "8bit"))
        if bits == 4 or m <= 8
    ]
    return cases


def make_weight(bits, n, k, rng, scale="fp16", min=True):
    """(codes, scale, min); min is None for 8 bits or min=False."""
    scales = (rng.random((n, k // GROUP)) * 0.01 + 0.001).astype(dtype_of(scale))
    if bits == 8:
        return rng.integers(-128, 128, (n, k), dtype=np.int8), scales, None
    codes = rng.integers(0, 256, (n, k // 2), dtype=np.uint8)
    mins = (-scales.astype(np.float64) * rng.integers(0, 16, scales.shape)).astype(scales.dtype)
    return codes, scales, mins if min else None


def make(bits, case, seed=0):
    """(x, (codes, scale, min), bias) of a case; bias is None unless it asks for one."""
    rng = np.random.default_rng(seed)
    dtype = dtype_of(case.dtype)
    wide = case.k + (8 if case.get("layout") == "strided" else 0)
    x = rng.standard_normal((case.m, wide))
    x[:, : max(wide // 100, 1)] *= 50  # outliers, as activations have
    x = x.astype(dtype)[:, : case.k]
    values = case.get("values")
    if values == "tiny":
        x = x * np.float32(1e-36)
    elif values == "huge":
        x = x * np.float32(1e34)
    elif values == "special":
        x[1, 3], x[2, 40], x[4, 63] = np.inf, -np.inf, np.nan
        x[5] = 0
    weight = make_weight(
        bits, case.n, case.k, rng, case.get("scale", "fp16"), case.get("min", True)
    )
    if case.get("layout") == "strided":
        weight = tuple(t if t is None else strided_rows(t) for t in weight)
    bias = case.get("bias")
    if bias is not None:
        bias = rng.standard_normal(case.n).astype(dtype_of(bias))
    return x, weight, bias


def strided_rows(t):
    """The same values in rows that lie apart."""
    wide = np.full((t.shape[0], t.shape[1] + 5), 77, t.dtype)
    wide[:, : t.shape[1]] = t
    return wide[:, : t.shape[1]]


def dequantize(weight):
    """The matrix in float64, and the magnitude of the terms that each element is the sum of."""
    codes, scale, min = weight
    if codes.dtype == np.uint8:
        codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(codes), 2 * codes.shape[1])
    scale = np.repeat(scale.astype(np.float64), GROUP, axis=1)
    min = 0.0 if min is None else np.repeat(min.astype(np.float64), GROUP, axis=1)
    return codes * scale + min, np.abs(codes * scale) + np.abs(min)


def reference(x, weight, bias=None):
    """From the contract in include/aiter/gemm.h."""
    y = x.astype(np.float64) @ dequantize(weight)[0].T
    return y if bias is None else y + bias.astype(np.float64)


def tolerance(x, weight, bias, dtype, step):
    """The `scale` for assert_close: what is summed up, and what the rounding of x may change."""
    with np.errstate(invalid="ignore"):
        magnitude = np.abs(x.astype(np.float64))
        w, parts = dequantize(weight)
        scale = magnitude @ parts.T
        if bias is not None:
            scale += np.abs(bias.astype(np.float64))
        m, k = x.shape
        largest = magnitude.reshape(m, k // GROUP, GROUP).max(-1, initial=0)
        rounding = step * np.repeat(largest, GROUP, axis=1) @ np.abs(w).T
        return np.nan_to_num(scale + rounding / bound(dtype, k), posinf=0)


ROWS = [(row, place) for row, place in variants("gemm_a16w4")
        if row != "cpu_vnni" or place == "avx512"]  # fmt: skip


class GroupGemmTests:
    """Subclasses name the operator: `bits`, and what is called."""

    bits: int
    op: str
    gpu = False  # the row of this test runs on a GPU
    gemm = pack = unpack = None

    def call(self, x, weight, bias, packed, **options):
        if packed and not self.gpu:  # GPUs take the row-major form
            return self.gemm(x, self.pack(weight), bias=bias, **options)
        if self.bits == 4:
            return self.gemm(x, *weight, bias, **options)
        return self.gemm(x, *weight[:2], bias, **options)

    @pytest.fixture(params=ROWS, ids="-".join)
    def row(self, request):
        type(self).gpu = ":" in request.param[1]
        with using(self.op, *request.param):
            yield request.param[0]
        type(self).gpu = False

    @pytest.mark.parametrize("packed", [True, False], ids=["packed", "rowmajor"])
    @pytest.mark.parametrize("tag", ["smoke", "edge", "model"])
    def test_values(self, row, packed, tag):
        for case in (c for c in problems(self.bits) if c.tag == tag):
            x, weight, bias = make(self.bits, case)
            activation = case.get("activation", "16bit")
            if row == "cpu_vnni" and activation == "32bit":
                with pytest.raises(NotImplementedError, match="needs m.isa == Isa::kAvx512"):
                    self.call(x, weight, bias, packed, activation=activation)
                continue
            dtype = dtype_of(case.get("out", case.dtype))
            got = self.call(x, weight, bias, packed, activation=activation, dtype=dtype.name)
            assert got.dtype == dtype
            with np.errstate(invalid="ignore"):
                want = reference(x, weight, bias)
            if row == "cpu_vnni":
                want[~np.isfinite(x.astype(np.float64)).all(-1)] = np.nan
            step = STEP[activation] if row == "cpu_vnni" else 0
            scale = tolerance(x, weight, bias, dtype, step)
            assert_close(got, want, terms=case.k, scale=scale, what=str(case))

    def test_leading_dimensions_and_out(self, row):
        """x (2, 3, K) of a wider tensor, y a slice of a fused output; the rest stays as it was."""
        rng = np.random.default_rng(1)
        weight = make_weight(self.bits, 20, 64, rng)
        x = rng.standard_normal((2, 4, 70)).astype(np.float32)[:, 1:, :64]
        fused = np.full((2, 3, 50), 7, np.float32)
        y = self.call(x, weight, None, True, out=fused[..., 10:30])
        want = reference(x.reshape(6, 64), weight).reshape(2, 3, 20)
        scale = tolerance(x.reshape(6, 64), weight, None, y.dtype, STEP["16bit"]).reshape(2, 3, 20)
        assert_close(fused[..., 10:30], want, terms=64, scale=scale)
        assert (fused[..., :10] == 7).all() and (fused[..., 30:] == 7).all()

    def test_vector(self, row):
        rng = np.random.default_rng(1)
        weight = make_weight(self.bits, 20, 64, rng)
        x = rng.standard_normal(64).astype(np.float32)
        y = self.call(x, weight, None, True)
        assert y.shape == (20,)
        np.testing.assert_array_equal(y, self.call(x[None], weight, None, True)[0])

    def test_rows_are_independent(self, row):
        """A row's result does not depend on the batch, the packing or the number of threads."""
        rng = np.random.default_rng(2)
        weight = make_weight(self.bits, 200, 576, rng)
        x = rng.standard_normal((37, 576)).astype(np.float32)
        whole = self.call(x, weight, None, True)
        np.testing.assert_array_equal(self.call(x, weight, None, False), whole)
        for i in (0, 5, 36):
            np.testing.assert_array_equal(self.call(x[i : i + 1], weight, None, True)[0], whole[i])
        for threads in (1, 3):
            with using(threads=threads):
                np.testing.assert_array_equal(self.call(x, weight, None, True), whole)

    @pytest.mark.parametrize("scale", DTYPES)
    @pytest.mark.parametrize("isa", isas())
    def test_unpack_is_the_inverse(self, scale, isa):
        for n, k in ((1, 32), (16, 64), (37, 96), (0, 32), (5, 0)):
            weight = make_weight(self.bits, n, k, np.random.default_rng(3), scale)
            with using(isa=isa):
                packed = self.pack(weight)
                back = self.unpack(packed)
            for got, want in zip(back, weight, strict=False):
                np.testing.assert_array_equal(got, want)
                assert got.dtype == want.dtype
            info = aiter.gemm_weight_info(packed)
            expected = (self.bits, n, k, -(-n // 16) * 16, dtype_of(scale).name, self.bits == 4)
            assert info == expected

    def test_the_bound_would_notice(self):
        """Negative controls: a gain of 1 %, a dropped group, x rounded to 8 bits."""
        rng = np.random.default_rng(4)
        weight = make_weight(self.bits, 40, 576, rng)
        x = rng.standard_normal((4, 576)).astype(np.float32)
        want = reference(x, weight)
        scale = tolerance(x, weight, None, np.dtype(np.float32), STEP["16bit"])
        assert_close(want.astype(np.float32), want, terms=576, scale=scale)
        dropped = reference(x[:, :544], [t[:, : t.shape[1] * 544 // 576] if t is not None else None
                                         for t in weight])  # fmt: skip
        d = np.abs(x.reshape(4, -1, GROUP)).max(-1, keepdims=True) / 127
        coarse = (np.round(x.reshape(4, -1, GROUP) / d) * d).reshape(x.shape)
        for wrong in (want * 1.01, dropped, reference(coarse, weight)):
            with pytest.raises(AssertionError):
                assert_close(wrong.astype(np.float32), want, terms=576, scale=scale)

    def test_wrong_packed_weights_are_refused(self):
        rng = np.random.default_rng(5)
        weight = make_weight(self.bits, 20, 64, rng)
        packed = self.pack(weight)
        x = np.ones((2, 64), np.float32)
        out = np.full((2, 20), 7, np.float32)

        def refused(w, message):
            with pytest.raises(ValueError, match=message):
                self.gemm(x, w, out=out)
            assert (out == 7).all()

        refused(packed[:-1], "expected .* for its N = 20, K = 64")
        refused(packed[:40], "expected packed weights")
        refused(np.zeros_like(packed), "does not begin with the description")
        # version, bits, n, k, padded n, scale dtype, the reserved end
        for at, bit in ((8, 1), (12, 1), (16, 64), (24, 1), (32, 1), (40, 16), (60, 1)):
            damaged = packed.copy()
            damaged[at] ^= bit
            refused(damaged, "layout version" if at == 8 else "damaged description")
        other = make_weight(12 - self.bits, 20, 64, rng)
        if self.bits == 4:
            refused(aiter.gemm_a16w8_pack(*other[:2]), "packed for gemm_a16w8")
        else:
            refused(aiter.gemm_a16w4_pack(*other), "packed for gemm_a16w4")
        with pytest.raises(ValueError, match="x has 96 columns, expected w's K = 64"):
            self.gemm(np.ones((2, 96), np.float32), packed, out=out)


def bench_main(bits):
    """Time of each perf case, over as many copies of the weights as exceed the caches."""
    from aiter.testing import bench

    ceilings = {"GB/s": bench.read_rate() / 1e9}
    print(f"{bench.machine()}; read {ceilings['GB/s']:.1f} GB/s")
    for case in (c for c in problems(bits) if c.tag == "perf"):
        x, weight, _ = make(bits, case)
        packed = aiter.gemm_a16w4_pack(*weight) if bits == 4 else aiter.gemm_a16w8_pack(*weight[:2])
        copies = [packed.copy() for _ in range(max(2, (96 << 20) // packed.nbytes))]
        gemm = aiter.gemm_a16w4 if bits == 4 else aiter.gemm_a16w8
        out = np.empty((case.m, case.n), np.float32)

        def run(gemm=gemm, x=x, copies=copies, out=out, activation=case.activation):
            for w in copies:
                gemm(x, w, out=out, activation=activation)

        seconds = bench.sample(run)[0] / len(copies)
        moved = packed.nbytes + x.nbytes + out.nbytes
        bench.report(f"gemm_a16w{bits}", case, seconds, moved=moved if case.m <= 8 else 0,
                     flops=2 * case.m * case.n * case.k, ceilings=ceilings)  # fmt: skip
