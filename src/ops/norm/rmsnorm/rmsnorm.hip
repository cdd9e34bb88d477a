// A row is worked on by a wave when it fits in the wave's registers, else by the whole block; the
// host picks the block. The row stays in registers between the two passes, so memory sees each
// element once in and once out; what does not fit is read again.
#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "ops/norm/rmsnorm/rmsnorm_args.h"

namespace aiter {

// Reads x, or adds and stores the residual: the values that the norm is taken of.
template <bool kAdd, int N, class T>
AITER_DEVICE void load_sum(const T* x, const T* in, T* out, int64_t i, float (&v)[N]) {
  load_floats<N>(x + i, v);
  if (!kAdd) return;
  float r[N];
  load_floats<N>(in + i, r);
  Pack<T, N> rounded;
  AITER_UNROLL
  for (int k = 0; k < N; ++k) {
    rounded.elements[k] = from_float<T>(v[k] + r[k]);
    v[k] = to_float(rounded.elements[k]);
  }
  store_pack<N>(out + i, rounded);
}

template <int N, class T>
AITER_DEVICE void scale_and_store(const RmsnormArgs& a, T* y, int64_t i, float scale,
                                  float (&v)[N]) {
  float gain[N];
  if (a.w) load_floats<N, T>(a.w, a.w_dtype, i, gain);
  AITER_UNROLL
  for (int k = 0; k < N; ++k) {
    v[k] *= scale;
    if (a.model_sensitive) v[k] = to_float(from_float<T>(v[k]));
    if (a.w) v[k] *= a.gemma ? gain[k] + 1.0f : gain[k];
  }
  store_floats<N>(y + i, v);
}

template <class T, bool kAligned, bool kAdd>
AITER_DEVICE void rmsnorm(const RmsnormArgs& a) {
  constexpr int N = kPackSize<T, kAligned>;
  constexpr int kChunks = RmsnormArgs::kChunks;
  AITER_SHARED float scratch[1024 / kWave];

  const int block = block_threads();
  const bool by_wave = a.hidden <= kWave * N * kChunks;
  const int threads = by_wave ? kWave : block;  // of a row
  const int t = by_wave ? thread_index() % kWave : thread_index();
  const int rows_per_block = block / threads;
  const int64_t step = static_cast<int64_t>(grid_blocks()) * rows_per_block;
  const int64_t in_registers = min<int64_t>(a.hidden, static_cast<int64_t>(threads) * N * kChunks);

  for (int64_t r = static_cast<int64_t>(block_index_x()) * rows_per_block + thread_index() / threads;
       r < a.x_rows.count; r += step) {
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    const T* in = nullptr;
    T* out = nullptr;
    if (kAdd) {
      in = static_cast<const T*>(a.residual_in) + a.residual_in_rows.offset(r);
      out = static_cast<T*>(a.residual_out) + a.residual_out_rows.offset(r);
    }
    T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);

    float v[kChunks][N];
    float sum = 0;
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const int64_t i = (static_cast<int64_t>(c) * threads + t) * N;
      if (i < in_registers) {
        load_sum<kAdd, N>(x, in, out, i, v[c]);
        AITER_UNROLL
        for (int k = 0; k < N; ++k) sum = fma(v[c][k], v[c][k], sum);
      }
    }
    AITER_NO_UNROLL
    for (int64_t i = in_registers + t * N; i < a.hidden; i += threads * N) {
      float rest[N];
      load_sum<kAdd, N>(x, in, out, i, rest);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) sum = fma(rest[k], rest[k], sum);
    }

    sum = by_wave ? wave_reduce<Sum>(sum) : block_reduce<Sum>(sum, scratch);
    const float scale = 1.0f / sqrt(sum / static_cast<float>(a.hidden) + a.eps);

    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const int64_t i = (static_cast<int64_t>(c) * threads + t) * N;
      if (i < in_registers) scale_and_store<N>(a, y, i, scale, v[c]);
    }
    const T* from = kAdd ? out : x;  // what this thread wrote or nobody changes
    AITER_NO_UNROLL
    for (int64_t i = in_registers + t * N; i < a.hidden; i += threads * N) {
      float rest[N];
      load_floats<N>(from + i, rest);
      scale_and_store<N>(a, y, i, scale, rest);
    }
  }
}

}  // namespace aiter

#define AITER_RMSNORM(row, aligned, T)                                            \
  AITER_KERNEL(rmsnorm_##row##_##T, 1024)(const aiter::RmsnormArgs a) {           \
    aiter::rmsnorm<aiter::T, aligned, false>(a);                                  \
  }                                                                               \
  AITER_KERNEL(rmsnorm_##row##_add_##T, 1024)(const aiter::RmsnormArgs a) {       \
    aiter::rmsnorm<aiter::T, aligned, true>(a);                                   \
  }
AITER_RMSNORM(hip_vec, true, f32)
AITER_RMSNORM(hip_vec, true, f16)
AITER_RMSNORM(hip_vec, true, bf16)
AITER_RMSNORM(hip_any, false, f32)
AITER_RMSNORM(hip_any, false, f16)
AITER_RMSNORM(hip_any, false, bf16)
