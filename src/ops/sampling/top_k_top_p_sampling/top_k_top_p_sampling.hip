// One block a row, by passes over it that the caches serve after the first: the largest element,
// the threshold of top_k, and for each number that is drawn the masses of the tokens left. The
// steps and their results are those of the CPU rows, bit for bit.
#include "ck/sampling/weights.h"
#include "ops/sampling/top_k_top_p_sampling/top_k_top_p_sampling_args.h"

namespace aiter {

template <class T, int N>
AITER_DEVICE int64_t draw(const TopKTopPSamplingArgs& a, int64_t b, const WeightRow<T, N>& row,
                          RadixScratch<uint32_t>& radix, WeightScratch& scratch, Best* waves) {
  const Best best = row_argmax<N>(row.x, row.count, waves);
  Weights weights;
  if (!weights.prepare(a.probs, best.value, a.temperature.real(b), a.min_p.real(b)) ||
      best.index < 0)
    return best.index;
  const int64_t top_k = a.top_k.integer(b);
  const float top_p = a.top_p.real(b);
  const Philox random = philox_of(a.seed, a.offset, b);

  uint64_t whole = 0;
  if (top_p < 1 && top_k > 0 && !a.top_k_first) whole = row.mass(0, weights, scratch);
  uint32_t least = top_k > 0 ? row.top_k(top_k, radix) : 0;
  uint64_t mass = row.mass(least, weights, scratch);
  if (mass == 0) return best.index;
  const uint64_t limit = share(top_p, whole ? whole : mass);
  for (uint32_t i = 0;; ++i) {
    const uint64_t target = multiply_high(random.number(i), mass);
    const int64_t found = row.find(least, weights, target, scratch);
    if (!(top_p < 1)) return found;
    least = row.key_of(to_float(row.x[found])) + 1;
    mass = row.mass(least, weights, scratch);
    if (mass < limit) return found;
  }
}

template <class T, int N>
AITER_DEVICE void top_k_top_p_sampling(const TopKTopPSamplingArgs& a) {
  AITER_SHARED RadixScratch<uint32_t> radix;
  AITER_SHARED WeightScratch scratch;
  AITER_SHARED Best waves[kMaxWaves];
  for (int64_t b = block_index_x(); b < a.batch; b += grid_blocks()) {
    const int64_t index = a.indices.data ? a.indices.integer(b) : b;
    int64_t token = -1;
    if (index >= 0 && index < a.rows) {
      const WeightRow<T, N> row(static_cast<const T*>(a.input) + index * a.input_stride, a.vocab);
      token = draw(a, b, row, radix, scratch, waves);
    }
    if (thread_index() == 0) store_index(a.out, a.out_dtype, b * a.out_stride, token);
    barrier();
  }
}

}  // namespace aiter

#define AITER_SAMPLE(row, aligned, T)                                                         \
  AITER_KERNEL(top_k_top_p_sampling_##row##_##T, 1024)(const aiter::TopKTopPSamplingArgs a) { \
    aiter::wait_for_previous_kernel();                                                        \
    aiter::top_k_top_p_sampling<aiter::T, aiter::kPackSize<aiter::T, aligned>>(a);            \
  }
AITER_SAMPLE(hip_vec, true, f32)
AITER_SAMPLE(hip_vec, true, f16)
AITER_SAMPLE(hip_vec, true, bf16)
AITER_SAMPLE(hip_any, false, f32)
AITER_SAMPLE(hip_any, false, f16)
AITER_SAMPLE(hip_any, false, bf16)
