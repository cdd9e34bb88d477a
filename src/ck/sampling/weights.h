// Integer weights of tokens, and what a block does with those of a row: sums, and the token at
// which a sum is reached. Bit for bit what simd/token_weights.h computes.
#pragma once

#include "ck/sampling/argmax.h"
#include "ck/sampling/candidates.h"
#include "ops/sampling/philox.h"

namespace aiter {

constexpr int kOneBits = 28;  // the largest weight is 2^28

// 2^28 * exp((x - max) / temperature), or probs * 2^n with the n that brings the largest to [2^27,
// 2^28), rounded. Plain products and sums alone: every machine gets the same bits.
struct Weights {
  bool probs;
  float largest, scale;
  float nothing;  // elements below weigh 0
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
      top = of<true>(largest);
    }
    nothing = probs ? largest * 0x1p-30f : largest - 30.0f / scale;
    if (min_p > 0) {
      const double w = static_cast<double>(min(min_p, 1.0f)) * top;
      least = static_cast<int32_t>(w);
      if (least < w) ++least;
    }
    return true;
  }

  AITER_DEVICE int32_t operator()(float x) const { return probs ? of<true>(x) : of<false>(x); }
  // Of probabilities, or of logits: loops are for one of them, as branches in a loop cost more than the
  // weights. NaN and -infinity weigh nothing.
  template <bool kProbs>
  AITER_DEVICE int32_t of(float x) const {
    const int32_t q = whole<kProbs>(x);
    return q >= least ? q : 0;
  }
  // Whatever `least` is.
  template <bool kProbs>
  AITER_DEVICE int32_t whole(float x) const {
    float w;
    if constexpr (kProbs) {
      w = fmax(x * scale, 0.0f);
    } else {
      const float y = fmax((x - largest) * scale, -30.0f);
      // A sum of this size has no fraction: it is rounded, and its low bits are n + kOneBits.
      constexpr float kInteger = 0x1.8p23f + kOneBits;
      const float shifted = y + kInteger, n = shifted - kInteger, f = y - n;
      float p = 0.001326472731307149f * f + 0.009671512991189957f;
      p = p * f + 0.05550733581185341f;
      p = p * f + 0.24022242426872253f;
      p = p * f + 0.6931470036506653f;
      p = p * f + 1.0f;
      w = bit_cast<float>(bit_cast<uint32_t>(p) + (bit_cast<uint32_t>(shifted) << 23));
    }
    return static_cast<int32_t>(w + 0.5f);
  }
};

// The weights of elements of at least `floor`, or whole() of all of them.
template <bool kProbs, bool kAll, int N>
AITER_DEVICE uint32_t weigh(const Weights& weights, float floor, const float (&v)[N],
                            uint32_t (&q)[N]) {
  uint32_t sum = 0;  // has 32 bits
  AITER_UNROLL
  for (int k = 0; k < N; ++k) {
#if defined(AITER_AMD)  // branches, which take fewer registers
    q[k] = v[k] >= floor ? weights.of<kProbs>(v[k]) : 0;
#else
    const float x = kAll || v[k] >= floor ? v[k] : -kInfinity;
    q[k] = kAll ? weights.whole<kProbs>(x) : weights.of<kProbs>(x);
#endif
    sum += q[k];
  }
  return sum;
}

// An element among those that candidates have become.
struct Token {
  float value;
  uint32_t index;
};
AITER_DEVICE float to_float(Token token) { return token.value; }

// What drawing an element from a resident row needs in shared memory.
struct DrawScratch {
  uint64_t waves[kMaxWaves], before[kMaxWaves];
  uint64_t totals[2][kMaxTeam];
  uint64_t target;
  int64_t found;
  uint32_t key;
  int32_t rank;
};
constexpr int kSegments = 512;  // of a block
struct WeightScratch {
  uint64_t masses[kSegments], waves[kMaxWaves], target;
  int64_t found;
  uint64_t sums[kMaxWaves], ranks[kMaxTeam];
};

