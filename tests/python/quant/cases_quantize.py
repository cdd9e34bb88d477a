"""Problems, data and exact reference of quantize (and, back again, of dequantize)."""

import math

import ml_dtypes
import numpy as np
from aiter.testing import Case, dtype_of

INT8 = "int8"
FP8 = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
FP4 = "float4_e2m1fnx2"
FP6 = ("float6_e2m3fnx4", "float6_e3m2fnx4")
INT4 = "int4x2"
MAX = {
    INT8: 127.0,
    FP8[0]: 448.0,
    FP8[1]: 240.0,
    FP8[2]: 57344.0,
    FP8[3]: 57344.0,
    FP4: 6.0,
    FP6[0]: 7.5,
    FP6[1]: 28.0,
    INT4: 7.0,
}
MANTISSA = {FP8[0]: 3, FP8[1]: 3, FP8[2]: 2, FP8[3]: 2, FP4: 1, FP6[0]: 3, FP6[1]: 2}
E8M0, E4M3 = "float8_e8m0fnu", "float8_e4m3fn"
FLOAT_MAX = np.float32(np.finfo(np.float32).max)

CASES = [
    *(Case("smoke", shape=(5, 256), code=c) for c in (INT8, *FP8, FP4, *FP6, INT4)),
    *(Case("smoke", shape=(5, 256), code=INT8, dtype=d) for d in ("fp16", "fp32")),
    *(Case("smoke", shape=(5, 256), code=c, group=(0, 0)) for c in (INT8, FP8[0])),
    *(Case("smoke", shape=(5, 256), code=FP8[0], group=(1, g)) for g in (32, 64, 128)),
    Case("smoke", shape=(256, 384), code=FP8[0], group=(128, 128)),
    *(Case("smoke", shape=(9, 128), code=c, group=(1, 32), scale=E8M0, round=r)
      for c in (FP4, *FP8, *FP6) for r in range(5)),
    Case("smoke", shape=(9, 128), code=INT4, group=(1, 32), scale="bfloat16"),
    Case("smoke", shape=(9, 128), code=FP4, group=(1, 16), scale=E4M3),
    Case("edge", shape=(9, 128), code=FP4, group=(1, 16), scale=E4M3, global_scale=0.01),
    # One below, at and above the vector width; short last groups and blocks.
    *(Case("edge", shape=(3, n), code=INT8) for n in (1, 7, 8, 9, 15, 16, 17, 1023, 1025, 2049)),
    *(Case("edge", shape=(3, n), code=FP4, group=(1, 32), scale=E8M0) for n in (2, 30, 34, 2050)),
    *(Case("edge", shape=(3, n), code=FP6[0], group=(1, 32), scale=E8M0) for n in (4, 28, 36, 2052)),
    *(Case("edge", shape=s, code=FP4, group=(1, 32), scale=E8M0, layout="shuffled")
      for s in ((40, 320), (2, 3, 256), (300, 64))),
    Case("edge", shape=(40, 100), code=INT8, layout="shuffled"),
    *(Case("edge", shape=(3, n), code=c, group=(1, g))
      for c in (FP8[0], FP4) for g in (16, 32, 64, 128) for n in (8, 104, 264)),
    Case("edge", shape=(130, 200), code=FP8[0], group=(128, 128)),
    Case("edge", shape=(3, 9000), code=FP8[0], dtype="fp32", group=(1, 128)),
    Case("edge", shape=(3, 20000), code=INT8),
    Case("edge", shape=(130, 70), code=FP8[1], group=(7, 0)),
    Case("edge", shape=(130, 70), code=FP8[1], group=(0, 9)),
    Case("edge", shape=(1, 1), code=INT8, group=(0, 0)),
    Case("edge", shape=(64,), code=INT8),
    Case("edge", shape=(2, 3, 40), code=FP8[0], group=(1, 20)),
    *(Case("edge", shape=s, code=INT8) for s in ((0, 64), (4, 0))),
    Case("edge", shape=(33, 100), code=INT8, smooth=True),
    *(Case("edge", shape=(33, 100), code=c, num_rows=20) for c in (INT8, FP8[0])),
    Case("edge", shape=(33, 100), code=INT8, group=(0, 0), num_rows=20),
    Case("edge", shape=(33, 100), code=INT8, num_rows=0),
    Case("edge", shape=(33, 104), code=INT8, num_rows=4, factor=5),
    Case("edge", shape=(33, 104), code=INT8, smooth=True),
    Case("edge", shape=(9, 64), code=FP8[0], scale_ub=0.5),
    *(Case("edge", shape=(9, 64), code=c, static=True) for c in (INT8, FP8[0])),
    Case("edge", shape=(9, 64), code=FP8[0], group=(1, 32), scale=E8M0, static=True),
    *(Case("edge", shape=(9, 64), code=c, values=v, dtype="fp32")
      for c in (INT8, *FP8, FP4, *FP6, INT4) for v in ("zeros", "special", "tiny", "denormal", "huge")),
    *(Case("edge", shape=(9, 64), code=c, group=(1, 32), scale=E8M0, values=v, dtype="fp32")
      for c in (FP4, FP8[0], FP6[1]) for v in ("zeros", "special", "tiny", "denormal", "huge")),
    *(Case("edge", shape=(400, 64), code=c, values="ties", group=(0, 0), dtype="fp32", static=True)
      for c in (INT8, *FP8, FP4, *FP6, INT4)),
    # Whole rows of the vector kernels, of all that a bf16 can be; "near": within a group, too.
    *(Case("model", shape=(128, 512), code=c, group=(1, g), scale=s, values=v, dtype=d)
      for c, g, s in ((FP4, 32, E8M0), (FP4, 16, E4M3), (FP8[0], 32, E8M0), (FP6[0], 32, E8M0),
                      (INT4, 32, "float32"))
      for v, d in (("bits", "bf16"), ("near", "bf16"), ("near", "fp32"))),
    Case("model", shape=(300, 640), code=FP8[0], group=(128, 128), values="near"),
    Case("model", shape=(17, 7168), code=FP8[0], group=(1, 128)),
    Case("model", shape=(17, 4096), code=INT8),
    *(Case("perf", shape=(8192, 4096), code=c, group=g, scale=s)
      for c, g, s in ((INT8, (1, 0), "float32"), (FP8[0], (1, 0), "float32"),
                      (FP8[0], (1, 128), "float32"), (INT8, (0, 0), "float32"),
                      (FP8[0], (128, 128), "float32"), (FP8[0], (1, 32), E8M0),
                      (FP4, (1, 32), E8M0), (FP4, (1, 16), E4M3), (INT4, (1, 32), "float32"))),
    *(Case("perf", shape=(n, 4096), code=c) for n in (1, 16) for c in (INT8, FP8[0])),
]  # fmt: skip


