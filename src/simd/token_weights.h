// Integer weights of tokens, and the sums and searches of a row of them, for the CPU rows; their
// counterparts on GPUs are in ck/sampling/weights.h.
#pragma once

#include "simd/parallel.h"
#include "simd/radix_select.h"

namespace aiter::AITER_ISA {

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Counts __attribute__((vector_size(4 * kLanes)));
typedef uint64_t Longs __attribute__((vector_size(4 * kLanes)));

constexpr float kInfinity = __builtin_inff();
constexpr int kOneBits = 28;  // the largest weight is 2^28: 8 of them fit a lane of 32 bits
constexpr int kBlock = 64;    // elements; at most 8 a lane
constexpr int kMaxBlocks = 8192;

// ---- weights ------------------------------------------------------------------------------------

// 2^28 * exp((x - max) / temperature), rounded. Plain products and sums alone, no fused ones: every
// machine gets the same bits.
struct LogitWeights {
  Vec largest, scale;
  Ints least;  // weights below are 0

  AITER_INLINE Ints operator()(Vec x) const {
    const Vec y = max((x - largest) * scale, set1(-30.0f));  // NaN becomes -30
    const Vec n = round(y);
    const Vec f = y - n;
    // 2^f on [-1/2, 1/2], relative error 2e-7
    Vec p = set1(0.001326472731307149f) * f + set1(0.009671512991189957f);
    p = p * f + set1(0.05550733581185341f);
    p = p * f + set1(0.24022242426872253f);
    p = p * f + set1(0.6931470036506653f);
    p = p * f + set1(1.0f);
    const Ints exponent = (__builtin_convertvector((Floats)n.v, Ints) + kOneBits) << 23;
    const Floats w = (Floats)((Ints)p.v + exponent) + 0.5f;
    const Ints q = __builtin_convertvector(w, Ints);
    return q & (q >= least);
  }
};

// probs * 2^n, rounded, with the n that brings the largest to [2^27, 2^28).
struct ProbWeights {
  Vec scale;
  Ints least;

  AITER_INLINE Ints operator()(Vec x) const {
    const Vec w = max(x * scale, zero()) + set1(0.5f);  // NaN and negative ones become 0
    const Ints q = __builtin_convertvector((Floats)w.v, Ints);
    return q & (q >= least);
  }
  AITER_INLINE int32_t operator()(float x) const {
    const float w = x * ((Floats)scale.v)[0];
    const int32_t q = static_cast<int32_t>((w > 0 ? w : 0) + 0.5f);
    return q >= least[0] ? q : 0;
  }
};

// Weights of less than min_p times the largest one are dropped.
inline Ints least_weight(float min_p, int32_t largest) {
  const double w = __builtin_ceil(static_cast<double>(min_p) * static_cast<double>(largest));
  return Ints{} + static_cast<int32_t>(w);
}
inline ProbWeights prob_weights(float largest, float min_p) {
  const uint32_t exponent = __builtin_bit_cast(uint32_t, largest) >> 23;  // of 2^(e - 127)
  const uint32_t inverse = 254 + kOneBits - 1 - (exponent > 28 ? exponent : 28);
  ProbWeights weights{set1(__builtin_bit_cast(float, inverse << 23)), Ints{}};
  weights.least = least_weight(min_p, weights(set1(largest))[0]);
  return weights;
}

// The part of a mass that top_p leaves, at least 1.
inline int64_t share(float top_p, int64_t mass) {
  const double part = __builtin_ceil(static_cast<double>(top_p) * static_cast<double>(mass));
  return part < 1 ? 1 : static_cast<int64_t>(part);
}

// ---- one row ------------------------------------------------------------------------------------

// The least value of which, and of larger ones, there are k (their weights, that is); -infinity when
// there are fewer.
template <class Each>
inline float kth_largest(int64_t k, Each&& each) {
  const Selected found = radix_select(k, each);
  const uint32_t least = found.above >= k ? found.key + 1 : found.key;
  const uint32_t lowest = order_of(-kInfinity);
  return float_of(least > lowest ? least : lowest);
}

// The row in blocks, and the largest element of each (-infinity where there is but NaN).
template <class T>
struct Row {
  const T* x;
  int64_t count;
  int64_t block;  // elements, a multiple of kBlock
  int64_t blocks;
  float largest;
  float maxima[kMaxBlocks];

  bool alone;  // all threads may help

