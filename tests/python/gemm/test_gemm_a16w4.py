"""gemm_a16w4: every row on every case, for every instruction set. The tests are in group_gemm.py."""

import aiter
import numpy as np
import pytest
from group_gemm import GroupGemmTests, make_weight, reference


class TestGemmA16w4(GroupGemmTests):
    bits = 4
    op = "gemm_a16w4"

    def gemm(self, *args, **options):
        return aiter.gemm_a16w4(*args, **options)

    def pack(self, weight):
        return aiter.gemm_a16w4_pack(*weight)

    def unpack(self, packed):
        return aiter.gemm_a16w4_unpack(packed)


def test_no_minimum_stays_none():
    codes, scale, _ = make_weight(4, 20, 64, np.random.default_rng(0))
    packed = aiter.gemm_a16w4_pack(codes, scale)
    back = aiter.gemm_a16w4_unpack(packed)
    np.testing.assert_array_equal(back[0], codes)
    np.testing.assert_array_equal(back[1], scale)
    assert back[2] is None and not aiter.gemm_weight_info(packed).has_min


def test_symmetric_codes_are_exact():
    """GGUF's Q4_0, (code - 8) * scale, as min = -8 * scale: small whole numbers come out exact."""
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 256, (32, 32), dtype=np.uint8)
    scale = np.ones((32, 2), np.float16)
    x = np.eye(64, dtype=np.float32)
    got = aiter.gemm_a16w4(x, codes, scale, -8 * scale, activation="32bit")
    np.testing.assert_array_equal(got, reference(x, (codes, scale, -8 * scale)))
    assert got.min() == -8 and got.max() == 7


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"x": np.ones((2, 32), np.float32)}, "x has 32 columns, expected w's K = 64"),
        ({"x": np.ones((2, 64))}, "x has dtype float64, expected float32, float16 or bfloat16"),
        ({"x": np.ones((2, 128), np.float32)[:, ::2]}, "x has last stride 2, expected 1"),
        ({"w": np.ones((20, 32), np.int8)}, "w has dtype int8, expected uint8 or uint4x2"),
        ({"w": np.ones((20, 24), np.uint8)}, "w has shape .*, K = 48, expected a multiple of 32"),
        ({"w": np.ones(20, np.uint8)}, "w has rank 1 .*, expected rank 2"),
        ({"w_scale": None}, "w_scale is NULL"),
        ({"w_scale": np.ones((20, 3), np.float16)}, "w_scale has shape .*, expected .20, 2."),
        ({"w_scale": np.ones((20, 2), np.int8)}, "w_scale has dtype int8"),
        ({"w_min": np.ones((20, 2), np.float32)}, "w_min has dtype float32, expected w_scale's"),
        ({"bias": np.ones(19, np.float32)}, "bias has shape .*, expected .20,."),
        ({"bias": np.ones(20, np.float16)}, "bias has dtype float16, expected x's float32"),
        ({"out": np.ones((2, 19), np.float32)}, "y differs from the expected shape"),
        ({"out": np.ones((2, 20), np.int8)}, "y has dtype int8"),
        ({"activation": "4bit"}, "opts.activation is -1, expected 0 .16 bits."),
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(v),
)
def test_bad_input(arguments, message):
    out = np.full((2, 20), 7, np.float32)
    call = {
        "x": np.ones((2, 64), np.float32),
        "w": np.zeros((20, 32), np.uint8),
        "w_scale": np.ones((20, 2), np.float16),
        "w_min": np.ones((20, 2), np.float16),
        "out": out,
    } | arguments
    with pytest.raises(ValueError, match="gemm_a16w4: " + message):
        aiter.gemm_a16w4(**call)
    assert (out == 7).all()


def test_packed_weights_come_alone():
    packed = aiter.gemm_a16w4_pack(np.zeros((20, 32), np.uint8), np.ones((20, 2), np.float16))
    with pytest.raises(ValueError, match="w_min is given, expected NULL with packed weights"):
        aiter.gemm_a16w4(np.ones((2, 64), np.float32), packed, None, np.ones((20, 2), np.float16))


def test_explain():
    x, w, scale = np.ones((2, 64), np.float32), np.zeros((20, 32), np.uint8), np.ones((20, 2), "f2")
    text = aiter.explain(aiter.gemm_a16w4, x, w, scale, activation="32bit")
    assert text.startswith("gemm_a16w4: cpu_simd on cpu (")
    assert "cpu_vnni: refused, needs m.isa == Isa::kAvx512" in text
