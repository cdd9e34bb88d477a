#pragma once

#include "core/dtype.h"
#include "core/rows.h"

namespace aiter {

// The heads of query or key: head h of token t starts at tokens.offset(t) + h * head_stride.
struct RopeHeads {
  const void* in;
  void* out;
  Rows in_tokens, out_tokens;
  int64_t heads, in_head_stride, out_head_stride;
};

struct RotaryEmbeddingArgs {
  const void* positions;
  const void* cos;
  const void* sin;
  RopeHeads sides[2];  // query, key
  int32_t side_count;
  Rows positions_rows;
  int64_t tokens, head_size;
  int64_t pairs;  // R / 2
  int64_t cos_stride, sin_stride;
  int64_t max_position;   // rows of the caches
  DType dtype;            // of query and key
  DType cache_dtype;      // dtype or f32
  DType positions_dtype;  // i32 or i64
  int32_t interleaved, nope_first;
  int32_t threads_per_token;  // GPU
};

}  // namespace aiter
