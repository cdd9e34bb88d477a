#pragma once

#include "ops/rope/rope_angles.h"

namespace aiter {

// The heads of query or key: head h of token t starts at tokens.offset(t) + h * head_stride.
struct RopeHeads {
  const void* in;
  void* out;
  Rows in_tokens, out_tokens;
  int64_t heads, in_head_stride, out_head_stride;
};

struct RotaryEmbeddingArgs {
  static constexpr int kHeadsAtOnce = 5;  // that a GPU's thread loads together

  RopeAngles angles;
  RopeHeads sides[2];  // query, key
  int32_t side_count;
  int32_t nope_first;  // the last pairs of each part turn, instead of the first
  int64_t tokens;
  int64_t part_size;          // dimensions of a head's part
  DType dtype;                // of query and key
  int32_t threads_per_token;  // GPU
};

}  // namespace aiter
