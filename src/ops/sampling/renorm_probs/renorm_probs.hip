// A team of blocks a row. With top_k the tokens that may be kept are found in one reading; all else is
// then zeros. Otherwise it is passes over the row, which the caches serve after the first: the largest
// element, the thresholds by radix selection, the sum of what is kept, the results. Teams of blocks that
// can keep the row in shared memory take these passes there.
#include "ck/sampling/resident.h"
#include "ops/sampling/renorm_probs/renorm_probs_args.h"

namespace aiter {

template <bool kResident>
struct RenormScratch {
  Candidates<2048> candidates;
  RadixScratch<uint64_t> radix;
  WeightScratch weights;
  TeamScratch<Best> bests;
  TeamScratch<uint64_t> sums;
};
template <>
struct RenormScratch<true> {
  RadixScratch<uint64_t> radix;
  DrawScratch weights;
  TeamScratch<Best> bests;
  TeamScratch<uint64_t> sums;
};

// What is kept of a row, and by what it is divided: `sum`, after a multiplication by a power of 2 that
// brings both to where divisions are fast.
struct Kept {
  Scale scale;
  float least, power, sum, inverse;

  AITER_DEVICE bool operator()(float v) const { return v >= least; }
  AITER_DEVICE void divide_by(float total) {
    const uint32_t exponent = bit_cast<uint32_t>(total) >> 23;
    power = bit_cast<float>((254 - min(max(exponent, 1u), 252u)) << 23);
    sum = total * power;
    inverse = reciprocal_fast(sum);
  }
  AITER_DEVICE float result(int64_t i, float v) const {
    if (!scale.normal) return i == scale.best.index ? 1.0f : 0.0f;
    const float scaled = v * power, quotient = scaled * inverse;
    return (*this)(v) ? fma(fma(-quotient, sum, scaled), inverse, quotient) : 0.0f;
  }
};

AITER_DEVICE double power_of_2(int n) {
  return bit_cast<double>(static_cast<uint64_t>(1023 + n) << 52);
}

// The least positive number that weighs as much as min_p asks for.
AITER_DEVICE float least_of_min_p(const Weights& weights) {
  uint32_t bits = 1;
  if (weights.least > 0) {
    bits = bit_cast<uint32_t>((static_cast<float>(weights.least) - 0.5f) / weights.scale);
    while (bits > 1 && weights.whole<true>(bit_cast<float>(bits - 1)) >= weights.least) --bits;
    while (weights.whole<true>(bit_cast<float>(bits)) < weights.least) ++bits;
  }
  return bit_cast<float>(bits);
}

// Of elements whose key is at least `least`. top_p is of the mass `whole`, or where that is 0 of theirs.
template <class Row, class Scratch>
AITER_DEVICE Kept keep(const Row& row, const Scale& scale, float top_p, uint32_t least,
                       uint64_t whole, int64_t vocab, Scratch& s) {
  constexpr int N = Row::kPack;
  Kept kept{scale, 0, 1, 1, 1};
  if (!scale.normal) return kept;
  if (top_p < 1) {
    const uint64_t mass = whole ? whole : row.mass(least, scale.weights, s.weights);
    const uint64_t need = share(top_p, mass);
    least = top_p_key(row, need, whole ? 0 : mass - need, least, scale.weights, s.radix);
  }
  kept.least = max(least ? float_of_key(least) : 0, least_of_min_p(scale.weights));
  // As integers, whose sum does not depend on the order: 2^62 is more than a whole row can be. They are
  // the low bits of sums with a number so large that these have no fraction.
  int bits = 0;
  while (vocab >> bits) ++bits;
  const int exponent = static_cast<int>(bit_cast<uint32_t>(scale.best.value) >> 23) - 126;
  const int shift = min(62 - bits, 51) - exponent;
  const double integer = power_of_2(52 - shift);
  uint64_t sum = 0;
  row.each([&](int64_t, const float (&v)[N]) {
    AITER_UNROLL
    for (int k = 0; k < N; ++k)
      if (kept(v[k]))
        sum +=
            bit_cast<uint64_t>(static_cast<double>(v[k]) + integer) - bit_cast<uint64_t>(integer);
  });
  sum = team_reduce<Sum>(row.team, sum, s.sums);
  kept.divide_by(static_cast<float>(static_cast<double>(sum) * power_of_2(-shift)));
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
                         typename Row::Element* out, RenormScratch<Row::kResident>& s) {
  using T = typename Row::Element;
  constexpr int N = Row::kPack;
  const int64_t top_k = a.top_k.integer(r);
  const float top_p = a.top_p.real(r), min_p = a.min_p.real(r);
  const bool some = top_k > 0 && top_k < row.count;
  const bool of_whole = some && !a.top_k_first && top_p < 1;
  int count = -1;
  if constexpr (!Row::kResident)
    if (some) count = s.candidates.collect(row.team, CandidateRow<Row>(row), top_k, true);
  uint64_t whole = 0;
  if (of_whole || count < 0) {
    const Scale scale(row, true, 1.0f, min_p, s.bests);
    if (of_whole && scale.normal) whole = row.mass(0, scale.weights, s.weights);
    if (count < 0) {
      const uint32_t least = some && scale.normal ? top_k_key(row, top_k, s.radix) : 0;
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
  if constexpr (!Row::kResident) {
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
}

// make_row(first element) is the row.
template <bool kResident, class T, class MakeRow>
AITER_DEVICE void renorm_probs(const RenormProbsArgs& a, const Team& team, MakeRow&& make_row) {
  AITER_SHARED RenormScratch<kResident> scratch;
  for (int64_t r = team.first_row(); r < a.rows; r += team.row_step()) {
    renorm(a, r, make_row(static_cast<const T*>(a.probs) + r * a.probs_stride),
           static_cast<T*>(a.out) + r * a.out_stride, scratch);
    barrier();
  }
}

}  // namespace aiter

#define AITER_RENORM(row, aligned, T)                                            \
  AITER_KERNEL(renorm_probs_##row##_##T, 1024)(const aiter::RenormProbsArgs a) { \
    aiter::wait_for_previous_kernel();                                           \
    using Row = aiter::WeightRow<aiter::T, aiter::kPackSize<aiter::T, aligned>>; \
    const aiter::Team team = aiter::Team::own();                                 \
    aiter::renorm_probs<false, aiter::T>(                                        \
        a, team, [&](const aiter::T* x) { return Row(team, x, a.vocab); });      \
  }
AITER_RENORM(hip_vec, true, f32)
AITER_RENORM(hip_vec, true, f16)
AITER_RENORM(hip_vec, true, bf16)
AITER_RENORM(hip_any, false, f32)
AITER_RENORM(hip_any, false, f16)
AITER_RENORM(hip_any, false, bf16)

#if !defined(AITER_AMD)
#define AITER_RENORM_RESIDENT(T)                                                      \
  AITER_KERNEL(renorm_probs_hip_resident_##T, 1024)(const aiter::RenormProbsArgs a) { \
    AITER_DYNAMIC_SHARED(shared);                                                     \
    aiter::wait_for_previous_kernel();                                                \
    using Row = aiter::ResidentRow<aiter::T, aiter::kPackSize<aiter::T, true>>;       \
    const aiter::Team team = aiter::Team::own(false);                                 \
    aiter::renorm_probs<true, aiter::T>(                                              \
        a, team, [&](const aiter::T* x) { return Row(team, x, a.vocab, shared); });   \
  }
AITER_RENORM_RESIDENT(f32)
AITER_RENORM_RESIDENT(f16)
AITER_RENORM_RESIDENT(bf16)
#endif
