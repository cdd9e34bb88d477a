#pragma once

#include "ops/attention/attention_args.h"

namespace aiter {

struct PagedAttentionDecodeArgs : AttentionArgs {
  // Of row hip_mma (ck/attention/decode_mma.h): keys are split among blocks, whose results lie in
  // `partial` as (batch, splits, q_heads, v_dim + 2) f32 until they are merged.
  float* partial;
  int64_t splits;

  static constexpr int kMostSplits = 64;  // no more than a merging block has threads: head_dim
  static constexpr int kHeadsPerBlock = 16;
  static constexpr int kMmaWarps = 4, kMmaStages = 3;
  static constexpr int mma_shared_bytes(int head_dim) {
    return kMmaWarps * kMmaStages * 2 * 16 * head_dim * 2;
  }
};

}  // namespace aiter
