// A row is worked on by some lanes of a wave, a power of two, or by a whole block; the host picks
// so that each thread has kChunks packs of it. They stay in registers, so memory sees each element
// once in and once out; what does not fit is read again.
#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "ops/elementwise/softmax/softmax_args.h"

namespace aiter {

// The largest number of a part of a row, and the sum of exp(x - most).
struct Part {
  float most, sum;
};

template <int N>
AITER_DEVICE Part add(Part part, const float (&v)[N]) {
  float most = part.most;
  AITER_UNROLL
  for (int k = 0; k < N; ++k) most = v[k] > most ? v[k] : most;  // NaN is passed over
  if (most > part.most) part.sum *= exp(part.most - most);
  // While there is nothing but -infinity, differences are not numbers.
  AITER_UNROLL
  for (int k = 0; k < N; ++k)
    part.sum += most == -kInfinity && v[k] == most ? 0.0f : exp(v[k] - most);
  return {most, part.sum};
}

AITER_DEVICE Part join(Part a, Part b) {
  const float most = a.most < b.most ? b.most : a.most;
  if (a.most < most) a.sum *= exp(a.most - most);
  if (b.most < most) b.sum *= exp(b.most - most);
  return {most, a.sum + b.sum};
}

AITER_DEVICE Part join_lanes(Part part, int lanes) {
  for (int mask = lanes / 2; mask > 0; mask /= 2)
    part = join(part, {shuffle_xor(part.most, mask), shuffle_xor(part.sum, mask)});
  return part;
}

template <class T, bool kAligned>
AITER_DEVICE void softmax(const SoftmaxArgs& a) {
  constexpr int N = kPackSize<T, kAligned>, kChunks = 4;
  AITER_SHARED Part scratch[512 / kWave];

  const int threads = a.threads_per_row;
  const int t = thread_index() & (threads <= kWave ? threads - 1 : -1);
  const int rows_per_block = threads <= kWave ? block_threads() / threads : 1;
  const int64_t step = static_cast<int64_t>(grid_blocks()) * rows_per_block;
  const int in_registers = static_cast<int>(min<int64_t>(a.n, threads * N * kChunks));
  const int64_t first = static_cast<int64_t>(block_index_x()) * rows_per_block;

  for (int64_t base = first; base < a.x_rows.count; base += step) {
    const int64_t r = base + (threads <= kWave ? thread_index() / threads : 0);
    if (r >= a.x_rows.count) continue;  // all lanes of a row take part in its sum, and no others
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
    Pack<T, N> packs[kChunks];
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const int i = (c * threads + t) * N;
      if (i < in_registers) packs[c] = load_pack<N>(x + i);
    }
    Part part = {-kInfinity, 0.0f};
    float v[N];
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      if ((c * threads + t) * N >= in_registers) continue;
      packs[c].to_floats(v);
      part = add(part, v);
    }
    AITER_NO_UNROLL
    for (int64_t i = in_registers + t * N; i < a.n; i += threads * N) {
      load_floats<N>(x + i, v);
      part = add(part, v);
    }
    part = join_lanes(part, threads <= kWave ? threads : kWave);
    if (threads > kWave) {
      if (thread_index() % kWave == 0) scratch[thread_index() / kWave] = part;
      barrier();
      part = scratch[0];
      for (int i = 1; i < threads / kWave; ++i) part = join(part, scratch[i]);
      barrier();
    }
    const float most = part.most, factor = 1.0f / part.sum;
    auto normalize = [&] AITER_LAMBDA(int64_t i) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] = exp(v[k] - most) * factor;
      store_floats<N>(y + i, v);
    };
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const int i = (c * threads + t) * N;
      if (i >= in_registers) continue;
      packs[c].forget();
      packs[c].to_floats(v);
      normalize(i);
    }
    AITER_NO_UNROLL
    for (int64_t i = in_registers + t * N; i < a.n; i += threads * N) {
      load_floats<N>(x + i, v);
      normalize(i);
    }
  }
}

}  // namespace aiter

#define AITER_SOFTMAX(row, aligned, T)                                 \
  AITER_KERNEL(softmax_##row##_##T, 512)(const aiter::SoftmaxArgs a) { \
    aiter::wait_for_previous_kernel();                                 \
    aiter::softmax<aiter::T, aligned>(a);                              \
  }
AITER_SOFTMAX(hip_vec, true, f32)
AITER_SOFTMAX(hip_vec, true, f16)
AITER_SOFTMAX(hip_vec, true, bf16)
AITER_SOFTMAX(hip_any, false, f32)
AITER_SOFTMAX(hip_any, false, f16)
AITER_SOFTMAX(hip_any, false, bf16)
