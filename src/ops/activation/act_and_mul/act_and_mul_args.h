#pragma once

#include "ops/activation/gated_args.h"

namespace aiter {

struct ActAndMulArgs : GatedArgs {
  static constexpr int kPacks = 2;  // GPU: packs (16 bytes, or an element) of a thread

  void* y;
  Rows y_rows;
  DType y_dtype;
};

}  // namespace aiter