// A row cut into segments, each of them summed up by one wave.
template <class T, int N>
struct WeightRow {
  using Element = T;
  static constexpr int kPack = N, kFlight = N == 8 || kInFlight<N> == 1 ? 1 : 2;
  static constexpr bool kResident = false;
  Team team;
  const T* x;
  int64_t count;
  // In 32 bits: products of 64 bits are slow, and read halves of registers that nobody wrote.
  int32_t steps;     // of a wave, in a segment; a multiple of kFlight
  int32_t segments;  // of this block
  int64_t begin;     // of them

  AITER_DEVICE WeightRow(const Team& team_, const T* row, int64_t n)
      : team(team_), x(row), count(n) {
    constexpr int kStep = kFlight * kWave * N;
    const uint32_t all = static_cast<uint32_t>((n + kStep - 1) / kStep);
    const uint32_t each = (all + team.size - 1) / team.size;  // block
    steps = static_cast<int32_t>((each + kSegments - 1) / kSegments);
    segments = static_cast<int32_t>((each + steps - 1) / steps);
    steps *= kFlight;
    begin = int64_t{team.rank} * segments * steps * kWave * N;
  }

  AITER_DEVICE Best best(TeamScratch<Best>& scratch) const {
    return row_argmax<N>(team, x, count, scratch);
  }
  AITER_DEVICE static uint32_t key_of(float v) { return Key<float>::of(bit_cast<uint32_t>(v)); }

  AITER_DEVICE int64_t first(int32_t segment, int32_t step) const {
    return begin + (int64_t{segment * steps + step} * kWave + thread_index() % kWave) * N;
  }

  // Weights of elements of at least `least`, a key.
  struct Masses {
    const WeightRow& row;
    const Weights& weights;
    float least;

    AITER_DEVICE Masses(const WeightRow& r, const Weights& w, uint32_t key)
        : row(r), weights(w), least(key ? float_of_key(key) : -kInfinity) {}
    // Of N elements.
    AITER_DEVICE uint32_t load(int64_t i, uint32_t (&q)[N]) const {
      float v[N];
      load_row(row.x, i, row.count, v);
      return weights.probs ? weigh<true, false>(weights, least, v, q)
                           : weigh<false, false>(weights, least, v, q);
    }
    // Of the elements that a lane has in a segment.
    template <bool kProbs>
    AITER_DEVICE uint64_t lane(int32_t segment) const {
      uint64_t sum = 0;
      AITER_NO_UNROLL
      for (int32_t t = 0; t < row.steps; t += kFlight) {
        float v[kFlight][N];
        const bool whole = row.first(segment, t + kFlight - 1) + N <= row.count;
        AITER_UNROLL
        for (int u = 0; u < kFlight; ++u)
          if (whole)
            load_floats(row.x + row.first(segment, t + u), v[u]);
          else
            load_row(row.x, row.first(segment, t + u), row.count, v[u]);
        AITER_UNROLL
        for (int u = 0; u < kFlight; ++u) {
          bool any = false;  // those of one wave are often all too small
          AITER_UNROLL
          for (int k = 0; k < N; ++k) any |= v[u][k] >= least;
          if (!any) continue;
          uint32_t q[N];
          sum += weigh<kProbs, false>(weights, least, v[u], q);
        }
      }
      return sum;
    }
    AITER_DEVICE uint64_t lane(int32_t segment) const {
      return weights.probs ? lane<true>(segment) : lane<false>(segment);
    }
  };

  // The mass of all keys of at least `least`.
  AITER_DEVICE uint64_t mass(uint32_t least, const Weights& weights, WeightScratch& s) const {
    const Masses masses(*this, weights, least);
    uint64_t total = 0;
    for (int32_t g = thread_index() / kWave; g < segments; g += block_threads() / kWave) {
      const uint64_t sum = wave_reduce<Sum>(masses.lane(g));
      if (thread_index() % kWave == 0) s.masses[g] = sum, total += sum;
    }
    total = block_reduce<Sum>(total, s.sums);  // whose barriers show masses to all
    if (team.size == 1) return total;
    team.gather(total, s.ranks);
    total = 0;
    for (int i = 0; i < team.size; ++i) total += s.ranks[i];
    team.barrier();
    return total;
  }

