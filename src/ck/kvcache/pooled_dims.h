// Heads that are weighted means of lines (PooledHeads), a few dims of each in registers.
#pragma once

#include "ck/core/pack.h"
#include "ops/kvcache/fused_qk_rope_reshape_and_cache/fused_qk_rope_reshape_and_cache_args.h"

namespace aiter {

// Two packs of 4 dims of a head: where they are, and what is known of their means.
struct PooledDims {
  static constexpr int N = 4;
  int d[2];
  bool there, together;  // there: else the lane has none; together: one pack follows the other
  float most[2][N], weights[2][N] = {}, sum[2][N] = {};

  AITER_DEVICE PooledDims(const int (&dims)[2], bool has)
      : d{dims[0], dims[1]}, there(has), together(dims[1] == dims[0] + N) {
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) most[i][k] = -kLargest;
    }
  }

  template <int kLines>
  AITER_DEVICE void add(const float (&scores)[kLines][2][N], const float (&x)[kLines][2][N]) {
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) {
        float now = most[i][k];
        AITER_UNROLL
        for (int j = 0; j < kLines; ++j) now = fmax(now, scores[j][i][k]);
        const float before = power(most[i][k] - now);
        weights[i][k] *= before, sum[i][k] *= before, most[i][k] = now;
        AITER_UNROLL
        for (int j = 0; j < kLines; ++j) {
          const float weight = power(scores[j][i][k] - now);
          weights[i][k] += weight;
          sum[i][k] = fma(weight, x[j][i][k], sum[i][k]);
        }
      }
    }
  }
  // Those of other lines, of which part(q) is number q of kParts.
  static constexpr int kParts = 6 * N;
  template <class Part>
  AITER_DEVICE void merge(Part&& part) {
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) {
        const int q = (i * N + k) * 3;
        const float other = part(q), now = fmax(most[i][k], other);
        const float before = power(most[i][k] - now), its = power(other - now);
        weights[i][k] = fma(weights[i][k], before, part(q + 1) * its);
        sum[i][k] = fma(sum[i][k], before, part(q + 2) * its);
        most[i][k] = now;
      }
    }
  }
  template <class Part>
  AITER_DEVICE void each_part(Part&& part) const {
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) {
        const int q = (i * N + k) * 3;
        part(q, most[i][k]), part(q + 1, weights[i][k]), part(q + 2, sum[i][k]);
      }
    }
  }
  AITER_DEVICE void means(float (&v)[2][N]) const {
    AITER_UNROLL
    for (int i = 0; i < 2; ++i) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k)
        v[i][k] = weights[i][k] > 0 ? sum[i][k] * reciprocal_fast(weights[i][k]) : 0.0f;
    }
  }

 private:
  // e^x of x <= 0, as exact as a weight needs that is added to one of 1.
  AITER_DEVICE static float power(float x) { return exp2_fast(x * 1.44269504f); }
};

// Some lines of a head, numbers and scores of T, on their way: all kept in a state, or all of this call.
template <class T, bool kKept>
struct PooledLines {
  static constexpr int N = PooledDims::N, kLines = 8 / static_cast<int>(sizeof(T));
  struct Packs {
    Pack<T, N> packs[2];

    AITER_DEVICE void load(const T* from, const PooledDims& dims) {
      if constexpr (sizeof(T) == 2)
        if (dims.together) {
          *this = bit_cast<Packs>(load_pack<2 * N>(from + dims.d[0]));
          return;
        }
      AITER_UNROLL
      for (int i = 0; i < 2; ++i) packs[i] = load_pack<N>(from + dims.d[i]);
    }
  };
  Packs numbers[kLines], scores[kLines];
  uint32_t there;  // a bit for each line

  // Those of lines [first, end).
  AITER_DEVICE void load(const PooledHeads& pool, const PooledHeads::Plan& plan, int64_t state,
                         int first, int end, const PooledDims& dims) {
    const T* kv = static_cast<const T*>(kKept ? pool.kv_state.data : pool.kv.data);
    const T* score = static_cast<const T*>(kKept ? pool.score_state.data : pool.score.data);
    there = 0;
    AITER_UNROLL
    for (int j = 0; j < kLines; ++j) {
      numbers[j] = scores[j] = {};
      if (!dims.there || first + j >= end) continue;
      PooledHeads::At at{};
      if (!(kKept ? pool.find_kept(plan, state, first + j, at)
                  : pool.find_here(plan, first + j, at)))
        continue;
      there |= 1u << j;
      numbers[j].load(kv + at.kv, dims);
      scores[j].load(score + at.score, dims);
    }
  }
  AITER_DEVICE void add_to(const PooledHeads& pool, int first, PooledDims& dims) const {
    float x[kLines][2][N], score[kLines][2][N];
    AITER_UNROLL
    for (int j = 0; j < kLines; ++j) {
      AITER_UNROLL
      for (int i = 0; i < 2; ++i) {
        numbers[j].packs[i].to_floats(x[j][i]);
        scores[j].packs[i].to_floats(score[j][i]);
        float bias[N] = {};
        if (!kKept && there >> j & 1)
          load_floats<N, T>(pool.bias.data, pool.bias.dtype, pool.bias_of(first + j) + dims.d[i],
                            bias);
        AITER_UNROLL
        for (int k = 0; k < N; ++k)
          score[j][i][k] = there >> j & 1 ? score[j][i][k] + bias[k] : -kInfinity;
      }
    }
    dims.add<kLines>(score, x);
  }
};

}  // namespace aiter
