#pragma once

#include "ops/activation/gated_args.h"

namespace aiter {

struct ActAndMulBackwardArgs : GatedArgs {
  const void* dy;
  void* dx;
  Rows dy_rows, dx_rows;
  DType dy_dtype;
};

}  // namespace aiter
