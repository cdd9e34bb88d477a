// Each thread makes the elements of one block of random numbers at a time.
#include "ck/sampling/noise.h"
#include "ops/sampling/exponential/exponential_args.h"

namespace aiter {

template <class T, bool kAligned>
AITER_DEVICE void exponential(const ExponentialArgs& a) {
  for (int64_t r = block_index_y(); r < a.rows.count; r += grid_blocks_y()) {
    T* out = static_cast<T*>(a.out) + a.rows.offset(r);
    const Philox random = philox_of(a.seed, a.offset, r);
    for (int64_t i = 4 * (block_index_x() * static_cast<int64_t>(block_threads()) + thread_index());
         i < a.n; i += 4 * static_cast<int64_t>(block_threads()) * grid_blocks()) {
      float v[4];
      exponentials(random, i, v);
      AITER_UNROLL
      for (int k = 0; k < 4; ++k) v[k] = v[k] * a.scale + a.eps;
      if (kAligned && i + 4 <= a.n) {
        store_floats(out + i, v);
      } else {
        AITER_UNROLL
        for (int k = 0; k < 4; ++k)
          if (i + k < a.n) out[i + k] = from_float<T>(v[k]);
      }
    }
  }
}

}  // namespace aiter

#define AITER_EXPONENTIAL(row, aligned, T)                                     \
  AITER_KERNEL(exponential_##row##_##T, 256)(const aiter::ExponentialArgs a) { \
    aiter::wait_for_previous_kernel();                                         \
    aiter::exponential<aiter::T, aligned>(a);                                  \
  }
AITER_EXPONENTIAL(hip_vec, true, f32)
AITER_EXPONENTIAL(hip_vec, true, f16)
AITER_EXPONENTIAL(hip_vec, true, bf16)
AITER_EXPONENTIAL(hip_any, false, f32)
AITER_EXPONENTIAL(hip_any, false, f16)
AITER_EXPONENTIAL(hip_any, false, bf16)
