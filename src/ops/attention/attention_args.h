// What the attention operators hand to their kernels.
#pragma once

#include "core/dtype.h"

namespace aiter {

struct AttentionArgs {
  // In elements; outer is that of a page, or of a batch entry where sequences are dense.
  struct Strides {
    int64_t outer, token, head;
  };

  const void *q, *k, *v;
  void* out;
  float* lse;                   // or null
  const float* sink;            // or null
  const int32_t* cu_seqlens_q;  // or null: dense, seqlen_q queries each
  const int32_t* cu_seqlens_k;  // or null
  const int32_t* seqused_k;     // or null
  const int32_t* block_table;   // or null: k and v are contiguous
  int64_t block_table_stride;
  int64_t block;      // keys a page
  int64_t max_pages;  // columns of block_table
  int64_t k_extent;   // pages, or rows of contiguous k: what lies within memory
  Strides q_strides, k_strides, v_strides, out_strides;
  int64_t lse_batch, lse_head;
  int64_t batch, q_heads, kv_heads, head_dim, v_dim;
  int64_t total_q, seqlen_q, seqlen_k;  // total_q: rows of q where there is cu_seqlens_q
  int64_t left, right;                  // window; kUnbounded = no bound
  int64_t sink_tokens;
  float scale, soft_cap;
  DType dtype;     // of q and out
  DType kv_dtype;  // of k and v

  static constexpr int64_t kUnbounded = int64_t{1} << 62;
};

// The functions below are inlined everywhere: no copy of them compiled for one instruction set may
// be linked into code for another.
#ifdef AITER_DEVICE_CODE
#define AITER_ALWAYS_INLINE AITER_DEVICE
#else
#define AITER_ALWAYS_INLINE inline __attribute__((always_inline))
#endif

// One sequence: where its queries and keys start, and how many there are.
struct AttentionSequence {
  int64_t q_begin, q_len, k_begin, k_len;
};

AITER_ALWAYS_INLINE AttentionSequence attention_sequence(const AttentionArgs& a, int64_t b) {
  AttentionSequence s{0, a.seqlen_q, 0, a.seqlen_k};
  if (a.cu_seqlens_q) {
    s.q_begin = a.cu_seqlens_q[b];
    s.q_len = a.cu_seqlens_q[b + 1] - s.q_begin;
  }
  if (a.cu_seqlens_k) {
    s.k_begin = a.cu_seqlens_k[b];
    s.k_len = a.cu_seqlens_k[b + 1] - s.k_begin;
  }
  if (a.seqused_k) s.k_len = a.seqused_k[b];
  return s;
}

// The keys that a run of queries may see: [0, sinks) and [begin, end), the latter not empty unless
// end <= begin; sinks <= begin.
struct VisibleKeys {
  int64_t sinks, begin, end;
};

// Of the queries [first, last] of a sequence.
AITER_ALWAYS_INLINE VisibleKeys visible_keys(const AttentionArgs& a, const AttentionSequence& s,
                                             int64_t first, int64_t last) {
  const int64_t shift = s.k_len - s.q_len;
  int64_t begin = first + shift - a.left, end = last + shift + a.right + 1;
  if (begin < 0) begin = 0;
  if (end > s.k_len) end = s.k_len;
  if (end < begin) end = begin;
  int64_t sinks = a.sink_tokens < begin ? a.sink_tokens : begin;
  if (last + shift + a.right + 1 < sinks) sinks = last + shift + a.right + 1;
  return {sinks < 0 ? 0 : sinks, begin, end};
}

#undef AITER_ALWAYS_INLINE

}  // namespace aiter