  Row(const T* row, int64_t n, bool alone_) : x(row), count(n), largest(-kInfinity), alone(alone_) {
    const int64_t per = (n + kMaxBlocks - 1) / kMaxBlocks;
    block = (per + kBlock - 1) / kBlock * kBlock;
    blocks = (n + block - 1) / block;
    each_blocks([&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) maxima[b] = largest_of(b);
    });
    for (int64_t b = 0; b < blocks; ++b)
      if (maxima[b] > largest) largest = maxima[b];
  }

  float largest_of(int64_t b) const {
    Vec m = set1(-kInfinity);
    const int64_t end = end_of(b);
    int64_t i = b * block;
    for (; i + kLanes <= end; i += kLanes) m = max(load(x + i), m);  // NaN leaves m
    float most = reduce_max(m);
    for (; i < end; ++i)
      if (to_float(x[i]) > most) most = to_float(x[i]);
    return most;
  }

  // f(first, last) for ranges of blocks.
  template <class F>
  void each_blocks(F&& f) const {
    parallel_for(blocks, alone ? row_grain(block) : blocks, f);
  }

  int64_t end_of(int64_t b) const { return (b + 1) * block < count ? (b + 1) * block : count; }

  // The weights of the elements that reach the threshold, from `begin` on, at most kBlock: summed a
  // lane, and stored if asked for.
  template <class Weights>
  AITER_INLINE Longs mass_at(int64_t begin, int64_t end, float threshold, const Weights& weights,
                             int32_t* store_to) const {
    Counts sum{};
    const Floats least = Floats{} + threshold;
    int64_t i = begin;
    int k = 0;
    auto add = [&](Vec v) {
      const Ints q = weights(v) & ((Floats)v.v >= least);
      sum += (Counts)q;
      if (store_to) memcpy(store_to + k, &q, sizeof(q));
      k += kLanes;
    };
    for (; i + kLanes <= end; i += kLanes) add(load(x + i));
    if (i < end) {
      float rest[kLanes];
      for (int j = 0; j < kLanes; ++j)
        rest[j] = i + j < end ? to_float(x[i + j]) : __builtin_nanf("");  // reaches nothing
      add(load(rest));
    }
    return ((Longs)sum & 0xffffffffu) + ((Longs)sum >> 32);
  }

  // The mass of all that reach the threshold.
  template <class Weights>
  int64_t mass(float threshold, const Weights& weights) const {
    int64_t mass = 0;
    each_blocks([&](int64_t first, int64_t last) {
      Longs sum{};
      for (int64_t b = first; b < last; ++b) {
        if (!(maxima[b] >= threshold)) continue;
        for (int64_t i = b * block, end = end_of(b); i < end; i += kBlock)
          sum += mass_at(i, i + kBlock < end ? i + kBlock : end, threshold, weights, nullptr);
      }
      __atomic_fetch_add(&mass, total(sum), __ATOMIC_RELAXED);  // integers: in any order
    });
    return mass;
  }

  // The first element, of those that reach the threshold, up to which the masses exceed `target`.
  template <class Weights>
  int64_t find(float threshold, const Weights& weights, int64_t target) const {
    for (int64_t b = 0; b < blocks; ++b) {
      if (!(maxima[b] >= threshold)) continue;
      for (int64_t i = b * block, end = end_of(b); i < end; i += kBlock) {
        int32_t q[kBlock + kLanes];
        const int64_t stop = i + kBlock < end ? i + kBlock : end;
        const int64_t sum = total(mass_at(i, stop, threshold, weights, q));
        if (sum <= target) {
          target -= sum;
          continue;
        }
        for (int64_t j = i;; ++j) {
          if (target < q[j - i]) return j;
          target -= q[j - i];
        }
      }
    }
    return -1;  // not reached: target is less than the mass
  }

  // The threshold that the k largest reach, and those equal to the last of them.
  float top_k(int64_t k) const {
    if (k >= count) return -kInfinity;
    float bound = -kInfinity;  // of the k-th largest element, from below
    if (k <= blocks)
      bound = kth_largest(k, [&](auto&& f) {
        for (int64_t b = 0; b < blocks; ++b) f(order_of(maxima[b]), 1);
      });
    const float threshold = kth_largest(k, [&](auto&& f) {
      for (int64_t b = 0; b < blocks; ++b) {
        if (!(maxima[b] >= bound)) continue;
        for (int64_t i = b * block, end = end_of(b); i < end; ++i)
          if (const float v = to_float(x[i]); v >= bound) f(order_of(v), 1);
      }
    });
    return threshold > bound ? threshold : bound;
  }

