// A row is worked on by some lanes of a wave, a power of two, or by a whole block; the host picks
// so that each thread has kChunks packs of it. They stay in registers between the two passes, so
// memory sees each element once in and once out; what does not fit is read again.
#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "ops/norm/rmsnorm/rmsnorm_args.h"

namespace aiter {

// x + r, rounded: what the norm is taken of.
template <class T, int N>
AITER_DEVICE Pack<T, N> add(const Pack<T, N>& x, const Pack<T, N>& r) {
  float a[N], b[N];
  x.to_floats(a);
  r.to_floats(b);
  AITER_UNROLL
  for (int k = 0; k < N; ++k) a[k] += b[k];
  return Pack<T, N>::from_floats(a);
}

template <class T, int N>
AITER_DEVICE float add_squares(const Pack<T, N>& pack, float sum) {
  float v[N];
  pack.to_floats(v);
  AITER_UNROLL
  for (int k = 0; k < N; ++k) sum = fma(v[k], v[k], sum);
  return sum;
}

// N results at i of the row y.
template <int N, class T>
AITER_DEVICE void scale_and_store(const RmsnormArgs& a, T* y, int64_t i, const Pack<T, N>& pack,
                                  float scale) {
  float v[N], gain[N];
  pack.to_floats(v);
  AITER_UNROLL
  for (int k = 0; k < N; ++k) v[k] *= scale;
  if (a.model_sensitive) Pack<T, N>::from_floats(v).to_floats(v);
  if (a.w) {
    load_floats<N, T>(a.w, a.w_dtype, i, gain);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] *= a.gemma ? gain[k] + 1.0f : gain[k];
  }
  store_floats<N>(y + i, v);
}

template <class T, bool kAligned, bool kAdd, int kChunks>
AITER_DEVICE void rmsnorm(const RmsnormArgs& a) {
  constexpr int N = kPackSize<T, kAligned>;
  constexpr int kGroup =
      kChunks < 4 ? kChunks : 4;  // packs of x, and of the residual, that are loaded at once
  AITER_SHARED float scratch[1024 / kWave];

  const int threads = a.threads_per_row;
  const int t = thread_index() & (threads <= kWave ? threads - 1 : -1);
  const int rows_per_block = threads <= kWave ? block_threads() / threads : 1;
  const int64_t step = static_cast<int64_t>(grid_blocks()) * rows_per_block;
  const int in_registers = static_cast<int>(min<int64_t>(a.hidden, threads * N * kChunks));
  const int64_t first = static_cast<int64_t>(block_index_x()) * rows_per_block;

  for (int64_t base = first; base < a.x_rows.count; base += step) {
    const int64_t r = base + (threads <= kWave ? thread_index() / threads : 0);
    if (r >= a.x_rows.count) continue;  // all lanes of a row take part in its sum, and no others
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    const T* in = nullptr;
    T* out = nullptr;
    if (kAdd) {
      in = static_cast<const T*>(a.residual_in) + a.residual_in_rows.offset(r);
      out = static_cast<T*>(a.residual_out) + a.residual_out_rows.offset(r);
    }

    Pack<T, N> v[kChunks];
    float sum = 0;
    AITER_UNROLL
    for (int g = 0; g < kChunks; g += kGroup) {
      // All loads of a group are under way before the first is waited for.
      Pack<T, N> residual[kGroup];
      AITER_UNROLL
      for (int c = g; c < g + kGroup; ++c) {
        const int i = (c * threads + t) * N;
        if (i >= in_registers) continue;
        v[c] = load_pack<N>(x + i);
        if (kAdd) residual[c - g] = load_pack<N>(in + i);
      }
      AITER_UNROLL
      for (int c = g; c < g + kGroup; ++c) {
        const int i = (c * threads + t) * N;
        if (i >= in_registers || !kAdd) continue;
        v[c] = add(v[c], residual[c - g]);
        store_pack<N>(out + i, v[c]);
      }
    }
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c)
      if ((c * threads + t) * N < in_registers) sum = add_squares(v[c], sum);
    AITER_NO_UNROLL
    for (int64_t i = in_registers + t * N; i < a.hidden; i += threads * N) {
      Pack<T, N> rest = load_pack<N>(x + i);
      if (kAdd) {
        rest = add(rest, load_pack<N>(in + i));
        store_pack<N>(out + i, rest);
      }
      sum = add_squares(rest, sum);
    }

    if (threads <= kWave)
      for (int mask = threads / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
    else
      sum = block_reduce<Sum>(sum, scratch);
    const float scale = 1.0f / sqrt(sum / static_cast<float>(a.hidden) + a.eps);

    T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const int i = (c * threads + t) * N;
      if (i >= in_registers) continue;
      v[c].forget();
      scale_and_store<N>(a, y, i, v[c], scale);
    }
    const T* from = kAdd ? out : x;  // what this thread wrote or nobody changes
    AITER_NO_UNROLL
    for (int64_t i = in_registers + t * N; i < a.hidden; i += threads * N)
      scale_and_store<N>(a, y, i, load_pack<N>(from + i), scale);
  }
}

}  // namespace aiter

#define AITER_RMSNORM(row, aligned, chunks, threads, T)                        \
  AITER_KERNEL(rmsnorm_##row##_##T, threads)(const aiter::RmsnormArgs a) {     \
    aiter::rmsnorm<aiter::T, aligned, false, chunks>(a);                       \
  }                                                                            \
  AITER_KERNEL(rmsnorm_##row##_add_##T, threads)(const aiter::RmsnormArgs a) { \
    aiter::rmsnorm<aiter::T, aligned, true, chunks>(a);                        \
  }
AITER_RMSNORM(hip_vec, true, 4, 512, f32)
AITER_RMSNORM(hip_vec, true, 4, 512, f16)
AITER_RMSNORM(hip_vec, true, 4, 512, bf16)
#if !defined(AITER_AMD)  // whose compiler spills eight packs
AITER_RMSNORM(hip_long, true, 8, 512, f32)
AITER_RMSNORM(hip_long, true, 8, 512, f16)
AITER_RMSNORM(hip_long, true, 8, 512, bf16)
#endif
AITER_RMSNORM(hip_any, false, 4, 512, f32)
AITER_RMSNORM(hip_any, false, 4, 512, f16)
AITER_RMSNORM(hip_any, false, 4, 512, bf16)
