"""Problems of dequantize: those of quantize, back again."""

from cases_quantize import CASES as QUANTIZE
from cases_quantize import (
    E4M3,
    E8M0,
    FP4,
    FP6,
    FP8,
    INT4,
    INT8,
    decode,
    make,
    reference,
    scale_shape,
    shuffle,
)  # fmt: skip

__all__ = ["CASES", "E4M3", "E8M0", "FP4", "FP6", "FP8", "INT4", "INT8", "decode", "make", "reference",
           "scale_shape", "shuffle"]  # fmt: skip

CASES = [c for c in QUANTIZE if "num_rows" not in c and not c.get("static")]
