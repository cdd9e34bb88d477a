// A team of blocks a row. With top_k the tokens that may be kept are found in one reading; all else is
// then zeros. Otherwise it is passes over the row, which the caches serve after the first: the largest
// element, the thresholds by radix selection, the sum of what is kept, the results.
#include "ck/sampling/weights.h"
#include "ops/sampling/renorm_probs/renorm_probs_args.h"

namespace aiter {

struct RenormScratch {
  Candidates<2048> candidates;
  RadixScratch<uint64_t> radix;
  WeightScratch weights;
  TeamScratch<Best> bests;
  TeamScratch<uint64_t> sums;
};

// What is kept of a row, and by what it is divided.
struct Kept {
  Scale scale;
  float least, sum;

  AITER_DEVICE bool operator()(float v) const {
    return v > 0 && v >= least && scale.weights(v) >= scale.weights.least;
  }
  AITER_DEVICE float result(int64_t i, float v) const {
    return scale.normal ? ((*this)(v) ? v / sum : 0) : i == scale.best.index ? 1.0f : 0.0f;
  }
};

AITER_DEVICE double power_of_2(int n) {
  return bit_cast<double>(static_cast<uint64_t>(1023 + n) << 52);
}

// Of elements whose key is at least `least`. top_p is of the mass `whole`, or where that is 0 of theirs.
template <class Row>
AITER_DEVICE Kept keep(const Row& row, const Scale& scale, float top_p, uint32_t least,
                       uint64_t whole, int64_t vocab, RenormScratch& s) {
  constexpr int N = Row::kPack;
  Kept kept{scale, 0, 1};
  if (!scale.normal) return kept;
  if (top_p < 1) {
    const uint64_t mass = whole ? whole : row.mass(least, scale.weights, s.weights);
    least = row.top_p(share(top_p, mass), least, scale.weights, s.radix);
  }
  kept.least = least ? float_of_key(least) : -kInfinity;
  // As integers, whose sum does not depend on the order: 2^62 is more than a whole row can be.
  int bits = 0;
  while (vocab >> bits) ++bits;
  const int exponent = static_cast<int>(bit_cast<uint32_t>(scale.best.value) >> 23) - 126;
  const int shift = 62 - bits - exponent;
  const double unit = power_of_2(shift);
  uint64_t sum = 0;
  row.each([&](int64_t, const float (&v)[N]) {
    AITER_UNROLL
    for (int k = 0; k < N; ++k)
      if (kept(v[k])) sum += static_cast<uint64_t>(static_cast<double>(v[k]) * unit);
  });
  sum = team_reduce<Sum>(row.team, sum, s.sums);
  kept.sum = static_cast<float>(static_cast<double>(sum) * power_of_2(-shift));
  return kept;
}

// Elements out[i] to out[i + N - 1].
template <int N, class T>
AITER_DEVICE void store_row(T* out, int64_t i, int64_t count, const float (&y)[N]) {
  if (i + N <= count) {
    store_floats(out + i, y);
  } else {
    AITER_UNROLL
    for (int k = 0; k < N; ++k)
      if (i + k < count) out[i + k] = from_float<T>(y[k]);
  }
}

template <class Row>
AITER_DEVICE void renorm(const RenormProbsArgs& a, int64_t r, const Row& row,
                         typename Row::Element* out, RenormScratch& s) {
  using T = typename Row::Element;
  constexpr int N = Row::kPack;
  const int64_t top_k = a.top_k.integer(r);
  const float top_p = a.top_p.real(r), min_p = a.min_p.real(r);
  const bool some = top_k > 0 && top_k < row.count;
  const bool of_whole = some && !a.top_k_first && top_p < 1;
  const int count = some ? s.candidates.collect(row.team, CandidateRow<Row>(row), top_k, true) : -1;
  uint64_t whole = 0;
  if (of_whole || count < 0) {
    const Scale scale(row, true, 1.0f, min_p, s.bests);
    if (of_whole && scale.normal) whole = row.mass(0, scale.weights, s.weights);
    if (count < 0) {
      const uint32_t least = some && scale.normal ? row.top_k(top_k, s.candidates.radix) : 0;
      const Kept kept = keep(row, scale, top_p, least, whole, a.vocab, s);
      row.each([&](int64_t i, const float (&v)[N]) {
        float y[N];
        AITER_UNROLL
        for (int k = 0; k < N; ++k) y[k] = kept.result(i + k, v[k]);
        store_row(out, i, row.count, y);
      });
      return;
    }
  }
  // The row has been read: out may be it.
  const float zeros[N] = {};
  for (int64_t i = (int64_t{row.team.rank} * block_threads() + thread_index()) * N; i < row.count;
       i += int64_t{row.team.size} * block_threads() * N)
    store_row(out, i, row.count, zeros);
  row.team.barrier();
  if (!row.team.leads()) return;
  const WeightRow<Token, 1> tokens = tokens_of(s.candidates, count);
  const Scale scale(tokens, true, 1.0f, min_p, s.bests);
  const Kept kept = keep(tokens, scale, top_p, 0, whole, a.vocab, s);
  for (int i = thread_index(); i < count; i += block_threads()) {
    const Token token = tokens.x[i];
    out[token.index] = from_float<T>(kept.result(i, token.value));
  }
}

template <class T, int N>
AITER_DEVICE void renorm_probs(const RenormProbsArgs& a) {
  AITER_SHARED RenormScratch scratch;
  const Team team = Team::own();
  for (int64_t r = team.first_row(); r < a.rows; r += team.row_step()) {
    const WeightRow<T, N> row(team, static_cast<const T*>(a.probs) + r * a.probs_stride, a.vocab);
    renorm(a, r, row, static_cast<T*>(a.out) + r * a.out_stride, scratch);
    barrier();
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