  // The first element up to which these masses exceed `target`, after mass() with the same
  // arguments.
  AITER_DEVICE int64_t find(uint32_t least, const Weights& weights, uint64_t target,
                            WeightScratch& s) const {
    int rank = 0;
    if (team.size > 1)
      while (target >= s.ranks[rank]) target -= s.ranks[rank++];
    if (rank == team.rank) find_here(Masses(*this, weights, least), target, s);
    int64_t found = s.found;
    if (team.size > 1) {
      barrier();
      if (rank == team.rank && thread_index() < team.size)
        *team.of_rank(&s.found, thread_index()) = found;
      team.barrier();
      found = s.found;
    }
    team.barrier();
    return found;
  }

  // Calls f(i, v) for the elements v from row[i] on, N at a time, NaN past the end.
  template <class F>
  AITER_DEVICE void each(F&& f) const {
    each_pack<N, true, 1>(team, x, count, f);
  }

 private:
  AITER_DEVICE void find_here(const Masses& masses, uint64_t target, WeightScratch& s) const {
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
        uint32_t q[N];
        const uint64_t mine = masses.load(first(segment, t), q);
        const uint64_t through = wave_scan(mine), step = shuffle(through, kWave - 1);
        if (through - mine <= rest && rest < through) {
          uint64_t left = rest - (through - mine);
          int64_t at = -1;
          AITER_UNROLL
          for (int k = 0; k < N; ++k) {
            if (at >= 0) continue;
            if (left < q[k])
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
  }
};

// How the elements of a row weigh.
struct Scale {
  Best best;
  Weights weights;
  bool normal;  // else the best one is taken

  template <class Row>
  AITER_DEVICE Scale(const Row& row, bool probs, float temperature, float min_p,
                     TeamScratch<Best>& scratch)
      : best(row.best(scratch)) {
    normal = weights.prepare(probs, best.value, temperature, min_p) && best.index >= 0;
    // Its place is of interest now.
    if (Row::kResident && !normal)
      best = row_argmax<Row::kPack>(row.team, row.x, row.count, scratch);
  }
};

// The lower bits of 16-bit elements as floats say nothing.
template <class T>
constexpr int kUnusedBits = is_same<T, f16>    ? 13
                            : is_same<T, bf16> ? 16
                                               : 0;

// Calls f(v) for this thread's elements from `low` to `high`.
template <class Row, class F>
AITER_DEVICE void each_between(const Row& row, float low, float high, F&& f) {
  row.each([&](int64_t, const float (&v)[Row::kPack]) {
    bool any = false;
    AITER_UNROLL
    for (int k = 0; k < Row::kPack; ++k) any |= v[k] >= low && v[k] <= high;
    if (!any) return;
    AITER_UNROLL
    for (int k = 0; k < Row::kPack; ++k)
      if (v[k] >= low && v[k] <= high) f(v[k]);
  });
}

// The least key of the k largest elements of a row and those equal to the last of them; NaN does not
// count.
template <class Row, class Total>
AITER_DEVICE uint32_t top_k_key(const Row& row, int64_t k, RadixScratch<Total>& scratch) {
  if (k >= row.count) return 0;
  constexpr int kUnused = kUnusedBits<typename Row::Element>;
  const Total need = static_cast<Total>(k);
  const auto found = radix_select<32 - kUnused>(
      row.team, need, scratch, [&](auto&& f, uint32_t low, uint32_t high) {
        low = max(low << kUnused, Row::key_of(-kInfinity));
        high = min(high << kUnused | ((1u << kUnused) - 1), Row::key_of(kInfinity));
        if (low > high) return;
        each_between(row, float_of_key(low), float_of_key(high),
                     [&](float v) { f(Row::key_of(v) >> kUnused, Total{1}); });
      });
  return (found.above >= need ? found.key + 1 : found.key) << kUnused;
}

// The least key of those probabilities that are exceeded by a mass of less than `need`, all of keys of at
// least `least`; so much mass that `spare` of it is not needed.
template <class Row>
AITER_DEVICE uint32_t top_p_key(const Row& row, uint64_t need, uint64_t spare, uint32_t least,
                                const Weights& weights, RadixScratch<uint64_t>& scratch) {
  constexpr int kUnused = kUnusedBits<typename Row::Element>;
  // What weighs something is at most 29 binary orders below the largest. The bits that tell it from the
  // largest are enough of a key, and their first digit spreads the elements over many bins.
  constexpr int kBits = 28;
  constexpr uint32_t kAll = (1u << kBits) - 1;
  const uint32_t largest = bit_cast<uint32_t>(weights.largest);
  const float floor = max(least ? float_of_key(least) : -kInfinity, weights.nothing);
  // All that weigh this little can be left out: they have no more than the spare mass.
  const int32_t small = static_cast<int32_t>(spare / static_cast<uint64_t>(row.count));
  const auto found = radix_select<kBits - kUnused>(
      row.team, need, scratch, [&](auto&& f, uint32_t low, uint32_t high) {
        auto bound = [&](uint32_t key) {
          const uint32_t below = kAll - key;
          return bit_cast<float>(largest > below ? largest - below : 0);
        };
        const float from = max(bound(low << kUnused), floor);
        each_between(row, from, bound(high << kUnused | ((1u << kUnused) - 1)), [&](float v) {
          const int32_t weight = weights.of<true>(v);
          if (weight > small)
            f((kAll - (largest - bit_cast<uint32_t>(v))) >> kUnused, static_cast<uint64_t>(weight));
        });
      });
  if (found.above < need && found.key == 0) return least;  // all of them together have less
  return max(least, Row::key_of(weights.largest) - (kAll - ((found.key + 1) << kUnused) + 1));
}

// Such a row as Candidates take it.
template <class Row>
struct CandidateRow {
  static constexpr int N = Row::kPack;
  using Element = typename Row::Element;
  using Loaded = Pack<Element, N>;
  const Element* x;
  uint32_t begin, end;

  AITER_DEVICE explicit CandidateRow(const Row& row)
      : x(row.x), begin(0), end(static_cast<uint32_t>(row.count)) {}
  AITER_DEVICE Loaded load(uint32_t i) const { return load_pack<N>(x + i); }
  AITER_DEVICE Loaded load_part(uint32_t i) const {
    if (i + N <= end) return load(i);
    float v[N];
    load_row(x, i, end, v);
    return Loaded::from_floats(v);
  }
  AITER_DEVICE void keys(const Loaded& pack, uint32_t (&key)[N]) const {
    float v[N];
    pack.to_floats(v);
    // NaN is no candidate: it comes after -infinity.
    AITER_UNROLL
    for (int j = 0; j < N; ++j) {
      key[j] = Key<float>::of(bit_cast<uint32_t>(v[j]));
      if (key[j] == 0xffffffff) key[j] = 0;
    }
  }
};

// The tokens that the first `count` candidates are, in the order of their indices.
template <int kCapacity>
AITER_DEVICE WeightRow<Token, 1> tokens_of(Candidates<kCapacity>& candidates, int count) {
  candidates.sort(count, [](uint64_t c) { return c << 32 | key_of(c); });
  for (int i = thread_index(); i < count; i += block_threads()) {
    const uint64_t c = candidates.items[i];
    const uint64_t index = ~static_cast<uint32_t>(c >> 32);
    candidates.items[i] = index << 32 | bit_cast<uint32_t>(float_of_key(static_cast<uint32_t>(c)));
  }
  barrier();
  return {Team::alone(), reinterpret_cast<const Token*>(candidates.items), count};
}

// The part of a mass that top_p leaves, at least 1.
AITER_DEVICE uint64_t share(float top_p, uint64_t mass) {
  const double part = static_cast<double>(top_p) * static_cast<double>(mass);
  if (!(part > 1)) return 1;
  const uint64_t whole = static_cast<uint64_t>(part);
  return static_cast<double>(whole) < part ? whole + 1 : whole;
}

}  // namespace aiter
