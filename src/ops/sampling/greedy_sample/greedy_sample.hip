// A team of blocks a row: every thread keeps its best element, then the team agrees on one.
#include "ck/sampling/argmax.h"
#include "ops/sampling/greedy_sample/greedy_sample_args.h"

namespace aiter {

template <class T, bool kAligned>
AITER_DEVICE void greedy_sample(const GreedySampleArgs& a) {
  AITER_SHARED TeamScratch<Best> scratch;
  const Team team = Team::own();
  for (int64_t r = team.first_row(); r < a.batch; r += team.row_step()) {
    const T* row = static_cast<const T*>(a.logits) + r * a.logits_stride;
    const Best best = row_argmax<kPackSize<T, kAligned>>(team, row, a.vocab, scratch);
    if (team.leads() && thread_index() == 0)
      store_index(a.out, a.out_dtype, r * a.out_stride, best.index);
  }
}

}  // namespace aiter

#define AITER_GREEDY_SAMPLE(row, aligned, T)                                       \
  AITER_KERNEL(greedy_sample_##row##_##T, 1024)(const aiter::GreedySampleArgs a) { \
    aiter::wait_for_previous_kernel();                                             \
    aiter::greedy_sample<aiter::T, aligned>(a);                                    \
  }
AITER_GREEDY_SAMPLE(hip_vec, true, f32)
AITER_GREEDY_SAMPLE(hip_vec, true, f16)
AITER_GREEDY_SAMPLE(hip_vec, true, bf16)
AITER_GREEDY_SAMPLE(hip_any, false, f32)
AITER_GREEDY_SAMPLE(hip_any, false, f16)
AITER_GREEDY_SAMPLE(hip_any, false, bf16)
