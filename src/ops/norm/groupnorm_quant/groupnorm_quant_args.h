#pragma once

#include "core/quant_spec.h"
#include "ops/norm/groupnorm/groupnorm_args.h"

namespace aiter {

// Rows of the quantized numbers are those of x's last axis. It is the channels where
// norm.channels_last says so, which it does for x of two dimensions, too; otherwise a row is of one
// channel.
struct GroupnormQuantArgs {
  static constexpr int kThreads = 512;  // GPU: of a block at most
  static constexpr int kColumns = 16;   // GPU, hip_vec: neighbouring columns of a thread, which has
  static constexpr int kChunks = 2, kChunksLast = 1;  // so many times those; or with channels last
  static constexpr int kMaxCols = 4096;               // GPU, hip_vec
  static constexpr int kWaveGroup = 2048;  // GPU, hip_any: numbers that a wave takes alone

  GroupnormArgs norm;   // its y is the unquantized copy, or null
  const float* smooth;  // or null; norm.channels factors
  float* moments;       // mean and 1 / deviation of each group
  QuantOut out;
  int64_t rows;
  int64_t rows_of_plane;    // of an image or, channels first, of a channel of an image
  DType y_dtype;            // norm.dtype or f32
  int32_t threads_per_row;  // GPU, hip_vec: a power of two up to the wave, or the block
  int32_t rows_of_thread;   // GPU, hip_vec, channels last: one after the other
};

}  // namespace aiter
