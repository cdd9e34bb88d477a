// One row is sampled without sorting it, and without any scratch but the blocks' maxima:
//
//   1. The largest element, and that of each block of 64; blocks below a threshold are skipped by
//      everything that follows.
//   2. top_k becomes a threshold: the k-th largest of the blocks' maxima is a lower bound of the
//      k-th largest element, which radix selection then finds in the few blocks that reach it.
//   3. A token is drawn from all that pass the threshold, by its integer weight, in index order.
//   4. It is kept if the mass of the tokens that exceed it is within top_p. Otherwise it becomes the
//      next threshold (all the kept ones exceed it), and step 3 is repeated with a new number. One
//      draw suffices with a probability of at least top_p.
#include "ops/sampling/top_k_top_p_sampling/top_k_top_p_sampling_args.h"
#include "simd/argmax.h"
#include "simd/parallel.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Counts __attribute__((vector_size(4 * kLanes)));
typedef uint64_t Longs __attribute__((vector_size(4 * kLanes)));

constexpr float kInfinity = __builtin_inff();
constexpr int kOneBits = 28;  // the largest weight is 2^28: 8 of them fit a lane of 32 bits
constexpr int kBlock = 64;    // elements; at most 8 a lane
constexpr int kMaxBlocks = 8192;

// ---- weights --------------------------------------------------------------------------------------

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
};

// ---- one row --------------------------------------------------------------------------------------

// The order of floats as unsigned integers; NaN has no place in it.
uint32_t order_of(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x + 0.0f);  // -0 becomes 0
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
float float_of(uint32_t order) {
  const uint32_t bits = order >> 31 ? order & 0x7fffffffu : ~order;
  return __builtin_bit_cast(float, bits);
}

