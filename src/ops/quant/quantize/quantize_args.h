#pragma once

#include "core/quant_spec.h"

namespace aiter {

// Shared by quantize (x to codes) and dequantize (codes to x).
struct QuantizeArgs {
  static constexpr int kColumns = 16;      // GPU, hip_vec: neighbouring columns of a thread
  static constexpr int kWaveGroup = 2048;  // GPU: numbers of a group that a wave takes alone

  const void* x;
  const float* smooth;        // or null
  const int32_t* smooth_map;  // row of smooth for each row, or null
  const int32_t* num_rows;    // or null
  Rows x_rows, smooth_map_rows;
  int64_t experts;          // rows of smooth
  QuantOut out;             // its rows of scales are those of groups
  int64_t group_rows;       // at least 1
  DType dtype;              // of x
  int32_t threads_per_row;  // GPU, hip_vec: a power of two up to the wave, or the block
  int32_t num_rows_factor;  // rows that *num_rows counts as one

  // The row of smooth that a row takes; less than 0: the row is passed over.
  AITER_HOST_DEVICE int64_t smooth_row(int64_t row) const {
    if (!smooth_map) return 0;
    const int64_t expert = smooth_map[smooth_map_rows.offset(row)];
    return expert < experts ? expert : -1;
  }

  // The row of groups that a row is in. GPUs divide slowly, and 64 bits more slowly.
  AITER_HOST_DEVICE int64_t group_row(int64_t row) const {
    if (group_rows == 1) return row;
    if ((row | group_rows) >> 32) return row / group_rows;
    return static_cast<uint32_t>(row) / static_cast<uint32_t>(group_rows);
  }

  AITER_HOST_DEVICE int64_t valid_rows() const {
    if (!num_rows) return x_rows.count;
    const int64_t valid = static_cast<int64_t>(*num_rows) * num_rows_factor;
    return valid < 0 ? 0 : valid < x_rows.count ? valid : x_rows.count;
  }
};

}  // namespace aiter
