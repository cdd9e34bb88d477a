// Attention for every shape, dtype and option of the contract: a wave has one query of one head.
// Lanes take one key each for the scores, then one column of v each for the sum. For a split kernel
// (of decode) a wave has one of args.splits parts of the keys, and leaves what decode_merge.h merges.
#pragma once

#include "ck/attention/decode_merge.h"

namespace aiter {

template <class KV, bool kSplit = false, class Args>
AITER_DEVICE void attention_any(const Args& a) {
  constexpr int kCols = 8;  // columns of v that a lane sums at a time; wider heads go again
  const int lane = thread_index() % kWave;
  const int64_t rows = a.cu_seqlens_q ? a.total_q : a.batch * a.seqlen_q;
  int64_t splits = 1;
  if constexpr (kSplit) splits = a.splits;
  const int64_t waves = static_cast<int64_t>(grid_blocks()) * (block_threads() / kWave);
  for (int64_t item = static_cast<int64_t>(block_index_x()) * (block_threads() / kWave) +
                      thread_index() / kWave;
       item < rows * a.q_heads * splits; item += waves) {
    const int64_t split = kSplit ? item % splits : 0, row = item / splits / a.q_heads;
    const int64_t head = item / splits % a.q_heads;
    const int64_t kv_head = head / (a.q_heads / a.kv_heads);
    const int64_t b = sequence_of(a, row);
    AttentionSequence s{row, 0, 0, 0};
    int64_t i = 0;
    if (b >= 0) {
      s = attention_sequence(a, b);
      i = a.cu_seqlens_q ? row - s.q_begin : row % a.seqlen_q;
    }
    const int64_t batch = a.cu_seqlens_q ? 0 : b, token = a.cu_seqlens_q ? row : i;
    const int64_t q_at =
        batch * a.q_strides.outer + token * a.q_strides.token + head * a.q_strides.head;
    const int64_t out_at =
        batch * a.out_strides.outer + token * a.out_strides.token + head * a.out_strides.head;
    VisibleKeys keys{0, 0, 0};
    if (s.q_len > 0) keys = visible_keys(a, s, i, i);
    const int64_t all = keys.sinks + keys.end - keys.begin;
    const int64_t first = kSplit ? all * split / splits : 0;
    const int64_t visible = kSplit ? all * (split + 1) / splits : all;
    const KV* k = static_cast<const KV*>(a.k) + kv_head * a.k_strides.head;
    const KV* v = static_cast<const KV*>(a.v) + kv_head * a.v_strides.head;

    int64_t column = 0;
    do {
      float top = -kInfinity, sum = 0, out[kCols] = {};
      for (int64_t base = first; base < visible; base += kWave) {
        const int64_t n = base + lane;
        float score = -kInfinity;
        int64_t v_at = 0;
        if (n < visible) {
          const int64_t j = n < keys.sinks ? n : keys.begin + n - keys.sinks;
          const KeyPlace place = place_of(a, b, s, j);
          if (place.page >= 0) {
            v_at = place.page * a.v_strides.outer + place.slot * a.v_strides.token;
            const int64_t k_at = place.page * a.k_strides.outer + place.slot * a.k_strides.token;
            float dot = 0;
            for (int64_t d = 0; d < a.head_dim; ++d)
              dot = fma(load_float(a.q, q_at + d, a.dtype), to_float(k[k_at + d]), dot);
            score = dot * a.scale;
            if (a.soft_cap > 0) score = a.soft_cap * tanh(score / a.soft_cap);
          }
        }
        const float most = max(top, wave_reduce<Max>(score));
        if (most == -kInfinity) continue;
        const float keep = exp(top - most);
        const float p = exp(score - most);
        top = most;
        sum = sum * keep + wave_reduce<Sum>(p);
        for (int c = 0; c < kCols; ++c) out[c] *= keep;
        const int tile = static_cast<int>(min<int64_t>(kWave, visible - base));
        for (int l = 0; l < tile; ++l) {
          const float weight = shuffle(p, l);
          const KV* from = v + shuffle(v_at, l);
          if (weight == 0) continue;  // what is not visible may be anything, NaN too
          AITER_UNROLL
          for (int c = 0; c < kCols; ++c) {
            const int64_t col = column + c * kWave + lane;
            if (col < a.v_dim) out[c] = fma(weight, to_float(from[col]), out[c]);
          }
        }
      }
      if constexpr (kSplit) {
        float* to = decode_partial(a, b, split, head);
        AITER_UNROLL
        for (int c = 0; c < kCols; ++c) {
          const int64_t col = column + c * kWave + lane;
          if (col < a.v_dim) to[col] = out[c];
        }
        if (lane == 0 && column == 0) to[a.v_dim] = top, to[a.v_dim + 1] = sum;
      } else {
        const Denominator z(a, head, top, sum);
        AITER_UNROLL
        for (int c = 0; c < kCols; ++c) {
          const int64_t col = column + c * kWave + lane;
          if (col < a.v_dim) store_float(a.out, out_at + col, a.dtype, out[c] * z.factor);
        }
        if (a.lse && lane == 0 && column == 0)
          a.lse[batch * a.lse_batch + head * a.lse_head + token] = z.lse;
      }
      column += kWave * kCols;
    } while (column < a.v_dim);
  }
}

}  // namespace aiter
