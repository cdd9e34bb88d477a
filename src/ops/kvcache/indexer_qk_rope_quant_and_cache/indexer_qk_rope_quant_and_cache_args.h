#pragma once

#include "ops/kvcache/cache_layout.h"
#include "ops/rope/rope_angles.h"

namespace aiter {

struct IndexerQkRopeQuantAndCacheArgs {
  static constexpr int kMaxDim = 512;

  const void* q;
  uint8_t* q_out;
  const void* weights;
  float* weights_out;
  int64_t q_token, q_head;  // strides
  int64_t q_out_token, q_out_head;
  int64_t weights_token, weights_head;
  int64_t weights_out_token, weights_out_head;
  int64_t heads, dim;
  CacheRows k;
  const float* norm_weight;
  const float* norm_bias;
  float epsilon, weights_scale;
  CacheSlots slots;
  RopeAngles angles;
  int64_t tokens;
  DType dtype;  // of q, k and weights
  QuantSpec spec;
};

}  // namespace aiter
