// Norms of rows.
//
// A row is worked on by some lanes of a wave, a power of two, or by a whole block; the host picks
// so that each thread has kChunks packs of it. They stay in registers between the passes, so memory
// sees each element once in and once out; what does not fit is read again.
#pragma once

#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "ops/norm/row_norm.h"

namespace aiter {

// What a wave finds in its part of a row: deviations are taken from the mean of the part, and then
// carried over to that of the row, so that nothing waits for other waves in between.
struct WaveMoments {
  float count, total, center, squares;
  AITER_DEVICE void center_at_mean(int lanes) {
    count = lanes_reduce<Sum>(count, lanes);
    total = lanes_reduce<Sum>(total, lanes);
    center = divide_fast(total, max(count, 1.0f));
  }
  // The squares of the deviations from another mean.
  AITER_DEVICE float squares_about(float mean) const {
    const float shift = center - mean;
    return fma(shift * shift, count, squares);
  }
};

// v = the norm of v; gain(to) and bias(to) give what a.w and a.b have for it, where they are there.
template <class T, NormKind kKind, int N, class Gain, class Bias>
AITER_DEVICE void normalize(const RowNormArgs& a, float mean, float scale, float (&v)[N],
                            Gain&& gain, Bias&& bias) {
  constexpr bool kLayer = kKind == NormKind::kLayer;
  float weight[N];
  AITER_UNROLL
  for (int k = 0; k < N; ++k) v[k] = (kLayer ? v[k] - mean : v[k]) * scale;
  if (!kLayer && a.model_sensitive) Pack<T, N>::from_floats(v).to_floats(v);
  if (a.w) {
    gain(weight);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] *= !kLayer && a.gemma ? weight[k] + 1.0f : weight[k];
  }
  if (kLayer && a.b) {
    bias(weight);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] += weight[k];
  }
}

// A thread's part of a row: packs of which kNeighbours lie next to each other. kAdd: there may be a
// bias of x and a residual. kWhole: a block has a row, and registers for all of it.
template <class T, int N, int kChunks, NormKind kKind, bool kAdd, bool kWhole = false,
          int kNeighbours = 1>
struct RowNorm {
  static constexpr bool kFloats = kWhole && kKind == NormKind::kLayer;  // of three passes, not two
  const RowNormArgs& a;
  float* scratch;  // of the block: a float for each wave
  int threads, t;  // threads of the row, and which of them this is
  int in_registers;
  const T* rest;  // the row, from which the numbers beyond the registers are read again
  Pack<T, N> v[kChunks];
  float whole[kFloats ? N : 1];  // the numbers of the only pack
  float mean, scale;

  AITER_DEVICE RowNorm(const RowNormArgs& args, float* block_scratch)
      : a(args),
        scratch(block_scratch),
        threads(kWhole ? block_threads() : args.threads_per_row),
        t(kWhole || threads > kWave ? thread_index() : thread_index() & (threads - 1)),
        in_registers(
            static_cast<int>(kWhole ? a.hidden : min<int64_t>(a.hidden, threads * N * kChunks))) {}

  // Where pack c begins.
  AITER_DEVICE int index(int c) const {
    return (c / kNeighbours * threads * kNeighbours + t * kNeighbours + c % kNeighbours) * N;
  }

  // Calls f(r) for this thread's rows; all threads of a row, and no others, are in f together.
  template <class F>
  AITER_DEVICE void each_row(int block, int blocks, F&& f) {
    const int rows_per_block = threads <= kWave ? block_threads() / threads : 1;
    const int64_t step = static_cast<int64_t>(blocks) * rows_per_block;
    const int first = threads <= kWave ? thread_index() / threads : 0;
    for (int64_t r = static_cast<int64_t>(block) * rows_per_block + first; r < a.x_rows.count;
         r += step)
      f(r);
  }

  template <class Op>
  AITER_DEVICE float reduce(float value) {
    return row_reduce<Op>(value, threads, scratch);
  }

  AITER_DEVICE bool add() const { return kAdd && a.residual_in; }

