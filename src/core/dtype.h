// The dtypes that operators take, as one small enum for problems, arguments and kernels.
#pragma once

#ifdef AITER_DEVICE_CODE
#include "ck/core/prelude.h"
#define AITER_HOST_DEVICE AITER_DEVICE
#else
#include <cstdint>

#include "aiter/tensor.h"
// Functions that host code and kernels share. Always inlined: a copy of its own would be compiled
// for one instruction set and linked for all.
#define AITER_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace aiter {

enum class DType : int32_t {
  kNone = 0,
  kF32,
  kF16,
  kBF16,
  kI8,
  kU8,
  kI32,
  kI64,
  kF8E4M3FN,
  kF8E4M3FNUZ,
  kF8E5M2,
  kF8E5M2FNUZ,
  kF8E8M0,
  kU4x2,      // two unsigned 4-bit codes a byte, the lower nibble first
  kI4x2,      // two signed 4-bit codes a byte
  kF4E2M1x2,  // two fp4 codes a byte
  kF6E2M3x4,  // four fp6 codes in three bytes, the first in the lowest bits
  kF6E3M2x4,
  kF64,
  kI16,
  kBool,
};

#ifndef AITER_DEVICE_CODE
DType dtype_of(aiter_dtype dtype);  // kNone for one that no operator takes
const char* dtype_name(DType dtype);
int64_t dtype_bytes(DType dtype);
// The name of any DLPack dtype, for messages: "float64", "int4x2", "code 77 bits 3 lanes 9".
const char* dtype_name(aiter_dtype dtype, char (&buffer)[48]);
#endif

// 16-bit floats are stored bits; conversions are in src/simd and src/ck/core.
struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

}  // namespace aiter
