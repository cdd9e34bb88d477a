// Decode with the keys split among blocks: what a split leaves, and how the splits become a result.
#pragma once

#include "ck/attention/common.h"
#include "ops/attention/paged_attention_decode/paged_attention_decode_args.h"

namespace aiter {

// Where a split leaves its weighted sum, the largest score and the sum of a head.
AITER_DEVICE float* decode_partial(const PagedAttentionDecodeArgs& a, int64_t b, int64_t split,
                                   int64_t head) {
  return a.partial + ((b * a.splits + split) * a.q_heads + head) * (a.v_dim + 2);
}

// Element d of a head's result. The keys' sum is `sum` * e^top.
template <class T>
AITER_DEVICE void decode_finish(const PagedAttentionDecodeArgs& a, int64_t b, int64_t head, int d,
                                float top, float sum, float weight) {
  const Denominator z(a, head, top, sum);
  T* out = static_cast<T*>(a.out) + b * a.out_strides.outer + head * a.out_strides.head;
  out[d] = from_float<T>(weight * z.factor);
  if (d == 0 && a.lse) a.lse[b * a.lse_batch + head * a.lse_head] = z.lse;
}

// The splits of one head of one sequence, a thread for each column. Each split's weight is found by
// one thread, and no load waits for another.
template <class T>
AITER_DEVICE void decode_merge(const PagedAttentionDecodeArgs& a) {
  constexpr int kMost = PagedAttentionDecodeArgs::kMostSplits, kAtOnce = 16;
  AITER_SHARED float factors[kMost], sums[kMost];
  const int64_t b = block_index_x(), head = block_index_y();
  const int dim = static_cast<int>(a.v_dim), splits = static_cast<int>(a.splits);
  const int64_t pitch = a.q_heads * (dim + 2);
  const float* first = decode_partial(a, b, 0, head);
  for (int s = thread_index(); s < splits; s += block_threads())
    factors[s] = first[s * pitch + dim], sums[s] = first[s * pitch + dim + 1];
  barrier();
  float top = -kInfinity;
  for (int s = 0; s < splits; ++s) top = max(top, factors[s]);
  for (int d = thread_index(); d < dim; d += block_threads()) {
    float sum = 0, weight = 0;
    for (int base = 0; base < splits; base += kAtOnce) {
      float part[kAtOnce];
      AITER_UNROLL
      for (int i = 0; i < kAtOnce; ++i)
        part[i] = base + i < splits ? first[(base + i) * pitch + d] : 0.0f;
      AITER_UNROLL
      for (int i = 0; i < kAtOnce; ++i) {
        if (base + i >= splits) continue;
        const float split_top = factors[base + i];
        const float f = split_top == -kInfinity ? 0.0f : exp2_fast((split_top - top) * kLog2E);
        sum = fma(sums[base + i], f, sum);
        weight = fma(part[i], f, weight);
      }
    }
    decode_finish<T>(a, b, head, d, top, sum, weight);
  }
}

}  // namespace aiter