  AITER_DEVICE void add_bias(float (&v)[N], int64_t i) {
    if (!kAdd || kKind != NormKind::kLayer || !a.x_bias) return;
    float bias[N];
    load_floats<N>(static_cast<const T*>(a.x_bias) + i, bias);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] += bias[k];
  }

  // x + x_bias + residual, rounded: what the norm is taken of.
  AITER_DEVICE Pack<T, N> sum(const Pack<T, N>& x, const Pack<T, N>& residual, int64_t i) {
    float v[N], r[N];
    x.to_floats(v);
    add_bias(v, i);
    residual.to_floats(r);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] += r[k];
    return Pack<T, N>::from_floats(v);
  }

  // The numbers of a pack, before the norm.
  AITER_DEVICE void numbers(const Pack<T, N>& pack, int64_t i, float (&v)[N]) {
    if constexpr (kFloats) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] = whole[k];
    } else {
      pack.to_floats(v);
      if (!add()) add_bias(v, i);
    }
  }

  // Calls f(pack, i) for all packs of this thread.
  template <class F>
  AITER_DEVICE void each_pack(F&& f) {
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const int i = index(c);
      if (i >= in_registers) continue;
      if (!kFloats) v[c].forget();
      f(v[c], i);
    }
    AITER_NO_UNROLL
    for (int64_t i = in_registers + t * N; !kWhole && i < a.hidden; i += threads * N)
      f(load_pack<N>(rest + i), i);
  }

  // Reads row r, adds and writes the residual, and finds mean and scale. While the first loads are under
  // way, while_loading() is called.
  AITER_DEVICE void read(int64_t r) {
    read(r, [] AITER_LAMBDA() {});
  }
  template <class F>
  AITER_DEVICE void read(int64_t r, F&& while_loading) {
    constexpr int kGroup = kChunks < 4 ? kChunks : 4;  // packs that are loaded at once
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    const T* in = nullptr;
    T* out = nullptr;
    if (add()) {
      in = static_cast<const T*>(a.residual_in) + a.residual_in_rows.offset(r);
      out = static_cast<T*>(a.residual_out) + a.residual_out_rows.offset(r);
    }
    AITER_UNROLL
    for (int g = 0; g < kChunks; g += kGroup) {
      // All loads of a group are under way before the first is waited for.
      Pack<T, N> residual[kGroup];
      AITER_UNROLL
      for (int c = g; c < g + kGroup; ++c) {
        const int i = index(c);
        // Compilers compute with elements that are not there, and drop what comes of it.
        if (N == 1 || kWhole) v[c] = residual[c - g] = {};
        if (i >= in_registers) continue;
        v[c] = load_pack<N>(x + i);
        if (add()) residual[c - g] = load_pack<N>(in + i);
      }
      if (g == 0) while_loading();
      AITER_UNROLL
      for (int c = g; c < g + kGroup; ++c) {
        const int i = index(c);
        if (i >= in_registers || !add()) continue;
        v[c] = sum(v[c], residual[c - g], i);
        store_pack<N>(out + i, v[c]);
      }
    }
    if (!kWhole && add()) {
      AITER_NO_UNROLL
      for (int64_t i = in_registers + t * N; i < a.hidden; i += threads * N)
        store_pack<N>(out + i, sum(load_pack<N>(x + i), load_pack<N>(in + i), i));
    }
    if constexpr (kFloats) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) whole[k] = 0;
      if (t * N < in_registers) {
        v[0].to_floats(whole);
        if (!add()) add_bias(whole, t * N);
      }
    }
    rest = add() ? out : x;  // what this thread wrote, or nobody changes
    const float hidden = static_cast<float>(a.hidden);
    float squares = 0;
    mean = 0;
    if constexpr (kKind == NormKind::kLayer) {
      constexpr int kWaves = 1024 / kWave;
      AITER_SHARED WaveMoments shared[kWaves];
      const int lanes = kWhole ? kWave : min(threads, kWave);
      WaveMoments part{};
      each_pack([&] AITER_LAMBDA(const Pack<T, N>& pack, int64_t i) {
        float x[N];
        numbers(pack, i, x);
        part.count += N;
        AITER_UNROLL
        for (int k = 0; k < N; ++k) part.total += x[k];
      });
      part.center_at_mean(lanes);
      each_pack([&] AITER_LAMBDA(const Pack<T, N>& pack, int64_t i) {
        float x[N];
        numbers(pack, i, x);
        AITER_UNROLL
        for (int k = 0; k < N; ++k) {
          x[k] -= part.center;
          part.squares = fma(x[k], x[k], part.squares);
        }
      });
      part.squares = lanes_reduce<Sum>(part.squares, lanes);
      squares = part.squares, mean = part.center;
      if (kWhole || threads > kWave) {
        part = parts_of_waves<kWaves>(part, shared);
        mean = divide_fast(wave_reduce<Sum, kWaves>(part.total), hidden);
        squares = wave_reduce<Sum, kWaves>(part.squares_about(mean));
      }
    } else {
      each_pack([&] AITER_LAMBDA(const Pack<T, N>& pack, int64_t i) {
        float x[N];
        numbers(pack, i, x);
        AITER_UNROLL
        for (int k = 0; k < N; ++k) squares = fma(x[k], x[k], squares);
      });
      squares = kWhole ? block_sum_once(squares, scratch) : reduce<Sum>(squares);
    }
    scale = rsqrt_fast(fma(squares, reciprocal_fast(hidden), a.eps));
  }

  // The norm of the numbers of a pack.
  AITER_DEVICE void normalize(const Pack<T, N>& pack, int64_t i, float (&y)[N]) {
    numbers(pack, i, y);
    aiter::normalize<T, kKind>(
        a, mean, scale, y,
        [&] AITER_LAMBDA(float (&to)[N]) { load_floats<N, T>(a.w, a.w_dtype, i, to); },
        [&] AITER_LAMBDA(float (&to)[N]) { load_floats<N, T>(a.b, a.w_dtype, i, to); });
  }

  // Writes the norm of row r, which has been read.
  AITER_DEVICE void write(int64_t r) {
    T* y = static_cast<T*>(a.y) + a.y_rows.offset(r);
    if (kKind == NormKind::kLayer && a.w && a.b &&
        (is_same<T, float> || a.w_dtype != DType::kF32)) {
      // The usual case, with no questions for each pack.
      each_pack([&] AITER_LAMBDA(const Pack<T, N>& pack, int64_t i) {
        float v[N], weight[N], bias[N];
        load_floats<N>(static_cast<const T*>(a.w) + i, weight);
        load_floats<N>(static_cast<const T*>(a.b) + i, bias);
        numbers(pack, i, v);
        AITER_UNROLL
        for (int k = 0; k < N; ++k) v[k] = fma((v[k] - mean) * scale, weight[k], bias[k]);
        store_floats<N>(y + i, v);
      });
    } else {
      each_pack([&] AITER_LAMBDA(const Pack<T, N>& pack, int64_t i) {
        float v[N];
        normalize(pack, i, v);
        store_floats<N>(y + i, v);
      });
    }
    for (int64_t i = a.hidden + t; i < a.y_cols; i += threads) y[i] = from_float<T>(0.0f);
  }
};

