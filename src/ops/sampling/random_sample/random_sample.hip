// A team of blocks a row, one pass: every thread keeps its two best scores as floats; the threads whose
// best comes near the row's best then settle it in doubles. Where noise is made here, most elements need
// no more of it than the random bits, which say that the score is below that of some other one.
#include "ck/sampling/argmax.h"
#include "ck/sampling/noise.h"
#include "ops/sampling/random_sample/random_sample_args.h"

namespace aiter {

AITER_DEVICE BestOf<double> shuffle_xor(BestOf<double> b, int mask) {
  return {bit_cast<double>(shuffle_xor(bit_cast<uint64_t>(b.value), mask)),
          shuffle_xor(b.index, mask)};
}

struct RandomScratch {
  TeamScratch<Best> bests;
  TeamScratch<float> floats;
  TeamScratch<BestOf<double>> doubles;
};

template <class T, bool kAligned>
struct RandomRow {
  static constexpr int N = 4;
  const RandomSampleArgs& a;
  const Team& team;
  const T* logits;
  const float* noise;
  Philox random;
  float temperature;

  // Says of elements that their score is below `bar` by more than the errors of floats: -log(1 - v)
  // is no less than v.
  struct Filter {
    float scale, offset;
    AITER_DEVICE Filter(const RandomRow& row, float bar)
        : scale(kLog2E / row.temperature),
          offset((4 * uncertainty(bar) - bar) * kLog2E - log2_fast(row.a.scale)) {}
    AITER_DEVICE bool passes(float x, uint32_t word) const {
      const float v = bit_cast<float>(0x3f800000 | word >> 9) - 1.0f;
      return v <= exp2_fast(fma(x, scale, offset));
    }
    static constexpr float kLog2E = 1.44269504f;
  };

  // Calls f(i, logit, noise, score) for this thread's elements from `begin` to `end`, and perhaps NaN
  // past the last one, but not where the score is far below `bar`. A score that is no number in floats is
  // infinite, but of NaN it is the least.
  template <class F>
  AITER_DEVICE void each(uint32_t begin, uint32_t end, float bar, F&& f) const {
    const float scale = 1.0f / temperature;
    const Filter filter(*this, bar);
    each_pack<N, kAligned, 1>(
        team, logits + begin, end - begin, [&](uint32_t at, const float (&x)[N]) {
          const uint32_t i = begin + at;
          float q[N];
          if (noise) {
            load_row<N, kAligned>(noise, i, end, q);
          } else {
            uint32_t words[N];
            random_words(random, i, words);
            bool any = bar == -kInfinity;
            AITER_UNROLL
            for (int k = 0; k < N; ++k) any |= filter.passes(x[k], words[k]);
            if (!any) return;
            AITER_UNROLL
            for (int k = 0; k < N; ++k) q[k] = exponential_of(words[k]) * a.scale;
          }
          AITER_UNROLL
          for (int k = 0; k < N; ++k) {
            const float divisor = q[k] + a.eps;
            const float score = x[k] * scale - log2_fast(divisor) * 0.693147181f;
            const bool usual = divisor >= 1.2e-38f && divisor <= 3e38f && score == score;
            f(i + k, x[k], q[k], !(x[k] == x[k]) ? -kInfinity : usual ? score : kInfinity);
          }
        });
  }

  AITER_DEVICE BestOf<double> exact(uint32_t i, float logit, float q) const {
    const double score = score_of(logit, temperature, q, a.eps);
    return {score, score == score ? static_cast<int32_t>(i) : -1};
  }

  AITER_DEVICE int64_t sample(RandomScratch& s) const {
    const uint32_t vocab = static_cast<uint32_t>(a.vocab);
    float best = -kInfinity, second = -kInfinity, logit = 0, q = 0;
    uint32_t at = vocab;
    // The best of the first elements is the bar for the others.
    float bar = -kInfinity;
    uint32_t begin = 0, end = min(vocab, static_cast<uint32_t>(team.size * block_threads() * N));
    AITER_NO_UNROLL
    for (;;) {
      each(begin, end, bar, [&](uint32_t i, float x, float given, float score) {
        const bool better = score > best && score < kInfinity;
        second = max(second, better ? best : score);
        best = better ? score : best;
        at = better ? i : at;
        logit = better ? x : logit;
        q = better ? given : q;
      });
      if (end == vocab) break;
      bar = block_reduce<Max>(best, s.floats.waves);
      begin = end, end = vocab;
    }
    const float highest = team_reduce<Max>(team, best, s.floats);
    const float cut = highest - uncertainty(highest);
    BestOf<double> chosen{0, -1};
    // Infinite ones, and those of a row of nothing but -infinity, too.
    if (second >= cut) {
      each(0, vocab, highest, [&](uint32_t i, float x, float given, float score) {
        if (!(score < cut)) chosen = TakeBest::combine(chosen, exact(i, x, given));
      });
    } else if (at < vocab && best >= cut) {
      chosen = exact(at, logit, q);
    }
    return team_reduce<TakeBest>(team, chosen, s.doubles).index;
  }
};

template <class T, bool kAligned>
AITER_DEVICE void random_sample(const RandomSampleArgs& a) {
  AITER_SHARED RandomScratch scratch;
  const Team team = Team::own();
  for (int64_t b = team.first_row(); b < a.batch; b += team.row_step()) {
    const T* logits = static_cast<const T*>(a.logits) + b * a.logits_stride;
    const float given = a.temperature.real(b);
    int64_t token;
    if (given == 0) {
      token = row_argmax<kPackSize<T, kAligned>>(team, logits, a.vocab, scratch.bests).index;
    } else {
      const RandomRow<T, kAligned> row{
          a,
          team,
          logits,
          a.exponentials ? a.exponentials + b * a.exponentials_stride : nullptr,
          philox_of(a.seed, a.offset, b),
          given > kLeastTemperature ? given : kLeastTemperature};
      token = row.sample(scratch);
    }
    if (team.leads() && thread_index() == 0)
      store_index(a.out, a.out_dtype, b * a.out_stride, token);
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
