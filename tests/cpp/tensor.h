// Tensors over host memory for the C++ tests.
#pragma once

#include <cstdint>
#include <vector>

#include "aiter/tensor.h"

namespace test {

inline constexpr aiter_dtype kF32{AITER_CODE_FLOAT, 32, 1};
inline constexpr aiter_dtype kF16{AITER_CODE_FLOAT, 16, 1};
inline constexpr aiter_dtype kBF16{AITER_CODE_BFLOAT, 16, 1};
inline constexpr aiter_dtype kI8{AITER_CODE_INT, 8, 1};
inline constexpr aiter_dtype kU8{AITER_CODE_UINT, 8, 1};
inline constexpr aiter_dtype kI32{AITER_CODE_INT, 32, 1};
inline constexpr aiter_dtype kI64{AITER_CODE_INT, 64, 1};

// A contiguous tensor over caller's memory. Holds its own shape; may be changed field by field.
struct Tensor {
  std::vector<int64_t> shape;
  aiter_tensor t;

  Tensor(const void* data, std::vector<int64_t> extents, aiter_dtype dtype = kF32)
      : shape(std::move(extents)),
        t{const_cast<void*>(data),
          {AITER_CPU, 0},
          static_cast<int32_t>(shape.size()),
          dtype,
          shape.data(),
          nullptr,
          0} {}
  Tensor(const Tensor&) = delete;
  operator const aiter_tensor*() const { return &t; }
};

}  // namespace test
