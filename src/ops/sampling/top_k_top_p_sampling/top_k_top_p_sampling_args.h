#pragma once

#include "core/dtype.h"

namespace aiter {

// An option that is a number for all rows, or a tensor with one for each.
struct RowOption {
  const void* data;  // null = value
  int64_t stride;
  DType dtype;  // f32, i32 or i64
  union {
    float real;
    int64_t integer;  // seeds and offsets: the bits of a uint64_t
  } value;
};

struct TopKTopPSamplingArgs {
  const void* input;
  void* out;
  RowOption indices;  // value unused: null data = every row once
  RowOption temperature, top_k, top_p, min_p, seed, offset;
  int64_t batch, vocab;
  int64_t input_stride, out_stride;
  DType dtype;      // of the input
  DType out_dtype;  // i32 or i64
  int32_t probs, top_k_first;
};

}  // namespace aiter
