// What a quantizer makes of numbers, and where it puts it: the part of a quantizing operator's
// arguments that all of them share, and kernels too.
#pragma once

#include "core/dtype.h"
#include "core/rows.h"
#include "core/small_float.h"

namespace aiter {

struct QuantSpec {
  DType code;          // int8, a fp8 kind, fp4x2, fp6, int4x2
  DType scale;         // f32, bf16, e8m0 (a power of two) or e4m3fn (times global_scale)
  MxRound round;       // of an e8m0 scale
  float amax_bound;    // the largest magnitude that a scale makes room for; infinity = no bound
  float global_scale;  // of an e4m3fn scale
  const float* global_scale_at;  // in the memory of the codes: a factor of it, or null

  AITER_HOST_DEVICE float whole_global_scale() const {
    return global_scale_at ? *global_scale_at * global_scale : global_scale;
  }
};

// Bits of one code.
AITER_HOST_DEVICE int code_bits(DType code) {
  switch (code) {
    case DType::kF4E2M1x2:
    case DType::kI4x2:
      return 4;
    case DType::kF6E2M3x4:
    case DType::kF6E3M2x4:
      return 6;
    default:
      return 8;
  }
}

// The order of scales in memory (aiter_scale_layout).
enum class ScaleLayout : int32_t {
  kStrided = 0,
  // For the matrix instructions of gfx950: rows in tiles of 32, columns in tiles of 8, so that a
  // lane finds the four scales of its 2 x 2 sub-tiles in one word.
  kShuffled = 1,
};

// Rows of quantized numbers. Operators that quantize their result put one into their arguments;
// codes is null when they do not.
struct QuantOut {
  void* codes;
  void* scale;
  Rows codes_rows;           // in bytes
  Rows scale_rows;           // in scales
  int64_t scale_col_stride;  // kShuffled: the number of columns, padded to 8
  int64_t cols;              // numbers of a row
  int64_t group_cols;        // numbers of a row that share a scale; at least 1
  int32_t static_scale;      // the scale is given
  ScaleLayout layout;
  QuantSpec spec;

  // Where the scale of a row's group is, in scales: the sum of a part for each.
  AITER_HOST_DEVICE int64_t scale_row(int64_t row) const {
    if (layout == ScaleLayout::kStrided) return scale_rows.offset(row);
    return (row >> 5) * 32 * scale_col_stride + (row & 15) * 4 + (row >> 4 & 1);
  }
  AITER_HOST_DEVICE int64_t scale_group(int64_t group) const {
    if (layout == ScaleLayout::kStrided) return group * scale_col_stride;
    return (group >> 3) * 256 + (group & 3) * 64 + (group >> 2 & 1) * 2;
  }
  AITER_HOST_DEVICE int64_t scale_index(int64_t row, int64_t group) const {
    return scale_row(row) + scale_group(group);
  }
  // Where the code of a row's column is, in bytes; that of a multiple of 4 begins a byte.
  AITER_HOST_DEVICE int64_t code_byte(int64_t row, int64_t column) const {
    return codes_rows.offset(row) + column * code_bits(spec.code) / 8;
  }
};

}  // namespace aiter