  // The threshold that those reach which are exceeded by less than `need` of the mass of what reaches
  // `threshold`.
  float top_p(int64_t need, float threshold, const ProbWeights& weights) const {
    // Fast sums narrow the search: elements that reach `most` do not have that mass (but `above`),
    // those that reach `least` do, if any. Most rows have it in a few large elements.
    const float lowest = threshold > 0 ? threshold : 0x1p-149f;
    float most = kInfinity, least = largest;
    int64_t above = 0;
    auto reaches = [&](float bound) {
      const int64_t mass_there = mass(bound, weights);
      if (mass_there < need) most = bound, above = mass_there;
      return mass_there >= need;
    };
    while (least > lowest && !reaches(least))
      least = least > largest * 0x1p-28f ? least * 0.25f : lowest;
    least = least > lowest ? least : lowest;
    int64_t blocks_left = 0;
    for (int64_t b = 0; b < blocks; ++b) blocks_left += maxima[b] >= least;
    for (int i = 0; i < 8 && blocks_left > 64; ++i) {
      const float middle = 0.5f * (least + most);
      if (middle > least && middle < most && reaches(middle)) least = middle;
    }
    const float found = kth_largest(need - above, [&](auto&& f) {
      each_block_between(least, most, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          if (const float v = to_float(x[i]); v >= least && v < most)
            f(order_of(v), int64_t{weights(v)});
      });
    });
    return found > least ? found : least;
  }

  // f(begin, end) for ranges of at most kBlock elements, all that have one in [least, most).
  template <class F>
  void each_block_between(float least, float most, F&& f) const {
    const Vec lowest = set1(-kInfinity), limit = set1(most);
    for (int64_t b = 0; b < blocks; ++b) {
      if (!(maxima[b] >= least)) continue;
      for (int64_t i = b * block, end = end_of(b); i < end; i += kBlock) {
        const int64_t stop = i + kBlock < end ? i + kBlock : end;
        Vec m = lowest;
        for (int64_t j = i; j < stop; j += kLanes) {
          const Vec v = load_some(x + j, stop - j < kLanes ? static_cast<int>(stop - j) : kLanes);
          m = max(select_lt(v, limit, v, lowest), m);
        }
        if (reduce_max(m) >= least) f(i, stop);
      }
    }
  }

  static AITER_INLINE int64_t total(Longs sum) {
    uint64_t all = 0;
    for (int i = 0; i < kLanes / 2; ++i) all += sum[i];
    return static_cast<int64_t>(all);
  }
};

// The same without vectors, blocks or skipping, for the plain row of the operator.
template <class T>
struct PlainRow {
  const T* x;
  int64_t count;
  float largest;

  PlainRow(const T* row, int64_t n, bool) : x(row), count(n), largest(-kInfinity) {
    for (int64_t i = 0; i < n; ++i)
      if (to_float(x[i]) > largest) largest = to_float(x[i]);
  }
  template <class Weights>
  int64_t weight(int64_t i, float threshold, const Weights& weights) const {
    const float v = to_float(x[i]);
    return v >= threshold ? weights(set1(v))[0] : 0;
  }
  template <class Weights>
  int64_t mass(float threshold, const Weights& weights) const {
    int64_t sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += weight(i, threshold, weights);
    return sum;
  }
  template <class Weights>
  int64_t find(float threshold, const Weights& weights, int64_t target) const {
    int64_t i = 0;
    for (; target >= 0; ++i) target -= weight(i, threshold, weights);
    return i - 1;
  }
  // From value to next smaller value, until there are k.
  float top_k(int64_t k) const {
    float threshold = kInfinity;
    for (int64_t found = 0; found < k;) {
      float next = -kInfinity;
      int64_t equal = 0;
      for (int64_t i = 0; i < count; ++i) {
        const float v = to_float(x[i]);
        if (v >= threshold && threshold < kInfinity) continue;
        if (v > next) next = v, equal = 0;
        if (v == next) ++equal;
      }
      if (next == -kInfinity) return next;
      threshold = next;
      found += equal;
    }
    return threshold;
  }
};

}  // namespace aiter::AITER_ISA
