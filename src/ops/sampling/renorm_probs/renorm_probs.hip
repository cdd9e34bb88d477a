// One block a row, by passes over it that the caches serve after the first: the largest element,
// the thresholds of top_k and top_p by radix selection, the sum of what is kept, the results.
#include "ck/sampling/weights.h"
#include "ops/sampling/renorm_probs/renorm_probs_args.h"

namespace aiter {

template <class T, int N>
AITER_DEVICE void renorm_probs(const RenormProbsArgs& a) {
  AITER_SHARED RadixScratch<uint32_t> counts;
  AITER_SHARED RadixScratch<uint64_t> radix;
  AITER_SHARED WeightScratch scratch;
  AITER_SHARED Best bests[kMaxWaves];
  AITER_SHARED float floats[kMaxWaves];
  for (int64_t r = block_index_x(); r < a.rows; r += grid_blocks()) {
    const WeightRow<T, N> row(static_cast<const T*>(a.probs) + r * a.probs_stride, a.vocab);
    T* out = static_cast<T*>(a.out) + r * a.out_stride;
    const Best best = row_argmax<N>(row.x, row.count, bests);
    const int64_t top_k = a.top_k.integer(r);
    const float top_p = a.top_p.real(r);
    Weights weights;
    const bool normal = weights.prepare(true, best.value, 1.0f, a.min_p.real(r)) && best.index >= 0;
    uint32_t least = 0;
    if (normal) {
      uint64_t whole = 0;
      if (top_p < 1 && top_k > 0 && !a.top_k_first) whole = row.mass(0, weights, scratch);
      if (top_k > 0) least = row.top_k(top_k, counts);
      if (top_p < 1)
        least = row.top_p(share(top_p, whole ? whole : row.mass(least, weights, scratch)), least,
                          weights, radix);
    }
    auto kept = [&](float v) {
      return v > 0 && row.key_of(v) >= least && weights(v) >= weights.least;
    };
    float sum = 0;
    if (normal) {
      row.each([&](int64_t, const float (&v)[N]) {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) sum += kept(v[k]) ? v[k] : 0;
      });
    }
    sum = block_reduce<Sum>(sum, floats);
    row.each([&](int64_t i, const float (&v)[N]) {
      float y[N];
      AITER_UNROLL
      for (int k = 0; k < N; ++k)
        y[k] = normal ? (kept(v[k]) ? v[k] / sum : 0) : i + k == best.index ? 1.0f : 0.0f;
      if (i + N <= row.count) {
        store_floats(out + i, y);
      } else {
        AITER_UNROLL
        for (int k = 0; k < N; ++k)
          if (i + k < row.count) out[i + k] = from_float<T>(y[k]);
      }
    });
  }
}

}  // namespace aiter

#define AITER_RENORM(row, aligned, T)                                            \
  AITER_KERNEL(renorm_probs_##row##_##T, 1024)(const aiter::RenormProbsArgs a) { \
    aiter::wait_for_previous_kernel();                                           \
    aiter::renorm_probs<aiter::T, aiter::kPackSize<aiter::T, aligned>>(a);       \
  }
AITER_RENORM(hip_vec, true, f32)
AITER_RENORM(hip_vec, true, f16)
AITER_RENORM(hip_vec, true, bf16)
AITER_RENORM(hip_any, false, f32)
AITER_RENORM(hip_any, false, f16)
AITER_RENORM(hip_any, false, bf16)
