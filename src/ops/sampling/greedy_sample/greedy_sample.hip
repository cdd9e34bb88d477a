// One block a row: every thread keeps its best element, then the block agrees on one.
#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "ops/sampling/greedy_sample/greedy_sample_args.h"

namespace aiter {

// The larger value, and of equal ones the lower index; index -1 is none.
struct Best {
  float value;
  int32_t index;
};
AITER_DEVICE Best shuffle_xor(Best b, int mask) {
  return {shuffle_xor(b.value, mask), shuffle_xor(b.index, mask)};
}
struct TakeBest {
  AITER_DEVICE static Best combine(Best a, Best b) {
    if (a.index < 0) return b;
    if (b.index < 0) return a;
    const bool second = b.value > a.value || (b.value == a.value && b.index < a.index);
    return second ? b : a;
  }
};

template <class T, bool kAligned>
AITER_DEVICE void greedy_sample(const GreedySampleArgs& a) {
  constexpr int N = kPackSize<T, kAligned>;
  AITER_SHARED Best scratch[1024 / kWave];
  for (int64_t r = block_index_x(); r < a.batch; r += grid_blocks()) {
    const T* row = static_cast<const T*>(a.logits) + r * a.logits_stride;
    Best best{0, -1};
    for (int64_t i = thread_index() * N; i < a.vocab; i += block_threads() * N) {
      float v[N];
      if (i + N <= a.vocab) {
        load_floats<N>(row + i, v);
      } else {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) v[k] = i + k < a.vocab ? to_float(row[i + k]) : kNaN;
      }
      AITER_UNROLL
      for (int k = 0; k < N; ++k)
        if (v[k] == v[k]) best = TakeBest::combine(best, {v[k], static_cast<int32_t>(i) + k});
    }
    best = block_reduce<TakeBest>(best, scratch);
    if (thread_index() == 0) {
      if (a.out_dtype == DType::kI32)
        static_cast<int32_t*>(a.out)[r * a.out_stride] = best.index;
      else
        static_cast<int64_t*>(a.out)[r * a.out_stride] = best.index;
    }
  }
}

}  // namespace aiter

#define AITER_GREEDY_SAMPLE(row, aligned, T)                                       \
  AITER_KERNEL(greedy_sample_##row##_##T, 1024)(const aiter::GreedySampleArgs a) { \
    aiter::greedy_sample<aiter::T, aligned>(a);                                    \
  }
AITER_GREEDY_SAMPLE(hip_vec, true, f32)
AITER_GREEDY_SAMPLE(hip_vec, true, f16)
AITER_GREEDY_SAMPLE(hip_vec, true, bf16)
AITER_GREEDY_SAMPLE(hip_any, false, f32)
AITER_GREEDY_SAMPLE(hip_any, false, f16)
AITER_GREEDY_SAMPLE(hip_any, false, bf16)
