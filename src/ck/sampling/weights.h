// Integer weights of tokens, and what a block does with those of a row: sums, and the token at
// which a sum is reached. Bit for bit what simd/token_weights.h computes.
#pragma once

#include "ck/sampling/argmax.h"
#include "ck/sampling/radix_select.h"
#include "ops/sampling/philox.h"

namespace aiter {

constexpr int kOneBits = 28;  // the largest weight is 2^28

// 2^28 * exp((x - max) / temperature), or probs * 2^n with the n that brings the largest to [2^27,
// 2^28), rounded. Plain products and sums alone: every machine gets the same bits.
struct Weights {
  bool probs;
  float largest, scale;
  int32_t least;  // weights below are 0

  // False if the row has no weights: the largest element decides.
  AITER_DEVICE bool prepare(bool input_is_probs, float row_largest, float temperature,
                            float min_p) {
    probs = input_is_probs, largest = row_largest, least = 0;
    scale = 1.44269504f / temperature;  // log2(e)
    if (!(largest > -kInfinity && largest < kInfinity) || !(scale > 0 && scale < kInfinity) ||
        (probs && largest <= 0))
      return false;
    int32_t top = 1 << kOneBits;
    if (probs) {
      const uint32_t exponent = bit_cast<uint32_t>(largest) >> 23;  // of 2^(e - 127)
      scale = bit_cast<float>((254 + kOneBits - 1 - (exponent > 28 ? exponent : 28)) << 23);
      top = (*this)(largest);
    }
    if (min_p > 0) {
      const double w = static_cast<double>(min(min_p, 1.0f)) * top;
      least = static_cast<int32_t>(w);
      if (least < w) ++least;
    }
    return true;
  }

  AITER_DEVICE int32_t operator()(float x) const {
    float w;
    if (probs) {
      w = x * scale;
      w = w > 0 ? w : 0;  // NaN too
    } else {
      float y = (x - largest) * scale;
      y = y > -30.0f ? y : -30.0f;  // NaN too
      const float n = round_even(y), f = y - n;
      float p = 0.001326472731307149f * f + 0.009671512991189957f;
      p = p * f + 0.05550733581185341f;
      p = p * f + 0.24022242426872253f;
      p = p * f + 0.6931470036506653f;
      p = p * f + 1.0f;
      w = bit_cast<float>(bit_cast<int32_t>(p) + (static_cast<int32_t>(n) + kOneBits) * (1 << 23));
    }
    const int32_t q = static_cast<int32_t>(w + 0.5f);
    return q >= least ? q : 0;
  }
};

constexpr int kSegments = 1024;
struct WeightScratch {
  uint64_t masses[kSegments];
  uint64_t waves[kMaxWaves], sums[kMaxWaves];
  uint64_t target;
  int64_t found;
};

// A row cut into segments, each of them summed up by one wave.
template <class T, int N>
struct WeightRow {
  const T* x;
  int64_t count;
  // In 32 bits: products of 64 bits are slow, and read halves of registers that nobody wrote.
  int32_t steps;  // of a wave, in a segment
  int32_t segments;

  AITER_DEVICE WeightRow(const T* row, int64_t n) : x(row), count(n) {
    constexpr int kStep = kWave * N;
    const uint32_t all = static_cast<uint32_t>((n + kStep - 1) / kStep);
    steps = static_cast<int32_t>((all + kSegments - 1) / kSegments);
    segments = static_cast<int32_t>((all + steps - 1) / steps);
  }

  // Weights of keys of at least `least`.
  AITER_DEVICE void load(int64_t i, uint32_t least, const Weights& weights, int32_t (&q)[N]) const {
    float v[N];
    load_row(x, i, count, v);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) q[k] = key_of(v[k]) >= least ? weights(v[k]) : 0;
  }
  AITER_DEVICE static uint32_t key_of(float v) { return Key<float>::of(bit_cast<uint32_t>(v)); }

  AITER_DEVICE int64_t first(int32_t segment, int32_t step) const {
    return (int64_t{segment * steps + step} * kWave + thread_index() % kWave) * N;
  }

  // The mass of all keys of at least `least`.
  AITER_DEVICE uint64_t mass(uint32_t least, const Weights& weights, WeightScratch& s) const {
    uint64_t total = 0;
    for (int32_t g = thread_index() / kWave; g < segments; g += block_threads() / kWave) {
      uint64_t sum = 0;
      for (int32_t t = 0; t < steps; ++t) {
        int32_t q[N];
        load(first(g, t), least, weights, q);
        AITER_UNROLL
        for (int k = 0; k < N; ++k) sum += q[k];
      }
      sum = wave_reduce<Sum>(sum);
      if (thread_index() % kWave == 0) s.masses[g] = sum, total += sum;
    }
    return block_reduce<Sum>(total, s.sums);  // whose barriers show masses to all
  }

