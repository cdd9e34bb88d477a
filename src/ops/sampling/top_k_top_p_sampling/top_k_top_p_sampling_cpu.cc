// One row is sampled without sorting it, and without any scratch but the blocks' maxima:
//
//   1. The largest element, and that of each block of 64; blocks below a threshold are skipped by
//      everything that follows.
//   2. top_k becomes a threshold: the k-th largest of the blocks' maxima is a lower bound of the
//      k-th largest element, which radix selection then finds in the few blocks that reach it.
//   3. A token is drawn from all that pass the threshold, by its integer weight, in index order.
//   4. It is kept if the mass of the tokens that exceed it is within top_p. Otherwise it becomes
//   the
//      next threshold (all the kept ones exceed it), and step 3 is repeated with a new number. One
//      draw suffices with a probability of at least top_p.
#include "ops/sampling/top_k_top_p_sampling/top_k_top_p_sampling_args.h"
#include "simd/argmax.h"
#include "simd/row_pieces.h"
#include "simd/token_weights.h"

namespace aiter::AITER_ISA {
namespace {

// ---- the draw -----------------------------------------------------------------------------------

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
    limit = share(choice.top_p, whole);
  }
  for (uint32_t i = 0;; ++i) {
    const uint64_t target = multiply_high(choice.random.number(i), static_cast<uint64_t>(mass));
    const int64_t found = row.find(threshold, weights, static_cast<int64_t>(target));
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
  if (probs) return draw(row, choice, prob_weights(row.largest, choice.min_p));
  return draw(
      row, choice,
      LogitWeights{set1(row.largest), set1(scale), least_weight(choice.min_p, 1 << kOneBits)});
}

// ---- all rows -----------------------------------------------------------------------------------

template <template <class> class R, class T>
void sample_row(const TopKTopPSamplingArgs& a, int64_t b, bool alone) {
  const int64_t index = a.indices.data ? a.indices.integer(b) : b;
  const R<T> row(static_cast<const T*>(a.input) + index * a.input_stride, a.vocab, alone);
  const Choice choice{a.top_k.integer(b),    a.top_p.real(b),    a.min_p.real(b),
                      a.temperature.real(b), a.top_k_first != 0, philox_of(a.seed, a.offset, b)};
  store_index(a.out, a.out_dtype, b * a.out_stride, sample(row, choice, a.probs != 0));
}

}  // namespace

void top_k_top_p_sampling_cpu_simd(const TopKTopPSamplingArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    const int64_t grain = 8192 / a.vocab + 1;  // rows worth a thread of their own
    each_row(a.batch, grain, [&](int64_t b, bool alone) { sample_row<Row, T>(a, b, alone); });
  });
}

void top_k_top_p_sampling_cpu_ref(const TopKTopPSamplingArgs& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    for (int64_t b = 0; b < a.batch; ++b) sample_row<PlainRow, T>(a, b, false);
  });
}

}  // namespace aiter::AITER_ISA
