#include "core/dtype.h"

#include <cstdio>

namespace aiter {
namespace {
struct Entry {
  DType dtype;
  uint8_t code, bits;
  uint16_t lanes;
  const char* name;
  int64_t bytes;
};
constexpr Entry kEntries[] = {
    {DType::kF32, AITER_CODE_FLOAT, 32, 1, "float32", 4},
    {DType::kF16, AITER_CODE_FLOAT, 16, 1, "float16", 2},
    {DType::kBF16, AITER_CODE_BFLOAT, 16, 1, "bfloat16", 2},
    {DType::kF64, AITER_CODE_FLOAT, 64, 1, "float64", 8},
    {DType::kBool, AITER_CODE_BOOL, 8, 1, "bool", 1},
    {DType::kI8, AITER_CODE_INT, 8, 1, "int8", 1},
    {DType::kI16, AITER_CODE_INT, 16, 1, "int16", 2},
    {DType::kU8, AITER_CODE_UINT, 8, 1, "uint8", 1},
    {DType::kI32, AITER_CODE_INT, 32, 1, "int32", 4},
    {DType::kI64, AITER_CODE_INT, 64, 1, "int64", 8},
    {DType::kF8E4M3FN, AITER_CODE_FLOAT8_E4M3FN, 8, 1, "float8_e4m3fn", 1},
    {DType::kF8E4M3FNUZ, AITER_CODE_FLOAT8_E4M3FNUZ, 8, 1, "float8_e4m3fnuz", 1},
    {DType::kF8E5M2, AITER_CODE_FLOAT8_E5M2, 8, 1, "float8_e5m2", 1},
    {DType::kF8E5M2FNUZ, AITER_CODE_FLOAT8_E5M2FNUZ, 8, 1, "float8_e5m2fnuz", 1},
    {DType::kF8E8M0, AITER_CODE_FLOAT8_E8M0FNU, 8, 1, "float8_e8m0fnu", 1},
    {DType::kU4x2, AITER_CODE_UINT, 4, 2, "uint4x2", 1},
    {DType::kI4x2, AITER_CODE_INT, 4, 2, "int4x2", 1},
    {DType::kF4E2M1x2, AITER_CODE_FLOAT4_E2M1FN, 4, 2, "float4_e2m1fnx2", 1},
    {DType::kF6E2M3x4, AITER_CODE_FLOAT6_E2M3FN, 6, 4, "float6_e2m3fnx4", 3},
    {DType::kF6E3M2x4, AITER_CODE_FLOAT6_E3M2FN, 6, 4, "float6_e3m2fnx4", 3},
};
}  // namespace

DType dtype_of(aiter_dtype d) {
  for (const Entry& e : kEntries)
    if (e.code == d.code && e.bits == d.bits && e.lanes == d.lanes) return e.dtype;
  return DType::kNone;
}

const char* dtype_name(DType dtype) {
  for (const Entry& e : kEntries)
    if (e.dtype == dtype) return e.name;
  return "none";
}

int64_t dtype_bytes(DType dtype) {
  for (const Entry& e : kEntries)
    if (e.dtype == dtype) return e.bytes;
  return 0;
}

const char* dtype_name(aiter_dtype d, char (&buffer)[48]) {
  if (DType known = dtype_of(d); known != DType::kNone) return dtype_name(known);
  static constexpr const char* kKinds[] = {"int",    "uint",    "float", "handle",
                                           "bfloat", "complex", "bool"};
  const char* kind = d.code < 7 ? kKinds[d.code] : "code";
  if (d.code >= 7)
    std::snprintf(buffer, sizeof(buffer), "dtype code %d, %d bits, %d lanes", d.code, d.bits,
                  d.lanes);
  else if (d.lanes == 1)
    std::snprintf(buffer, sizeof(buffer), "%s%d", kind, d.bits);
  else
    std::snprintf(buffer, sizeof(buffer), "%s%dx%d", kind, d.bits, d.lanes);
  return buffer;
}

}  // namespace aiter
