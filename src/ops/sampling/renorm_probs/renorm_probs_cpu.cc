#include "ops/sampling/renorm_probs/renorm_probs_args.h"
#include "simd/argmax.h"
#include "simd/row_pieces.h"
#include "simd/token_weights.h"

namespace aiter::AITER_ISA {
namespace {

// What is kept: probabilities that reach the threshold and have a weight that min_p does not drop.
struct Kept {
  float threshold;
  ProbWeights weights;

  AITER_INLINE Vec operator()(Vec v) const {
    const Ints yes = (Ints)((Floats)v.v >= Floats{} + threshold) & (Ints)((Floats)v.v > 0.0f) &
                     (weights(v) >= weights.least);
    const Ints bits = (Ints)v.v & yes;
    Vec kept;
    memcpy(&kept, &bits, sizeof(bits));
    return kept;
  }
  float operator()(float v) const {
    return v >= threshold && v > 0 && weights(v) >= weights.least[0] ? v : 0;
  }
};

// A row that has no weights: 1 at the largest element.
template <class T>
void one_hot(const T* x, T* y, int64_t n) {
  const int64_t one = argmax(x, n);
  for (int64_t i = 0; i < n; ++i) y[i] = from_float<T>(i == one ? 1.0f : 0.0f);
}

bool has_weights(float largest) { return largest > 0 && largest < kInfinity; }

template <class T>
void renorm_row(const RenormProbsArgs& a, int64_t r, bool alone) {
  const T* x = static_cast<const T*>(a.probs) + r * a.probs_stride;
  T* y = static_cast<T*>(a.out) + r * a.out_stride;
  const Row<T> row(x, a.vocab, alone);
  if (!has_weights(row.largest)) return one_hot(x, y, a.vocab);
  const int64_t top_k = a.top_k.integer(r);
  const float top_p = a.top_p.real(r);
  Kept kept{-kInfinity, prob_weights(row.largest, a.min_p.real(r))};
  if (top_k > 0) kept.threshold = row.top_k(top_k);
  if (top_p < 1) {
    const float of = a.top_k_first ? kept.threshold : -kInfinity;
    const int64_t mass = share(top_p, row.mass(of, kept.weights));
    kept.threshold = row.top_p(mass, kept.threshold, kept.weights);
  }
  Vec sums[4] = {zero(), zero(), zero(), zero()};
  each_lanes(a.vocab, [&](int k, Vec v) { sums[k] = sums[k] + kept(v); }, x);
  const Vec sum = set1(reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3])));
  row.each_blocks([&](int64_t first, int64_t last) {
    const int64_t begin = first * row.block, n = row.end_of(last - 1) - begin;
    map_lanes(y + begin, n, false, [&](Vec v) { return kept(v) / sum; }, NothingAhead{}, x + begin);
  });
}

}  // namespace

void renorm_probs_cpu_simd(const RenormProbsArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    const int64_t grain = 8192 / a.vocab + 1;  // rows worth a thread of their own
    each_row(a.rows, grain, [&](int64_t r, bool alone) { renorm_row<T>(a, r, alone); });
  });
}

// The threshold of top_p goes down from value to value until the mass above it suffices.
void renorm_probs_cpu_ref(const RenormProbsArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    for (int64_t r = 0; r < a.rows; ++r) {
      const T* x = static_cast<const T*>(a.probs) + r * a.probs_stride;
      T* y = static_cast<T*>(a.out) + r * a.out_stride;
      const PlainRow<T> row(x, a.vocab, false);
      if (!has_weights(row.largest)) {
        one_hot(x, y, a.vocab);
        continue;
      }
      const int64_t top_k = a.top_k.integer(r);
      Kept kept{top_k > 0 ? row.top_k(top_k) : -kInfinity,
                prob_weights(row.largest, a.min_p.real(r))};
      if (const float top_p = a.top_p.real(r); top_p < 1) {
        const float of = a.top_k_first ? kept.threshold : -kInfinity;
        const int64_t mass = share(top_p, row.mass(of, kept.weights));
        float threshold = row.largest;
        while (threshold > kept.threshold && row.mass(threshold, kept.weights) < mass) {
          float next = -kInfinity;
          for (int64_t i = 0; i < a.vocab; ++i)
            if (const float v = to_float(x[i]); v < threshold && v > next) next = v;
          threshold = next;
        }
        if (threshold > kept.threshold) kept.threshold = threshold;
      }
      float sum = 0;
      for (int64_t i = 0; i < a.vocab; ++i) sum += kept(to_float(x[i]));
      for (int64_t i = 0; i < a.vocab; ++i) y[i] = from_float<T>(kept(to_float(x[i])) / sum);
    }
  });
}

}  // namespace aiter::AITER_ISA