  // The first element up to which these masses exceed `target`, after mass() with the same
  // arguments.
  AITER_DEVICE int64_t find(uint32_t least, const Weights& weights, uint64_t target,
                            WeightScratch& s) const {
    barrier();
    const int32_t part = (segments + block_threads() - 1) / block_threads();
    uint64_t own = 0;
    for (int32_t g = thread_index() * part; g < (thread_index() + 1) * part && g < segments; ++g)
      own += s.masses[g];
    const Scan<uint64_t> scan = block_scan(own, s.waves);
    if (scan.before <= target && target < scan.before + own) {
      int32_t g = thread_index() * part;
      uint64_t rest = target - scan.before;
      while (rest >= s.masses[g]) rest -= s.masses[g++];
      s.found = g;
      s.target = rest;
    }
    barrier();
    const int32_t segment = static_cast<int32_t>(s.found);
    uint64_t rest = s.target;
    barrier();
    if (thread_index() < kWave) {
      for (int32_t t = 0; t < steps; ++t) {
        int32_t q[N];
        load(first(segment, t), least, weights, q);
        uint64_t mine = 0;
        AITER_UNROLL
        for (int k = 0; k < N; ++k) mine += q[k];
        const uint64_t through = wave_scan(mine), step = shuffle(through, kWave - 1);
        if (through - mine <= rest && rest < through) {
          uint64_t left = rest - (through - mine);
          int64_t at = -1;
          AITER_UNROLL
          for (int k = 0; k < N; ++k) {
            if (at >= 0) continue;
            if (left < static_cast<uint64_t>(q[k]))
              at = first(segment, t) + k;
            else
              left -= q[k];
          }
          s.found = at;
        }
        if (rest < step) break;
        rest -= step;
      }
    }
    barrier();
    return s.found;
  }

  // Calls f(i, v) for this thread's elements, N at a time; NaN past the end.
  template <class F>
  AITER_DEVICE void each(F&& f) const {
    for (int64_t i = thread_index() * N; i < count; i += block_threads() * N) {
      float v[N];
      load_row(x, i, count, v);
      f(i, v);
    }
  }

  // The least key of the k largest and those equal to the last of them; NaN does not count.
  template <class Total>
  AITER_DEVICE uint32_t top_k(int64_t k, RadixScratch<Total>& scratch) const {
    if (k >= count) return 0;
    return least_key(static_cast<Total>(k), scratch, [](float) { return Total{1}; });
  }

  // The least key of those that are exceeded by less than this mass of keys of at least `least`.
  AITER_DEVICE uint32_t top_p(uint64_t mass, uint32_t least, const Weights& weights,
                              RadixScratch<uint64_t>& scratch) const {
    const uint32_t found = least_key(mass, scratch, [&](float v) {
      return key_of(v) >= least ? static_cast<uint64_t>(weights(v)) : uint64_t{0};
    });
    return max(found, least);
  }

 private:
  template <class Total, class WeightOf>
  AITER_DEVICE uint32_t least_key(Total need, RadixScratch<Total>& scratch,
                                  WeightOf&& weight_of) const {
    // The lower bits of 16-bit elements as floats say nothing.
    constexpr int kDrop = sizeof(T) == 4 ? 0 : is_same<T, f16> ? 13 : 16;
    const auto found = radix_select<32 - kDrop>(need, scratch, [&](auto&& f) {
      each([&](int64_t, const float (&v)[N]) {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) {
          if (!(v[k] == v[k])) continue;
          const Total weight = weight_of(v[k]);
          if (weight != 0) f(key_of(v[k]) >> kDrop, weight);
        }
      });
    });
    return (found.above >= need ? found.key + 1 : found.key) << kDrop;
  }
};

// The part of a mass that top_p leaves, at least 1.
AITER_DEVICE uint64_t share(float top_p, uint64_t mass) {
  const double part = static_cast<double>(top_p) * static_cast<double>(mass);
  if (!(part > 1)) return 1;
  const uint64_t whole = static_cast<uint64_t>(part);
  return static_cast<double>(whole) < part ? whole + 1 : whole;
}

}  // namespace aiter
