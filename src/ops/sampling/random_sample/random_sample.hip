// One block a row, one pass: every thread keeps its two best scores as floats; the threads whose
// best comes near the row's best then settle it in doubles.
#include "ck/sampling/noise.h"
#include "ops/sampling/random_sample/random_sample_args.h"

namespace aiter {

AITER_DEVICE BestOf<double> shuffle_xor(BestOf<double> b, int mask) {
  return {bit_cast<double>(shuffle_xor(bit_cast<uint64_t>(b.value), mask)),
          shuffle_xor(b.index, mask)};
}

template <class T, bool kAligned>
struct RandomRow {
  static constexpr int N = kAligned ? 16 / static_cast<int>(sizeof(T)) : 4;
  const RandomSampleArgs& a;
  const T* logits;
  const float* noise;
  Philox random;
  float temperature;

  // Calls f(i, logit, noise, score) for this thread's elements, and perhaps NaN past the last one. A
  // score that is no number in floats is infinite, but of NaN it is the least.
  template <class F>
  AITER_DEVICE void each(F&& f) const {
    const float scale = 1.0f / temperature;
    for (int64_t i = thread_index() * N; i < a.vocab; i += block_threads() * N) {
      float x[N], q[N];
      load_row_any<kAligned, N>(logits, i, a.vocab, x);
      if (noise) {
        load_row_any<kAligned, N>(noise, i, a.vocab, q);
      } else {
        exponentials<N>(random, i, q);
        AITER_UNROLL
        for (int k = 0; k < N; ++k) q[k] = q[k] * a.scale;
      }
      AITER_UNROLL
      for (int k = 0; k < N; ++k) {
        const float divisor = q[k] + a.eps;
        const float score = x[k] * scale - log2_fast(divisor) * 0.693147181f;
        const bool usual = divisor >= 1.2e-38f && divisor <= 3e38f && score == score;
        f(i + k, x[k], q[k], !(x[k] == x[k]) ? -kInfinity : usual ? score : kInfinity);
      }
    }
  }

  AITER_DEVICE BestOf<double> exact(int64_t i, float logit, float q) const {
    const double score = score_of(logit, temperature, q, a.eps);
    return {score, score == score ? static_cast<int32_t>(i) : -1};
  }

  AITER_DEVICE int64_t sample(float* floats, BestOf<double>* doubles) const {
    float best = -kInfinity, second = -kInfinity, logit = 0, q = 0;
    int64_t at = -1;
    each([&](int64_t i, float x, float given, float score) {
      const bool better = score > best && score < kInfinity;
      second = max(second, better ? best : score);
      best = better ? score : best;
      at = better ? i : at;
      logit = better ? x : logit;
      q = better ? given : q;
    });
    const float highest = block_reduce<Max>(best, floats);
    const float cut = highest - uncertainty(highest);
    BestOf<double> chosen{0, -1};
    if (second >= cut) {  // infinite ones, and those of a row of nothing but -infinity, too
      each([&](int64_t i, float x, float given, float score) {
        if (!(score < cut)) chosen = TakeBest::combine(chosen, exact(i, x, given));
      });
    } else if (at >= 0 && best >= cut) {
      chosen = exact(at, logit, q);
    }
    return block_reduce<TakeBest>(chosen, doubles).index;
  }
};

template <class T, bool kAligned>
AITER_DEVICE void random_sample(const RandomSampleArgs& a) {
  AITER_SHARED Best bests[kMaxWaves];
  AITER_SHARED float floats[kMaxWaves];
  AITER_SHARED BestOf<double> doubles[kMaxWaves];
  for (int64_t b = block_index_x(); b < a.batch; b += grid_blocks()) {
    const T* logits = static_cast<const T*>(a.logits) + b * a.logits_stride;
    const float given = a.temperature.real(b);
    int64_t token;
    if (given == 0) {
      token = row_argmax<kPackSize<T, kAligned>>(logits, a.vocab, bests).index;
    } else {
      const RandomRow<T, kAligned> row{
          a, logits, a.exponentials ? a.exponentials + b * a.exponentials_stride : nullptr,
          philox_of(a.seed, a.offset, b), given > kLeastTemperature ? given : kLeastTemperature};
      token = row.sample(floats, doubles);
    }
    if (thread_index() == 0) store_index(a.out, a.out_dtype, b * a.out_stride, token);
  }
}

}  // namespace aiter

#define AITER_RANDOM_SAMPLE(row, aligned, T)                                       \
  AITER_KERNEL(random_sample_##row##_##T, 1024)(const aiter::RandomSampleArgs a) { \
    aiter::wait_for_previous_kernel();                                             \
    aiter::random_sample<aiter::T, aligned>(a);                                    \
  }
AITER_RANDOM_SAMPLE(hip_vec, true, f32)
AITER_RANDOM_SAMPLE(hip_vec, true, f16)
AITER_RANDOM_SAMPLE(hip_vec, true, bf16)
AITER_RANDOM_SAMPLE(hip_any, false, f32)
AITER_RANDOM_SAMPLE(hip_any, false, f16)
AITER_RANDOM_SAMPLE(hip_any, false, bf16)
