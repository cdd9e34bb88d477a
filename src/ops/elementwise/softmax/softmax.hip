// A row is worked on by some lanes of a wave, a power of two, or by a whole block; the host picks
// so that each thread has kChunks packs of it. They stay in registers, so memory sees each element
// once in and once out; what does not fit is read again.
#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "ops/elementwise/softmax/softmax_args.h"

namespace aiter {

// What a wave finds in its part of a row: its largest number, and the sum of exp(x - center). The center
// is that number, or 0 while there is nothing but -infinity, whose difference is no number.
struct Part {
  float most, sum;
};

// e^x of an element of T: relative to it, 16 bits need no more than the hardware gives.
template <class T>
AITER_DEVICE float exp_of(float x) {
  if constexpr (sizeof(T) == 4) return exp(x);
  return exp2_fast(x * 1.44269502f);
}

template <class T, bool kAligned>
AITER_DEVICE void softmax(const SoftmaxArgs& a) {
  constexpr int N = kPackSize<T, kAligned>, kChunks = 4;
  constexpr int kWaves = 512 / kWave;
  AITER_SHARED Part scratch[kWaves];

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
      if (N == 1) packs[c] = {};  // compilers compute with what is not there, and drop the result
      if (i < in_registers) packs[c] = load_pack<N>(x + i);
    }
    const int lanes = min(threads, kWave);
    Part part = {-kInfinity, 0.0f};
    float v[N];
    auto add_most = [&] AITER_LAMBDA(const float (&x)[N]) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) part.most = fmax(part.most, x[k]);  // NaN is passed over
    };
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      if ((c * threads + t) * N >= in_registers) continue;
      packs[c].to_floats(v);
      add_most(v);
    }
    AITER_NO_UNROLL
    for (int64_t i = in_registers + t * N; i < a.n; i += threads * N) {
      load_floats<N>(x + i, v);
      add_most(v);
    }
    part.most = lanes_reduce<Max>(part.most, lanes);
    const float center = part.most == -kInfinity ? 0.0f : part.most;
    auto add_exps = [&] AITER_LAMBDA(const float (&x)[N]) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) part.sum += exp_of<T>(x[k] - center);
    };
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      if ((c * threads + t) * N >= in_registers) continue;
      packs[c].forget();
      packs[c].to_floats(v);
      add_exps(v);
    }
    AITER_NO_UNROLL
    for (int64_t i = in_registers + t * N; i < a.n; i += threads * N) {
      load_floats<N>(x + i, v);
      add_exps(v);
    }
    part.sum = lanes_reduce<Sum>(part.sum, lanes);
    float most = part.most, sum = part.sum;
    if (threads > kWave) {
      part = parts_of_waves<kWaves>(part, scratch, {-kInfinity, 0.0f});
      most = wave_reduce<Max, kWaves>(part.most);
      sum = wave_reduce<Sum, kWaves>(part.sum * exp(part.most - most));
    }
    const float factor = 1.0f / sum;
    auto write = [&] AITER_LAMBDA(int64_t i) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] = exp_of<T>(v[k] - most) * factor;
      store_floats<N>(y + i, v);
    };
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const int i = (c * threads + t) * N;
      if (i >= in_registers) continue;
      packs[c].forget();
      packs[c].to_floats(v);
      write(i);
    }
    AITER_NO_UNROLL
    for (int64_t i = in_registers + t * N; i < a.n; i += threads * N) {
      load_floats<N>(x + i, v);
      write(i);
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
