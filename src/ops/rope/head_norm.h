// The RMS norm of a head, as part of the arguments of the operators that normalize heads.
#pragma once

#include "core/dtype.h"

namespace aiter {

struct HeadNorm {
  const void* weight;  // null = ones
  DType weight_dtype;  // that of the heads, or f32
  float eps;
  int32_t on;     // else heads are left as they are
  int32_t gemma;  // by (1 + weight)
};

}  // namespace aiter
