// The common dtype of two operands, by torch's rules. Inline, for the library and the Python module.
#pragma once

#include <cmath>

#include "aiter/tensor.h"

namespace aiter {

enum class Kind { kBool, kInteger, kFloat };

inline constexpr aiter_dtype kBoolDtype{AITER_CODE_BOOL, 8, 1};
inline constexpr aiter_dtype kInt64Dtype{AITER_CODE_INT, 64, 1};
inline constexpr aiter_dtype kFloat32Dtype{AITER_CODE_FLOAT, 32, 1};

inline Kind kind_of(aiter_dtype d) {
  if (d.code == AITER_CODE_BOOL) return Kind::kBool;
  return d.code == AITER_CODE_INT || d.code == AITER_CODE_UINT ? Kind::kInteger : Kind::kFloat;
}

// Of two of bool, int8 to int64, uint8, f16, bf16, f32, f64.
inline aiter_dtype promote(aiter_dtype a, aiter_dtype b) {
  if (a.code == b.code) return a.bits < b.bits ? b : a;
  const Kind ka = kind_of(a), kb = kind_of(b);
  if (ka != kb) return ka < kb ? b : a;
  if (ka == Kind::kFloat)  // bfloat16 and another one
    return a.bits == b.bits ? kFloat32Dtype : a.bits < b.bits ? b : a;
  const aiter_dtype of_signed = a.code == AITER_CODE_INT ? a : b;
  return of_signed.bits > 8 ? of_signed : aiter_dtype{AITER_CODE_INT, 16, 1};
}

// Of an array and a number.
inline aiter_dtype promote(aiter_dtype a, double number) {
  const Kind kind = kind_of(a);
  if (kind == Kind::kFloat) return a;
  // Whole numbers of int64; NaN is none.
  if (!(std::fabs(number) < 9.2e18) || number != std::trunc(number)) return kFloat32Dtype;
  return kind == Kind::kInteger ? a : kInt64Dtype;
}

}  // namespace aiter
