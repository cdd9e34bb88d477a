// A block takes a group of an image: its mean, its deviations, then what is written. The second and
// third pass find it in the cache where it fits.
#include "ck/core/activation.h"
#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "ops/norm/groupnorm/groupnorm_args.h"

namespace aiter {

// Calls f(i, channel) for packs of N elements of a group of image n that this thread takes. With
// channels last, a pack is of N channels; else of one.
template <int N, class F>
AITER_DEVICE void each_pack(const GroupnormArgs& a, int64_t n, int64_t group, F&& f) {
  const int64_t in_group = a.channels / a.groups, first = group * in_group;
  const int64_t row = a.channels_last ? in_group : a.space;
  const int64_t rows = a.channels_last ? a.space : in_group;
  const int64_t packs = row / N;
  // Few packs of a row: several rows at a time.
  const int across = static_cast<int>(min<int64_t>(packs, block_threads()));
  const int down = block_threads() / across;
  const int t = thread_index() % across, k = thread_index() / across;
  if (k >= down) return;
  for (int64_t r = k; r < rows; r += down) {
    const int64_t base = a.channels_last ? (n * a.space + r) * a.channels + first
                                         : (n * a.channels + first + r) * a.space;
    for (int64_t p = t; p < packs; p += across)
      f(base + p * N, a.channels_last ? first + p * N : first + r);
  }
}

template <class T, int N>
AITER_DEVICE void groupnorm(const GroupnormArgs& a) {
  AITER_SHARED float scratch[1024 / kWave];
  const T* x = static_cast<const T*>(a.x);
  T* y = static_cast<T*>(a.y);
  const float count = static_cast<float>(a.channels / a.groups * a.space);
  for (int64_t block = block_index_x(); block < a.batch * a.groups; block += grid_blocks()) {
    const int64_t n = block / a.groups, group = block % a.groups;
    float mean = 0, squares = 0, v[N];
    each_pack<N>(a, n, group, [&] AITER_LAMBDA(int64_t i, int64_t) {
      load_pack<N>(x + i).to_floats(v);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) mean += v[k];
    });
    mean = block_reduce<Sum>(mean, scratch) / count;
    each_pack<N>(a, n, group, [&] AITER_LAMBDA(int64_t i, int64_t) {
      load_pack<N>(x + i).to_floats(v);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) squares = fma(v[k] - mean, v[k] - mean, squares);
    });
    const float scale = 1.0f / sqrt(block_reduce<Sum>(squares, scratch) / count + a.eps);
    each_pack<N>(a, n, group, [&] AITER_LAMBDA(int64_t i, int64_t channel) {
      load_pack<N>(x + i).to_floats(v);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) {
        const int64_t c = a.channels_last ? channel + k : channel;
        v[k] = (v[k] - mean) * scale;
        if (a.w) v[k] *= load_float(a.w, c, a.w_dtype);
        if (a.b) v[k] += load_float(a.b, c, a.w_dtype);
        if (a.silu) v[k] *= sigmoid(v[k]);
      }
      store_floats<N>(y + i, v);
    });
  }
}

}  // namespace aiter

#define AITER_GROUPNORM(T)                                                 \
  AITER_KERNEL(groupnorm_hip_vec_##T, 512)(const aiter::GroupnormArgs a) { \
    aiter::wait_for_previous_kernel();                                     \
    aiter::groupnorm<aiter::T, aiter::kPackSize<aiter::T, true>>(a);       \
  }                                                                        \
  AITER_KERNEL(groupnorm_hip_any_##T, 512)(const aiter::GroupnormArgs a) { \
    aiter::wait_for_previous_kernel();                                     \
    aiter::groupnorm<aiter::T, 1>(a);                                      \
  }
AITER_GROUPNORM(f32)
AITER_GROUPNORM(f16)
AITER_GROUPNORM(bf16)
