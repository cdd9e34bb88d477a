"""gemm_a16w8: every row on every case, for every instruction set. The tests are in group_gemm.py."""

import aiter
import numpy as np
import pytest
from group_gemm import GroupGemmTests


class TestGemmA16w8(GroupGemmTests):
    bits = 8
    op = "gemm_a16w8"

    def gemm(self, *args, **options):
        return aiter.gemm_a16w8(*args, **options)

    def pack(self, weight):
        return aiter.gemm_a16w8_pack(*weight[:2])

    def unpack(self, packed):
        return aiter.gemm_a16w8_unpack(packed)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"x": np.ones((2, 32), np.float32)}, "x has 32 columns, expected w's K = 64"),
        ({"w": np.ones((20, 64), np.uint8)}, "w has dtype uint8, expected int8"),
        ({"w": np.ones((20, 48), np.int8)}, "w has shape .*, K = 48, expected a multiple of 32"),
        ({"w_scale": np.ones((20, 3), np.float16)}, "w_scale has shape .*, expected .20, 2."),
        ({"bias": np.ones(19, np.float32)}, "bias has shape .*, expected .20,."),
        ({"out": np.ones((3, 20), np.float32)}, "y differs from the expected shape"),
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(v),
)
def test_bad_input(arguments, message):
    out = np.full((2, 20), 7, np.float32)
    call = {
        "x": np.ones((2, 64), np.float32),
        "w": np.zeros((20, 64), np.int8),
        "w_scale": np.ones((20, 2), np.float16),
        "out": out,
    } | arguments
    with pytest.raises(ValueError, match="gemm_a16w8: " + message):
        aiter.gemm_a16w8(**call)
    assert (out == 7).all()