// A threshold that of the values given the k largest reach (and those equal to the last of them).
// each(f) calls f(value) for every value; -infinity when there are fewer than k.
template <class Each>
float top_k_threshold(int64_t k, Each&& each) {
  uint32_t prefix = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    int64_t counts[256] = {};
    each([&](float value) {
      const uint64_t order = order_of(value);
      if (order >> (shift + 8) == prefix) ++counts[order >> shift & 255];
    });
    int digit = 255;
    while (digit >= 0 && counts[digit] < k) k -= counts[digit--];
    if (digit < 0) return -kInfinity;  // in the first round only
    prefix = prefix << 8 | static_cast<uint32_t>(digit);
    if (counts[digit] == k || shift == 0) {
      prefix <<= shift;
      break;
    }
  }
  const uint32_t lowest = order_of(-kInfinity);
  return float_of(prefix > lowest ? prefix : lowest);
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

  Row(const T* row, int64_t n) : x(row), count(n), largest(-kInfinity) {
    const int64_t per = (n + kMaxBlocks - 1) / kMaxBlocks;
    block = (per + kBlock - 1) / kBlock * kBlock;
    blocks = (n + block - 1) / block;
    for (int64_t b = 0; b < blocks; ++b) {
      Vec m = set1(-kInfinity);
      const int64_t end = end_of(b);
      int64_t i = b * block;
      for (; i + kLanes <= end; i += kLanes) m = max(load(x + i), m);  // NaN leaves m
      maxima[b] = reduce_max(m);
      for (; i < end; ++i)
        if (to_float(x[i]) > maxima[b]) maxima[b] = to_float(x[i]);
      if (maxima[b] > largest) largest = maxima[b];
    }
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
    Longs sum{};
    for (int64_t b = 0; b < blocks; ++b) {
      if (!(maxima[b] >= threshold)) continue;
      for (int64_t i = b * block, end = end_of(b); i < end; i += kBlock)
        sum += mass_at(i, i + kBlock < end ? i + kBlock : end, threshold, weights, nullptr);
    }
    return total(sum);
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

  float top_k(int64_t k) const {
    if (k >= count) return -kInfinity;
    float bound = -kInfinity;  // of the k-th largest element, from below
    if (k <= blocks)
      bound = top_k_threshold(k, [&](auto&& f) {
        for (int64_t b = 0; b < blocks; ++b) f(maxima[b]);
      });
    const float threshold = top_k_threshold(k, [&](auto&& f) {
      for (int64_t b = 0; b < blocks; ++b) {
        if (!(maxima[b] >= bound)) continue;
        for (int64_t i = b * block, end = end_of(b); i < end; ++i)
          if (const float v = to_float(x[i]); v >= bound) f(v);
      }
    });
    return threshold > bound ? threshold : bound;
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

  PlainRow(const T* row, int64_t n) : x(row), count(n), largest(-kInfinity) {
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

// ---- the draw -------------------------------------------------------------------------------------

// Philox 4x32-10: block i of the stream of (seed, offset, n), as two 64-bit numbers.
struct Philox {
  uint64_t seed, offset;
  uint32_t n;

  uint64_t operator()(uint32_t i) const {
    uint32_t c[4] = {static_cast<uint32_t>(offset), static_cast<uint32_t>(offset >> 32), n, i / 2};
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t a = uint64_t{0xd2511f53u} * c[0], b = uint64_t{0xcd9e8d57u} * c[2];
      c[0] = static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0;
      c[1] = static_cast<uint32_t>(b);
      c[2] = static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1;
      c[3] = static_cast<uint32_t>(a);
      k0 += 0x9e3779b9u, k1 += 0xbb67ae85u;
    }
    return i % 2 ? c[2] | uint64_t{c[3]} << 32 : c[0] | uint64_t{c[1]} << 32;
  }
};

struct Choice {
  int64_t top_k;
  float top_p, min_p, temperature;
  bool top_k_first;
  Philox random;
};

template <class R, class Weights>
int64_t draw(const R& row, const Choice& choice, const Weights& weights) {
  float threshold = choice.top_k > 0 ? row.top_k(choice.top_k) : -kInfinity;
  int64_t mass = row.mass(threshold, weights);
  if (mass == 0) return argmax(row.x, row.count);
  int64_t limit = INT64_MAX;
  if (choice.top_p < 1) {
    const int64_t whole =
        choice.top_k_first || threshold == -kInfinity ? mass : row.mass(-kInfinity, weights);
    const double part = static_cast<double>(choice.top_p) * static_cast<double>(whole);
    limit = static_cast<int64_t>(__builtin_ceil(part));
    if (limit < 1) limit = 1;
  }
  for (uint32_t i = 0;; ++i) {
    const auto product = static_cast<unsigned __int128>(choice.random(i)) * mass;
    const int64_t found = row.find(threshold, weights, static_cast<int64_t>(product >> 64));
    if (limit == INT64_MAX) return found;
    threshold = float_of(order_of(to_float(row.x[found])) + 1);
    mass = row.mass(threshold, weights);
    if (mass < limit) return found;
  }
}

template <class R>
int64_t sample(const R& row, const Choice& choice, bool probs) {
  const float scale = 1.44269504f / choice.temperature;  // log2(e)
  if (!(row.largest > -kInfinity && row.largest < kInfinity) || !(scale < kInfinity) ||
      (probs && row.largest <= 0))
    return argmax(row.x, row.count);
  auto least = [&](int64_t top) {
    const double w = __builtin_ceil(static_cast<double>(choice.min_p) * static_cast<double>(top));
    return Ints{} + static_cast<int32_t>(w);
  };
  if (!probs)
    return draw(row, choice,
                LogitWeights{set1(row.largest), set1(scale), least(int64_t{1} << kOneBits)});
  const uint32_t exponent = __builtin_bit_cast(uint32_t, row.largest) >> 23;  // of 2^(e - 127)
  const uint32_t inverse = 254 + kOneBits - 1 - (exponent > 28 ? exponent : 28);
  const Vec to_one = set1(__builtin_bit_cast(float, inverse << 23));
  const Ints none{};
  return draw(row, choice,
              ProbWeights{to_one, least(ProbWeights{to_one, none}(set1(row.largest))[0])});
}

// ---- all rows -------------------------------------------------------------------------------------

int64_t integer_of(const RowOption& option, int64_t b) {
  if (!option.data) return option.value.integer;
  return option.dtype == DType::kI32 ? static_cast<const int32_t*>(option.data)[b * option.stride]
                                     : static_cast<const int64_t*>(option.data)[b * option.stride];
}
float real_of(const RowOption& option, int64_t b) {
  return option.data ? static_cast<const float*>(option.data)[b * option.stride]
                     : option.value.real;
}

template <template <class> class R, class T>
void sample_row(const TopKTopPSamplingArgs& a, int64_t b) {
  const int64_t index = a.indices.data ? integer_of(a.indices, b) : b;
  const R<T> row(static_cast<const T*>(a.input) + index * a.input_stride, a.vocab);
  const Choice choice{
      integer_of(a.top_k, b),
      real_of(a.top_p, b),
      real_of(a.min_p, b),
      real_of(a.temperature, b),
      a.top_k_first != 0,
      {static_cast<uint64_t>(integer_of(a.seed, b)), static_cast<uint64_t>(integer_of(a.offset, b)),
       a.seed.data ? 0u : static_cast<uint32_t>(b)}};
  const int64_t token = sample(row, choice, a.probs != 0);
  if (a.out_dtype == DType::kI32)
    static_cast<int32_t*>(a.out)[b * a.out_stride] = static_cast<int32_t>(token);
  else
    static_cast<int64_t*>(a.out)[b * a.out_stride] = token;
}

}  // namespace

void top_k_top_p_sampling_cpu_simd(const TopKTopPSamplingArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    const int64_t grain = 8192 / a.vocab + 1;  // rows worth a thread of their own
    parallel_for(a.batch, grain, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) sample_row<Row, T>(a, b);
    });
  });
}

void top_k_top_p_sampling_cpu_ref(const TopKTopPSamplingArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    for (int64_t b = 0; b < a.batch; ++b) sample_row<PlainRow, T>(a, b);
  });
}

}  // namespace aiter::AITER_ISA
