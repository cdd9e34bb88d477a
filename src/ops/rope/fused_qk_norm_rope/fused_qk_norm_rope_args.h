#pragma once

#include "ops/rope/head_norm.h"
#include "ops/rope/rope_angles.h"

namespace aiter {

// The heads of q, k or v, and where they go.
struct FusedHeads {
  const void* in;
  void* out;
  Rows in_tokens, out_tokens;
  int64_t in_head, out_head;  // strides
  int64_t heads, dim;
  HeadNorm norm;
  int32_t shares;  // GPU: of heads_at_once heads
};

struct FusedQkNormRopeArgs {
  static constexpr int64_t kMaxDim = 1024;

  RopeAngles angles;    // pairs = 0: no rotation
  FusedHeads sides[3];  // q, k, v
  int32_t side_count;
  int32_t nope_first;
  DType dtype;
  int64_t tokens, heads;    // heads of all sides
  int64_t shares;           // GPU: of all sides
  int32_t lanes_per_head;   // GPU: a power of two up to the wave
  int32_t heads_at_once;    // GPU: that the same lanes take one after the other
  int32_t tokens_of_block;  // hip_plain: a power of two
};

}  // namespace aiter
