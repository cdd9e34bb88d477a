// Argument checks that the attention operators share: from tensors and options to AttentionArgs.
#pragma once

#include <algorithm>
#include <cmath>

#include "aiter/attention.h"
#include "core/check.h"
#include "dispatch/dispatch.h"
#include "launch/launch.h"
#include "ops/attention/attention_args.h"

namespace aiter {

struct AttentionProblem {
  DType dtype, kv_dtype;
  int64_t batch, q_heads, kv_heads, head_dim, v_dim;
  int64_t group;  // q_heads / kv_heads
  bool paged;
  bool aligned16;  // rows of k and v begin at multiples of 16 bytes
};

inline long long ll(int64_t x) { return x; }

inline aiter_attention_opts attention_options(const Check& check, const aiter_attention_opts* given,
                                              AttentionArgs& args) {
  const auto opts =
      check.options<aiter_attention_opts>(given, aiter_attention_opts AITER_ATTENTION_OPTS_INIT);
  check.require(std::isfinite(opts.softmax_scale),
                "opts.softmax_scale is %g, expected a finite one", opts.softmax_scale);
  check.require(std::isfinite(opts.logits_soft_cap) && opts.logits_soft_cap >= 0,
                "opts.logits_soft_cap is %g, expected 0 or more", opts.logits_soft_cap);
  check.require(opts.window_left >= -1 && opts.window_right >= -1,
                "opts.window is (%d, %d), expected -1 or more", opts.window_left,
                opts.window_right);
  check.require(opts.sink_tokens >= 0, "opts.sink_tokens is %d, expected 0 or more",
                opts.sink_tokens);
  check.require(opts.max_seqlen_q >= 0 && opts.max_seqlen_k >= 0,
                "opts.max_seqlen is %d (q) and %d (k), expected 0 or more", opts.max_seqlen_q,
                opts.max_seqlen_k);
  args.soft_cap = opts.logits_soft_cap;
  args.left = opts.window_left < 0 ? AttentionArgs::kUnbounded : opts.window_left;
  args.right = opts.window_right < 0 ? AttentionArgs::kUnbounded : opts.window_right;
  if (opts.causal) args.right = 0;
  args.sink_tokens = opts.sink_tokens;
  return opts;
}

inline void attention_tensors(const aiter_attention_opts& opts, const Arg& q, const Arg& k,
                              const Arg& v, const Arg& sink, const Arg& out, AttentionArgs& args) {
  const int heads = q.rank() - 2;
  q.dtype({DType::kF32, DType::kF16, DType::kBF16}).unit_last_stride();
  if (q.dtype() == DType::kF32)
    k.dtype({DType::kF32, DType::kF16, DType::kBF16});
  else
    k.dtype_of(q);
  const int64_t q_heads = q.dim(heads), kv_heads = k.dim(-2);
  k.unit_last_stride().on_device_of(q);
  if (k.dim(-1) != q.dim(-1))
    k.refuse("has head_dim %lld, expected q's %lld", ll(k.dim(-1)), ll(q.dim(-1)));
  if (kv_heads == 0 ? q_heads != 0 : q_heads % kv_heads != 0)
    k.refuse("has %lld heads, expected a divisor of q's %lld", ll(kv_heads), ll(q_heads));
  v.dtype_of(k).rank(k.rank()).unit_last_stride().on_device_of(q);
  for (int i = 0; i < k.rank() - 1; ++i)
    if (v.dim(i) != k.dim(i))
      v.refuse("has extent %lld in dimension %d, expected k's %lld", ll(v.dim(i)), i, ll(k.dim(i)));
  if (sink) sink.dtype({DType::kF32}).shape({q_heads}).contiguous().on_device_of(q);
  out.dtype_of(q).rank(q.rank()).unit_last_stride().on_device_of(q);
  for (int i = 0; i < q.rank(); ++i) {
    const int64_t expected = i + 1 < q.rank() ? q.dim(i) : v.dim(-1);
    if (out.dim(i) != expected)
      out.refuse("has extent %lld in dimension %d, expected %lld", ll(out.dim(i)), i, ll(expected));
  }

  auto strides = [](const Arg& t) {
    const int r = t.rank();
    return AttentionArgs::Strides{r == 4 ? t.stride(0) : 0, t.stride(r - 3), t.stride(r - 2)};
  };
  args.q = q.data(), args.k = k.data(), args.v = v.data(), args.out = out.data();
  args.q_strides = strides(q), args.k_strides = strides(k), args.v_strides = strides(v);
  args.out_strides = strides(out);
  if (sink) args.sink = static_cast<const float*>(sink.data());
  args.q_heads = q_heads, args.kv_heads = kv_heads;
  args.head_dim = q.dim(-1), args.v_dim = v.dim(-1);
  args.dtype = q.dtype(), args.kv_dtype = k.dtype();
  args.scale = opts.softmax_scale;
  if (args.scale == 0)
    args.scale = args.head_dim ? 1 / std::sqrt(static_cast<float>(args.head_dim)) : 1;
}

inline void attention_lse(const Arg& lse, std::initializer_list<int64_t> shape, const Arg& q,
                          AttentionArgs& args) {
  if (!lse) return;
  lse.dtype({DType::kF32}).shape(shape).contiguous().on_device_of(q);
  args.lse = static_cast<float*>(lse.data());
}

inline const int32_t* attention_ints(const Arg& t, std::initializer_list<int64_t> shape,
                                     const Arg& q) {
  t.dtype({DType::kI32}).shape(shape).unit_last_stride().on_device_of(q);
  return static_cast<const int32_t*>(t.data());
}

// The launch of ck/attention/attention_any.h: a wave for each query and head.
inline Grid attention_any_grid(const AttentionArgs& a, const Call& call) {
  constexpr int kThreads = 256;
  const int64_t waves = kThreads / device_of(call.device).wave;
  const int64_t items = (a.cu_seqlens_q ? a.total_q : a.batch * a.seqlen_q) * a.q_heads;
  constexpr int64_t kMaxBlocks = 1 << 20;  // more go round again
  return {.x = std::min((items + waves - 1) / waves, kMaxBlocks), .threads = kThreads};
}

// Reads the lengths and page numbers of CPU tensors, and refuses what would lead out of k and v.
// total_k: rows of contiguous k. pages: of paged k, with max_pages entries in each row of the table.
inline void attention_lengths(const Check& check, const aiter_attention_opts& opts,
                              const AttentionArgs& a, int64_t total_k, int64_t pages,
                              int64_t max_pages) {
  auto offsets = [&](const char* name, const int32_t* cu, int64_t total) {
    check.require(cu[0] >= 0, "%s[0] is %d, expected 0 or more", name, cu[0]);
    for (int64_t b = 0; b < a.batch; ++b)
      check.require(cu[b] <= cu[b + 1], "%s[%lld] is %d, expected at least the %d before it", name,
                    ll(b + 1), cu[b + 1], cu[b]);
    check.require(total < 0 || cu[a.batch] <= total,
                  "%s ends at %d, expected at most the %lld rows", name, cu[a.batch], ll(total));
  };
  if (a.cu_seqlens_q) offsets("cu_seqlens_q", a.cu_seqlens_q, a.total_q);
  if (a.cu_seqlens_k) offsets("cu_seqlens_k", a.cu_seqlens_k, a.block_table ? -1 : total_k);
  for (int64_t b = 0; b < a.batch; ++b) {
    const AttentionSequence s = attention_sequence(a, b);
    int64_t capacity = a.seqlen_k;
    if (a.block_table)
      capacity = max_pages * a.block;
    else if (a.cu_seqlens_k)
      capacity = a.cu_seqlens_k[b + 1] - s.k_begin;
    check.require(s.k_len >= 0 && s.k_len <= capacity,
                  "sequence %lld has %lld keys, expected 0 to %lld", ll(b), ll(s.k_len),
                  ll(capacity));
    check.require(!opts.max_seqlen_q || s.q_len <= opts.max_seqlen_q,
                  "sequence %lld has %lld queries, opts.max_seqlen_q is %d", ll(b), ll(s.q_len),
                  opts.max_seqlen_q);
    check.require(!opts.max_seqlen_k || s.k_len <= opts.max_seqlen_k,
                  "sequence %lld has %lld keys, opts.max_seqlen_k is %d", ll(b), ll(s.k_len),
                  opts.max_seqlen_k);
    if (!a.block_table || s.q_len == 0) continue;
    const VisibleKeys keys = visible_keys(a, s, 0, s.q_len - 1);
    const int32_t* row = a.block_table + b * a.block_table_stride;
    auto entries = [&](int64_t begin, int64_t end) {  // of keys
      if (begin >= end) return;
      bool ok = true;
      const int64_t first = begin / a.block, last = (end - 1) / a.block;
      for (int64_t p = first; p <= last; ++p) ok &= static_cast<uint32_t>(row[p]) < pages;
      for (int64_t p = first; !ok && p <= last; ++p)
        check.require(static_cast<uint32_t>(row[p]) < pages,
                      "block_table[%lld, %lld] is %d, expected 0 to %lld", ll(b), ll(p), row[p],
                      ll(pages - 1));
    };
    entries(0, keys.sinks);
    entries(keys.begin, keys.end);
  }
}

inline AttentionProblem attention_problem(const AttentionArgs& a) {
  const int64_t elements = 16 / dtype_bytes(a.kv_dtype);
  auto aligned = [&](const void* p, const AttentionArgs::Strides& s) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && s.outer % elements == 0 &&
           s.token % elements == 0 && s.head % elements == 0;
  };
  return {a.dtype,
          a.kv_dtype,
          a.batch,
          a.q_heads,
          a.kv_heads,
          a.head_dim,
          a.v_dim,
          a.kv_heads ? a.q_heads / a.kv_heads : 0,
          a.block_table != nullptr,
          aligned(a.k, a.k_strides) && aligned(a.v, a.v_strides)};
}

}  // namespace aiter
