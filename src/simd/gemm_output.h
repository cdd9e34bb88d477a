// The end of every GEMM: fp32 tiles to y, with the bias.
#pragma once

#include "core/rows.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {

// kLanes values (n of them with load_as_n) of a float dtype from element `index` on.
AITER_INLINE Vec load_as(const void* p, int64_t index, DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return load(static_cast<const f16*>(p) + index);
    case DType::kBF16:
      return load(static_cast<const bf16*>(p) + index);
    default:
      return load(static_cast<const float*>(p) + index);
  }
}
AITER_INLINE float scalar_as(const void* p, int64_t index, DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return to_float(static_cast<const f16*>(p)[index]);
    case DType::kBF16:
      return to_float(static_cast<const bf16*>(p)[index]);
    default:
      return static_cast<const float*>(p)[index];
  }
}

struct GemmOutput {
  void* y;
  Rows rows;
  DType dtype;
  const void* bias;  // or null
  DType bias_dtype;
};

namespace detail {
template <class T, class B>
inline void write_rows(const GemmOutput& out, int64_t m, int rows, int64_t n, int64_t cols,
                       const float* c, int64_t c_stride) {
  const B* bias = out.bias ? static_cast<const B*>(out.bias) + n : nullptr;
  for (int r = 0; r < rows; ++r, c += c_stride) {
    T* y = static_cast<T*>(out.y) + out.rows.offset(m + r) + n;
    for_lanes(cols, [&](int64_t i, int lanes) {
      Vec v = load_some(c + i, lanes);
      if (bias) v = v + load_some(bias + i, lanes);
      store_some(y + i, v, lanes);
    });
  }
}
}  // namespace detail

// y[m + r, n + i] = c[r * c_stride + i] + bias[n + i] for r < rows, i < cols.
inline void write_tile(const GemmOutput& out, int64_t m, int rows, int64_t n, int64_t cols,
                       const float* c, int64_t c_stride) {
  with_float_type(out.dtype, [&]<class T>(T) {
    if (!out.bias || out.bias_dtype == DType::kF32)
      detail::write_rows<T, float>(out, m, rows, n, cols, c, c_stride);
    else if (out.bias_dtype == DType::kF16)
      detail::write_rows<T, f16>(out, m, rows, n, cols, c, c_stride);
    else
      detail::write_rows<T, bf16>(out, m, rows, n, cols, c, c_stride);
  });
}

}  // namespace aiter::AITER_ISA
