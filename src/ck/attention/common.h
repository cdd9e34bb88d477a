// What the attention kernels share: which query a wave has, where a key lies, how a result is
// finished. Lengths and page numbers come from device memory, where the host cannot check them:
// keys that lie outside of k and v are passed over.
#pragma once

#include "ck/core/math.h"
#include "ck/core/reduce.h"
#include "ops/attention/attention_args.h"

namespace aiter {

constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;

AITER_DEVICE int64_t shuffle(int64_t x, int lane) {
  const uint32_t low = shuffle(static_cast<uint32_t>(x), lane);
  const uint32_t high = shuffle(static_cast<uint32_t>(x >> 32), lane);
  return static_cast<int64_t>(static_cast<uint64_t>(high) << 32 | low);
}

// The sequence of a row of q, or -1.
AITER_DEVICE int64_t sequence_of(const AttentionArgs& a, int64_t row) {
  if (!a.cu_seqlens_q) return row / a.seqlen_q;
  int64_t low = 0, high = a.batch;  // the last b with cu_seqlens_q[b] <= row
  if (high == 0 || row < a.cu_seqlens_q[0] || row >= a.cu_seqlens_q[high]) return -1;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    if (a.cu_seqlens_q[middle] <= row)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// Page (or row of k) and slot of key j of a sequence; page -1 for one outside of memory.
struct KeyPlace {
  int64_t page, slot;
};
AITER_DEVICE KeyPlace place_of(const AttentionArgs& a, int64_t b, const AttentionSequence& s,
                               int64_t j) {
  if (!a.block_table) {
    if (!a.cu_seqlens_k) return {b, j};
    const int64_t row = s.k_begin + j;
    return {row >= 0 && row < a.k_extent ? 0 : -1, row};
  }
  const int64_t column = j / a.block;
  if (column >= a.max_pages) return {-1, 0};
  const int64_t page = a.block_table[b * a.block_table_stride + column];
  return {page >= 0 && page < a.k_extent ? page : -1, j - column * a.block};
}

// The denominator and what the weights are divided by: the keys' sum is `sum` * e^top.
struct Denominator {
  float factor;  // out = weight * factor
  float lse;
  AITER_DEVICE Denominator(const AttentionArgs& a, int64_t head, float top, float sum) {
    float most = top, keys = 1;
    if (a.sink) {
      const float sink = a.sink[head];
      most = max(top, sink);
      keys = most == -kInfinity ? 0.0f : exp(top - most);
      sum = sum * keys + (sink == -kInfinity ? 0.0f : exp(sink - most));
    }
    factor = sum > 0 ? keys / sum : 0.0f;
    lse = sum > 0 ? most + log2_fast(sum) * kLn2 : -kInfinity;
  }
};

}  // namespace aiter
