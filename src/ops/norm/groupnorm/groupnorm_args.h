#pragma once

#include "core/dtype.h"

namespace aiter {

// x is (batch, channels, space) in memory, or (batch, space, channels) with channels_last.
struct GroupnormArgs {
  static constexpr int kThreads = 512, kPacks = 4;  // of a GPU's block; of a thread, in registers

  const void* x;
  const void* residual;  // null: none
  void* sum;             // with residual: x + residual
  const void* w;         // or null
  const void* b;         // or null
  void* y;
  float* moments;  // GPU: null, or where mean and 1 / deviation of each group are written, and no y
  int64_t batch, channels, groups, space;
  DType dtype;    // of x and y
  DType w_dtype;  // of w and b: dtype or f32
  float eps;
  int32_t channels_last;
  int32_t silu;
  int32_t bundle;  // GPU, channels last: neighbouring groups that a block takes together
  int32_t parts;   // GPU: of a bundle, of which a block takes one after the other; as many at least
                   // as a team has blocks
  int32_t kept;    // GPU: packs of a thread that stay in shared memory, a multiple of kPacks
};

}  // namespace aiter
