"""AITER's names of torch dtypes. On AMD gfx942 `fp8` is e4m3fnuz, everywhere else e4m3fn."""

import torch

fp32 = torch.float32
fp16 = torch.float16
bf16 = torch.bfloat16
i8 = torch.int8
i16 = torch.int16
i32 = torch.int32
i64 = torch.int64
u8 = torch.uint8
u32 = torch.uint32
fp8_e4m3fn = torch.float8_e4m3fn
fp8_e4m3fnuz = torch.float8_e4m3fnuz
fp8_e8m0 = getattr(torch, "float8_e8m0fnu", torch.uint8)
fp4x2 = getattr(torch, "float4_e2m1fn_x2", torch.uint8)
i4x2 = torch.uint8


def __getattr__(name):
    """`fp8`, the 8-bit type that the current device multiplies."""
    if name != "fp8":
        raise AttributeError(name)
    native = "e4m3fn"
    if torch.version.hip and torch.cuda.is_available():
        arch = torch.cuda.get_device_properties(torch.cuda.current_device()).gcnArchName
        if arch.startswith("gfx94"):
            native = "e4m3fnuz"
    return getattr(torch, f"float8_{native}")
