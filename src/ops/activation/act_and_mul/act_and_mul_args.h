#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

struct ActAndMulArgs {
  static constexpr int kPacks = 2;  // GPU: packs (16 bytes, or an element) of a thread

  const void* x;
  void* y;
  Rows x_rows, y_rows;
  int64_t d;
  DType x_dtype, y_dtype;
  int32_t activation;  // aiter_activation
  float limit;         // infinity = none
};

}  // namespace aiter