def make(case, seed=0):
    """(x, options of aiter.quantize) of a case."""
    rng = np.random.default_rng(seed)
    shape = case.shape
    x = rng.standard_normal(shape).astype(np.float32)
    match case.get("values"):
        case "zeros":
            x[...] = 0
            x[1::2] *= -1
        case "special":
            x[0, 3], x[1, 5], x[2, 7], x[3] = np.inf, -np.inf, np.nan, np.nan
        case "tiny":
            x *= np.float32(1e-37)
        case "denormal":
            x *= np.float32(1e-41)
        case "huge":
            x *= np.float32(1e38)
        case "bits":
            x = rng.permutation(1 << 16).astype(np.uint16)
            x[(x & 0x7FFF) > 0x7F80] &= 0x7FFF  # the sign of a NaN is no matter
            x = x.reshape(shape).view(dtype_of("bf16"))
        case "near":
            bits = rng.integers(0, 128, shape) | rng.integers(120, 132, shape) << 7
            bits |= rng.integers(0, 2, shape) << 15
            x = bits.astype(np.uint16).view(dtype_of("bf16"))
        case "ties":  # quarters of small integers: every rounding tie of every format is among them
            x = (np.arange(x.size, dtype=np.float32).reshape(shape) - x.size // 2) / 4
    x = x.astype(dtype_of(case.get("dtype", "bf16")))
    group = case.get("group", (1, 0))
    options = {"group": group, "quant_dtype": case.code}
    if "scale" in case:
        options["scale_dtype"] = case["scale"]
    if "round" in case:
        options["round_mode"] = case["round"]
    if "global_scale" in case:
        options["global_scale"] = case.global_scale
    if "scale_ub" in case:
        options["scale_ub"] = case.scale_ub
    if case.get("smooth"):
        options["smooth"] = rng.random(shape[-1]).astype(np.float32)
    if "num_rows" in case:
        options["num_rows"] = np.array([case.num_rows], np.int32)
    if "factor" in case:
        options["num_rows_factor"] = case.factor
    if "layout" in case:
        options["scale_layout"] = case.layout
    if case.get("static"):
        scale = np.ones(scale_shape(shape, group), np.float32)
        if case.get("values") != "ties":
            scale = 2.0 ** rng.integers(-4, 0, scale.shape)
            if case.get("scale") != E8M0:
                scale = scale * 1.1
        options["scale"] = scale.astype(dtype_of(case.get("scale", "float32")))
    return x, options


def scale_shape(shape, group):
    rows, cols = group
    group_cols = -(-shape[-1] // cols) if cols else 1
    if rows == 1:
        return (*shape[:-1], group_cols)
    if group == (0, 0):
        return (1,)
    return (-(-shape[0] // rows) if rows else 1, group_cols)


def mx_scale(amax, code, mode):
    """The e8m0 exponent, from exact integer and rational arithmetic on amax."""
    if amax == 0:
        return 0
    largest = MAX[code]
    emax = int(np.floor(np.log2(largest)))
    mantissa, exponent = np.frexp(np.float64(amax))  # amax = mantissa * 2^exponent, mantissa < 1
    floor = int(exponent) - 1
    if mode == 0:
        e = floor - emax
    elif mode == 1:
        ratio, power = np.frexp(np.float64(amax) / largest)
        exact = amax == largest * 2.0 ** (int(power) - 1)
        e = int(power) - 1 if exact else int(power)
        assert 2.0**e * largest >= amax > 2.0 ** (e - 1) * largest
    elif mode in (2, 4):
        # round the mantissa, in [1, 2), half up, to the element's (fp4's) bits; it may become 2
        steps = 2.0 ** MANTISSA[code if mode == 2 else FP4]
        rounded = np.floor(mantissa * 2 * steps + 0.5) / steps
        e = floor + (1 if rounded >= 2 else 0) - emax
    else:
        e = floor + (mantissa != 0.5) - emax
    return int(np.clip(e, -127, 127))


SMALL = {FP4: ml_dtypes.float4_e2m1fn, FP6[0]: ml_dtypes.float6_e2m3fn,
         FP6[1]: ml_dtypes.float6_e3m2fn}  # fmt: skip


def pack(codes, bits):
    """Codes of 4 or 6 bits as bytes, the first in the lowest bits."""
    together = {4: 2, 6: 4}[bits]
    words = codes.astype(np.uint32).reshape(*codes.shape[:-1], -1, together)
    words = (words << (bits * np.arange(together, dtype=np.uint32))).sum(-1, dtype=np.uint32)
    each = np.stack(
        [words >> np.uint32(8 * i) & np.uint32(255) for i in range(bits * together // 8)], axis=-1
    )
    return each.astype(np.uint8).reshape(*codes.shape[:-1], -1)


def unpack(packed, bits):
    """The inverse of pack."""
    together, size = {4: (2, 1), 6: (4, 3)}[bits]
    each = packed.astype(np.uint32).reshape(*packed.shape[:-1], -1, size)
    words = sum(each[..., i] << np.uint32(8 * i) for i in range(size))
    codes = words[..., None] >> (bits * np.arange(together, dtype=np.uint32)) & np.uint32(
        (1 << bits) - 1
    )
    return codes.astype(np.uint8).reshape(*packed.shape[:-1], -1)


def shuffle(scale):
    """AITER's e8m0 shuffle of (rows, columns): (shuffled, where padding is), padded to 256 and 8."""
    rows, cols = scale.shape
    padded = np.zeros((-(-rows // 256) * 256, -(-cols // 8) * 8), scale.dtype)
    there = np.zeros(padded.shape, bool)
    padded[:rows, :cols] = scale
    there[:rows, :cols] = True

    def move(x):
        x = x.reshape(x.shape[0] // 32, 2, 16, x.shape[1] // 8, 2, 4)
        return x.transpose(0, 3, 5, 2, 4, 1).reshape(padded.shape)

    return move(padded), ~move(there)


def encode(v, code):
    """Codes of float32 numbers, by ml_dtypes' own rounding; two a byte for fp4."""
    if code == INT8:
        v = np.where(np.isnan(v), np.float32(0), v)
        return np.clip(np.rint(v), -127, 127).astype(np.int8)
    v = np.clip(v, -MAX[code], MAX[code])  # keeps NaN
    if code == INT4:
        v = np.where(np.isnan(v), np.float32(0), v)
        return pack(np.rint(v).astype(np.int8).view(np.uint8) & 15, 4)
    if code == FP4 or code in FP6:
        v = np.where(np.isnan(v), np.float32(MAX[code]), v)
        bits = 4 if code == FP4 else 6
        return pack(v.astype(SMALL[code]).view(np.uint8) & (1 << bits) - 1, bits)
    return v.astype(dtype_of(code))


def reference(x, group, quant_dtype, scale=None, scale_dtype="float32", smooth=None,
              num_rows=None, scale_ub=np.inf, round_mode=1, global_scale=1.0, num_rows_factor=1,
              scale_layout="strided"):  # fmt: skip
    """(codes, scale) in single precision, operation by operation, as include/aiter/quant.h says.

    Rows from num_rows on are left out. Scales are not shuffled.
    """
    f32 = np.float32
    code = quant_dtype
    v = x.astype(f32)
    if smooth is not None:
        v = v * smooth
    lead = v.shape[:-1]
    v = v.reshape(math.prod(lead), v.shape[-1])
    if num_rows is not None:
        v = v[: max(num_rows[0] * num_rows_factor, 0)]
        lead = (len(v),)
    rows, cols = v.shape
    group_rows, group_cols = group[0] or max(rows, 1), group[1] or max(cols, 1)
    factors = np.empty(v.shape, f32)
    scales = np.empty((-(-rows // group_rows), -(-cols // group_cols)), dtype_of(scale_dtype))
    if scale is not None:
        scales = np.asarray(scale).reshape(scales.shape)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            at = np.s_[i * group_rows : (i + 1) * group_rows, j * group_cols : (j + 1) * group_cols]
            magnitude = np.abs(v[at])
            magnitude = magnitude[~np.isnan(magnitude)]
            amax = min(magnitude.max(initial=f32(0)), FLOAT_MAX)
            amax = f32(min(amax, scale_ub))
            if scale is not None:
                factor = f32(1) / scales[i, j].astype(f32)
            elif scale_dtype == E8M0:
                e = mx_scale(amax, code, round_mode)
                scales[i, j] = 2.0**e
                factor = f32(2.0**-e)
            elif scale_dtype == E4M3:
                value = min(amax / (f32(6) * f32(global_scale)), f32(448))
                scales[i, j] = value
                whole = scales[i, j].astype(f32) * f32(global_scale)
                factor = f32(1) / whole if whole > 0 else f32(0)
            else:
                s = amax / f32(MAX[code])
                s = max(s, f32(2.0**-126)) if amax > 0 else f32(1)
                scales[i, j] = s
                factor = f32(1) / s
            factors[at] = factor
    with np.errstate(invalid="ignore", over="ignore"):
        codes = encode(v * factors, code)
    codes = codes.reshape(*lead, codes.shape[-1])
    return codes, scales if group[0] != 1 else scales.reshape(*lead, scales.shape[1])


def decode(codes, scale, group, quant_dtype, global_scale=1.0):
    """code * scale in float64."""
    if quant_dtype in SMALL:
        codes = unpack(codes, 4 if quant_dtype == FP4 else 6).view(SMALL[quant_dtype])
    elif quant_dtype == INT4:
        codes = (unpack(codes, 4) ^ 8).astype(np.int8) - 8
    values = codes.astype(np.float64)
    rows, cols = math.prod(values.shape[:-1]), values.shape[-1]
    s = np.asarray(scale).astype(np.float64).reshape(scale_shape((rows, cols), group))
    if s.shape != (1,):
        s = np.repeat(s, group[0] or rows, axis=0)[:rows]
        s = np.repeat(s, group[1] or cols, axis=1)[:, :cols].reshape(values.shape)
    return values * s * global_scale
