#pragma once

#include "core/rows.h"
#include "ops/sampling/noise.h"

namespace aiter {

struct ExponentialArgs {
  void* out;
  Rows rows;
  RowOption seed, offset;
  int64_t n;
  DType dtype;
  float scale;  // 1 / lambd
  float eps;
};

}  // namespace aiter
