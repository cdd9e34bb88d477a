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

template <class T, bool kAligned, bool kGiven>
struct RandomRow {
  // Elements of one block of random numbers, and of one load, while which is under way the ones before
  // are looked at. On AMD a block's waves are enough loads.
  static constexpr int N = 4, kStep = kInFlight<N> > 1 ? 8 : 4;
  const RandomSampleArgs& a;
  const Team& team;
  const T* logits;
  const float* noise;  // if kGiven
  Philox random;       // else
  float temperature;

  // Says of elements that their score is below `bar` by more than the errors of floats: -log(1 - v)
  // is no less than v, nor than 2^-33.
  struct Filter {
    float scale, offset, least;
    AITER_DEVICE Filter(const RandomRow& row, float bar)
        : scale(kLog2E / row.temperature),
          offset((4 * uncertainty(bar) - bar) * kLog2E - log2_fast(row.a.scale)),
          least(bar == -kInfinity ? kInfinity : -kInfinity) {}  // there is no bar: all pass
    AITER_DEVICE float exponent(float x) const { return fmax(fma(x, scale, offset), least); }
    // Where no random number lifts the score to the bar.
    AITER_DEVICE static bool never(float exponent) { return !(exponent >= -34.0f); }
    AITER_DEVICE static bool passes(float exponent, uint32_t word) {
      const float v = bit_cast<float>(0x3f800000 | word >> 9) - 1.0f;
      return v <= exp2_fast(exponent);
    }
    static constexpr float kLog2E = 1.44269504f;
  };

  // Elements row[i] to row[i + kStep - 1]; those past the end are NaN.
  struct Loaded {
    Pack<T, N> packs[kStep / N];
  };
  AITER_DEVICE Loaded load(uint32_t i, uint32_t end) const {
    Loaded loaded;
    AITER_UNROLL
    for (int u = 0; u < kStep / N; ++u) {
      float v[N];
      if (kAligned && i + kStep <= end) {
        loaded.packs[u] = load_pack<N>(logits + i + u * N);
      } else {
        load_row<N, false>(logits, i + u * N, end, v);
        loaded.packs[u] = Pack<T, N>::from_floats(v);
      }
    }
    return loaded;
  }

  // Calls f(i, logit, noise, score) for this thread's elements from `begin` to `end`, and perhaps NaN
  // past the last one, but not where the score is far below `bar`. A score that is no number in floats is
  // infinite, but of NaN it is the least.
  template <class F>
  AITER_DEVICE void each(uint32_t begin, uint32_t end, float bar, F&& f) const {
    const float scale = 1.0f / temperature;
    const Filter filter(*this, bar);
    const uint32_t step = team.size * block_threads() * kStep;
    uint32_t i = begin + (team.rank * block_threads() + thread_index()) * kStep;
    Loaded next = load(i, end);
    AITER_NO_UNROLL
    for (; i < end; i += step) {
      const Loaded loaded = next;
      next = load(i + step, end);
      AITER_UNROLL
      for (int u = 0; u < kStep / N; ++u) {
        const uint32_t at = i + u * N;
        float x[N], q[N];
        loaded.packs[u].to_floats(x);
        if constexpr (kGiven) {
          load_row<N, kAligned>(noise, at, end, q);
        } else {
          // Of the largest logit and the least number at once.
          const float exponent = filter.exponent(fmax(fmax(x[0], x[1]), fmax(x[2], x[3])));
          if (Filter::never(exponent)) continue;
          uint32_t words[N];
          random_words(random, at, words);
          if (!Filter::passes(exponent, min(min(words[0], words[1]), min(words[2], words[3]))))
            continue;
          AITER_UNROLL
          for (int k = 0; k < N; ++k) q[k] = exponential_of(words[k]) * a.scale;
        }
        AITER_UNROLL
        for (int k = 0; k < N; ++k) {
          const float divisor = q[k] + a.eps;
          const float score = x[k] * scale - log2_fast(divisor) * 0.693147181f;
          const bool usual = divisor >= 1.2e-38f && divisor <= 3e38f && score == score;
          f(at + k, x[k], q[k], !(x[k] == x[k]) ? -kInfinity : usual ? score : kInfinity);
        }
      }
    }
  }

  AITER_DEVICE float noise_of(uint32_t i) const {
    if constexpr (kGiven) {
      return noise[i];
    } else {
      uint32_t words[N];
      random.block(i / N, words);
      const uint32_t low = i & 2 ? words[2] : words[0], high = i & 2 ? words[3] : words[1];
      return exponential_of(i & 1 ? high : low) * a.scale;
    }
  }
  AITER_DEVICE BestOf<double> exact(uint32_t i, float logit, float q) const {
    const double score = score_of(logit, temperature, q, a.eps);
    return {score, score == score ? static_cast<int32_t>(i) : -1};
  }

  AITER_DEVICE int64_t sample(RandomScratch& s) const {
    const uint32_t vocab = static_cast<uint32_t>(a.vocab);
    float best = -kInfinity, second = -kInfinity;
    uint32_t at = vocab;
    // The best of the first elements is the bar for the next, which are some times as many.
    float bar = -kInfinity;
    uint32_t begin = 0,
             end = min(vocab, static_cast<uint32_t>(team.size * block_threads() * kStep));
    AITER_NO_UNROLL
    for (;;) {
      each(begin, end, bar, [&](uint32_t i, float, float, float score) {
        const bool better = score > best && score < kInfinity;
        second = max(second, better ? best : score);
        best = better ? score : best;
        at = better ? i : at;
      });
      if (end == vocab) break;
      bar = block_reduce<Max>(best, s.floats.waves);
      begin = end, end = vocab / 8 > end ? 8 * end : vocab;
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
      chosen = exact(at, to_float(logits[at]), noise_of(at));
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
      const float temperature = given > kLeastTemperature ? given : kLeastTemperature;
      if (a.exponentials) {
        const float* noise = a.exponentials + b * a.exponentials_stride;
        token =
            RandomRow<T, kAligned, true>{a, team, logits, noise, {}, temperature}.sample(scratch);
      } else {
        const Philox random = uniform(philox_of(a.seed, a.offset, b));
        token = RandomRow<T, kAligned, false>{a, team, logits, nullptr, random, temperature}.sample(
            scratch);
      }
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