template <class T, bool kAligned, bool kAdd, int kChunks, NormKind kKind>
AITER_DEVICE void row_norm(const RowNormArgs& a, float* scratch) {
  constexpr int N = kPackSize<T, kAligned>;
  RowNorm<T, N, kChunks, kKind, kAdd> row(a, scratch);
  row.each_row(block_index_x(), grid_blocks(), [&] AITER_LAMBDA(int64_t r) {
    row.read(r);
    row.write(r);
  });
}

}  // namespace aiter

#define AITER_ROW_NORM(op, row, kind, aligned, chunks, T)                       \
  AITER_KERNEL(op##_##row##_##T, 512)(const aiter::RowNormArgs a) {             \
    AITER_SHARED float scratch[1024 / aiter::kWave];                            \
    aiter::wait_for_previous_kernel();                                          \
    aiter::row_norm<aiter::T, aligned, false, chunks, aiter::kind>(a, scratch); \
  }                                                                             \
  AITER_KERNEL(op##_##row##_add_##T, 512)(const aiter::RowNormArgs a) {         \
    AITER_SHARED float scratch[1024 / aiter::kWave];                            \
    aiter::wait_for_previous_kernel();                                          \
    aiter::row_norm<aiter::T, aligned, true, chunks, aiter::kind>(a, scratch);  \
  }
