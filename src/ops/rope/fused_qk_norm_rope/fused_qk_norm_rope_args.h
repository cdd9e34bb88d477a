#pragma once

#include "ops/rope/rope_angles.h"

namespace aiter {

// The heads of q, k or v, and where they go.
struct FusedHeads {
  const void* in;
  const void* weight;  // of the norm; null = ones
  void* out;
  Rows in_tokens, out_tokens;
  int64_t in_head, out_head;  // strides
  int64_t heads, dim;
  DType weight_dtype;  // that of the heads, or f32
};

struct FusedQkNormRopeArgs {
  static constexpr int64_t kMaxDim = 1024;

  RopeAngles angles;    // pairs = 0: no rotation
  FusedHeads sides[3];  // q, k, v
  int32_t side_count;
  int32_t norm, gemma, nope_first;
  float eps;
  DType dtype;
  int64_t tokens, heads;   // heads of all sides
  int32_t lanes_per_head;  // GPU: a power of two up to the wave
};

}  // namespace aiter
