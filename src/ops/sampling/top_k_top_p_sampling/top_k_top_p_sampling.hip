// A team of blocks a row. The k best tokens are found in one reading, and the rest is done with them by
// the team's first block; where they are too many, or all tokens count, it is passes over the row, which
// the caches serve after the first: the largest element, the threshold of top_k, and for each number
// that is drawn the masses of the tokens left. The steps and their results are those of the CPU rows,
// bit for bit. Teams of blocks that can keep the row in shared memory take these passes there.
#include "ck/sampling/resident.h"
#include "ops/sampling/top_k_top_p_sampling/top_k_top_p_sampling_args.h"

namespace aiter {

template <bool kResident>
struct SamplingScratch {
  Candidates<2048> candidates;
  WeightScratch weights;
  TeamScratch<Best> bests;
  AITER_DEVICE RadixScratch<uint32_t>& radix() { return candidates.radix; }
};
template <>
struct SamplingScratch<true> {
  RadixScratch<uint32_t> counts;
  DrawScratch weights;
  TeamScratch<Best> bests;
  AITER_DEVICE RadixScratch<uint32_t>& radix() { return counts; }
};

// The element of the row that is drawn, of those whose key is at least `least`. top_p is of the mass
// `whole`, or where that is 0 of theirs.
template <class Row>
AITER_DEVICE int64_t draw(const TopKTopPSamplingArgs& a, int64_t b, const Row& row,
                          const Scale& scale, uint32_t least, uint64_t whole, WeightScratch& s) {
  if (!scale.normal) return scale.best.index;
  const float top_p = a.top_p.real(b);
  const Philox random = philox_of(a.seed, a.offset, b);
  uint64_t limit = 0;
  int64_t found = -1;
  AITER_NO_UNROLL
  for (uint32_t i = 0;; ++i) {
    const uint64_t mass = row.mass(least, scale.weights, s);
    if (i == 0) {
      if (mass == 0) return scale.best.index;
      limit = share(top_p, whole ? whole : mass);
    } else if (mass < limit) {
      return found;
    }
    found = row.find(least, scale.weights, multiply_high(random.number(i), mass), s);
    if (!(top_p < 1)) return found;
    least = row.key_of(to_float(row.x[found])) + 1;
  }
}

// In the team's first block.
template <class Row>
AITER_DEVICE int64_t sample(const TopKTopPSamplingArgs& a, int64_t b, const Row& row,
                            SamplingScratch<Row::kResident>& s) {
  const int64_t top_k = a.top_k.integer(b);
  const float temperature = a.temperature.real(b), min_p = a.min_p.real(b);
  const bool some = top_k > 0 && top_k < row.count;
  const bool of_whole = some && !a.top_k_first && a.top_p.real(b) < 1;
  int count = -1;
  if constexpr (!Row::kResident)
    if (some) count = s.candidates.collect(row.team, CandidateRow<Row>(row), top_k, true);
  uint64_t whole = 0;
  if (of_whole || count < 0) {
    const Scale scale(row, a.probs, temperature, min_p, s.bests);
    if (of_whole && scale.normal) whole = row.mass(0, scale.weights, s.weights);
    if (count < 0) {
      const uint32_t least = some && scale.normal ? top_k_key(row, top_k, s.radix()) : 0;
      if constexpr (Row::kResident) {
        if (!scale.normal) return scale.best.index;
        return row.draw(least, scale.weights, a.top_p.real(b), whole,
                        philox_of(a.seed, a.offset, b), s.weights);
      } else {
        return draw(a, b, row, scale, least, whole, s.weights);
      }
    }
  }
  if constexpr (!Row::kResident) {
    if (!row.team.leads()) return -1;
    const WeightRow<Token, 1> tokens = tokens_of(s.candidates, count);
    const Scale scale(tokens, a.probs, temperature, min_p, s.bests);
    const int64_t found = draw(a, b, tokens, scale, 0, whole, s.weights);
    return found < 0 ? found : tokens.x[found].index;
  }
  return -1;
}

// make_row(first element) is the row.
template <bool kResident, class T, class MakeRow>
AITER_DEVICE void top_k_top_p_sampling(const TopKTopPSamplingArgs& a, const Team& team,
                                       MakeRow&& make_row) {
  AITER_SHARED SamplingScratch<kResident> scratch;
  for (int64_t b = team.first_row(); b < a.batch; b += team.row_step()) {
    const int64_t index = a.indices.data ? a.indices.integer(b) : b;
    int64_t token = -1;
    if (index >= 0 && index < a.rows)
      token =
          sample(a, b, make_row(static_cast<const T*>(a.input) + index * a.input_stride), scratch);
    if (team.leads() && thread_index() == 0)
      store_index(a.out, a.out_dtype, b * a.out_stride, token);
    barrier();
  }
}

}  // namespace aiter

#define AITER_SAMPLE(row, aligned, T)                                                         \
  AITER_KERNEL(top_k_top_p_sampling_##row##_##T, 1024)(const aiter::TopKTopPSamplingArgs a) { \
    aiter::wait_for_previous_kernel();                                                        \
    using Row = aiter::WeightRow<aiter::T, aiter::kPackSize<aiter::T, aligned>>;              \
    const aiter::Team team = aiter::Team::own();                                              \
    aiter::top_k_top_p_sampling<false, aiter::T>(                                             \
        a, team, [&](const aiter::T* x) { return Row(team, x, a.vocab); });                   \
  }
AITER_SAMPLE(hip_vec, true, f32)
AITER_SAMPLE(hip_vec, true, f16)
AITER_SAMPLE(hip_vec, true, bf16)
AITER_SAMPLE(hip_any, false, f32)
AITER_SAMPLE(hip_any, false, f16)
AITER_SAMPLE(hip_any, false, bf16)

#if !defined(AITER_AMD)
#define AITER_SAMPLE_RESIDENT(T)                                                                   \
  AITER_KERNEL(top_k_top_p_sampling_hip_resident_##T, 1024)(const aiter::TopKTopPSamplingArgs a) { \
    AITER_DYNAMIC_SHARED(shared);                                                                  \
    aiter::wait_for_previous_kernel();                                                             \
    using Row = aiter::ResidentRow<aiter::T, aiter::kPackSize<aiter::T, true>>;                    \
    const aiter::Team team = aiter::Team::own(false);                                              \
    aiter::top_k_top_p_sampling<true, aiter::T>(                                                   \
        a, team, [&](const aiter::T* x) { return Row(team, x, a.vocab, shared); });                \
  }
AITER_SAMPLE_RESIDENT(f32)
AITER_SAMPLE_RESIDENT(f16)
AITER_SAMPLE_RESIDENT(bf16)
#endif
