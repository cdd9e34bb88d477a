// Gradients of the norms of rows.
//
// A slot is some lanes of a wave, or a block, that takes every slots-th row. The numbers of the row and of
// its gradient stay in registers between the passes, and so do the gains and the slot's sums for dw and
// db; what does not fit is read again, and its sums are kept in memory, as are those for dx_bias, which
// few ask for. With kSums, the next row is loaded during this one; without, a slot has one row.
#pragma once

#include "ck/norm/row_norm.h"
#include "ops/norm/norm_backward/norm_backward_args.h"

namespace aiter {

// What a wave finds in its part of a row; a layer norm's deviations are taken from the center. d is
// the gradient times the gain.
struct BackwardSums {
  WaveMoments x;
  float d, d_deviation;  // sums of d, and of d times the deviation of x
};

template <class T, int N, int kChunks, NormKind kKind, bool kSums>
struct NormBackward {
  static constexpr bool kLayer = kKind == NormKind::kLayer;
  static constexpr int kWaves = 512 / kWave;
  static constexpr int kSumChunks = kSums ? kChunks : 1,
                       kBiasChunks = kSums && kLayer ? kChunks : 1;
  // With sums gains are kept as floats, which takes no work, but for db, whose sums take their registers.
  static constexpr bool kFloatGains = kSums && !kLayer, kPackGains = !kSums;
  const NormBackwardArgs& a;
  BackwardSums* shared;  // of the block: one for each wave
  int threads, t;        // threads of the row, and which of them this is
  int in_registers;
  float in_wave;  // numbers of a row
  Pack<T, N> x[kChunks], dy[kChunks], next_x[kChunks], next_dy[kChunks];
  Pack<T, N> gain[kPackGains ? kChunks : 1];
  float float_gain[kFloatGains ? kChunks : 1][N], dw[kSumChunks][N], db[kBiasChunks][N];

  AITER_DEVICE NormBackward(const NormBackwardArgs& args, BackwardSums* block_shared)
      : a(args), shared(block_shared), threads(args.threads_per_row) {
    t = thread_index() & (threads <= kWave ? threads - 1 : -1);
    in_registers = static_cast<int>(min<int64_t>(a.hidden, threads * N * kChunks));
    if (kLayer) {
      const int64_t packs = a.hidden / N;
      const int64_t mine = t < packs ? (packs - 1 - t) / threads + 1 : 0;
      in_wave = lanes_reduce<Sum>(static_cast<float>(mine * N), min(threads, kWave));
    }
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) next_x[c] = next_dy[c] = {};  // what is not there is 0
    AITER_UNROLL
    for (int c = 0; c < kSumChunks; ++c) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) dw[c][k] = 0;
    }
    AITER_UNROLL
    for (int c = 0; c < kBiasChunks; ++c) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) db[c][k] = 0;
    }
  }

  AITER_DEVICE const T* x_row(int64_t r) const {
    return static_cast<const T*>(a.x) + a.x_rows.offset(r);
  }
  AITER_DEVICE const T* dy_row(int64_t r) const {
    return static_cast<const T*>(a.dy) + a.dy_rows.offset(r);
  }

  // Begins to load a row.
  AITER_DEVICE void prefetch(int64_t r) {
    const T *x_from = x_row(r), *dy_from = dy_row(r);
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const int i = (c * threads + t) * N;
      if (i >= in_registers) continue;
      next_x[c] = load_pack<N>(x_from + i);
      next_dy[c] = load_pack<N>(dy_from + i);
    }
  }

  // Whether packs hold the gains as they are.
  AITER_DEVICE bool gains_fit() const {
    return !a.w || (a.w_dtype == a.dtype && (kLayer || !a.gemma));
  }

  // The gains that are kept; what is not there is 0.
  AITER_DEVICE void load_gains() {
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const int i = (c * threads + t) * N;
      if constexpr (kFloatGains) {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) float_gain[c][k] = 0;
      } else if (kPackGains) {
        gain[c] = {};
      }
      if (i >= in_registers) continue;
      if constexpr (kFloatGains) {
        gains(i, float_gain[c]);
      } else if (kPackGains && gains_fit()) {
        float one[N];
        AITER_UNROLL
        for (int k = 0; k < N; ++k) one[k] = 1.0f;
        gain[c] = a.w ? load_pack<N>(static_cast<const T*>(a.w) + i) : Pack<T, N>::from_floats(one);
      }
    }
  }

  // The numbers of a pack, dy, and its product with the gain.
  AITER_DEVICE void unpack(int c, float (&vx)[N], float (&vdy)[N], float (&vd)[N]) {
    x[c].forget();
    x[c].to_floats(vx);
    dy[c].forget();
    dy[c].to_floats(vdy);
    if constexpr (kFloatGains) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) vd[k] = float_gain[c][k];
    } else if (kPackGains && gains_fit()) {
      gain[c].forget();
      gain[c].to_floats(vd);
    } else {
      gains((c * threads + t) * N, vd);
    }
    AITER_UNROLL
    for (int k = 0; k < N; ++k) vd[k] *= vdy[k];
  }

  // Calls f(x, d) for all packs of this thread.
  template <class F>
  AITER_DEVICE void each_pack(const T* x_row, const T* dy_row, F&& f) {
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      if ((c * threads + t) * N >= in_registers) continue;
      float vx[N], vdy[N], vd[N];
      unpack(c, vx, vdy, vd);
      f(vx, vd);
    }
    each_rest(
        x_row, dy_row,
        [&] AITER_LAMBDA(int64_t, float (&vx)[N], float (&)[N], float (&vd)[N]) { f(vx, vd); });
  }

  // Calls f(i, x, dy, d) for those that are read again.
  template <class F>
  AITER_DEVICE void each_rest(const T* x_row, const T* dy_row, F&& f) {
    AITER_NO_UNROLL
    for (int64_t i = in_registers + t * N; i < a.hidden; i += threads * N) {
      float vx[N], vdy[N], vd[N];
      gains(i, vd);
      load_floats<N>(x_row + i, vx);
      load_floats<N>(dy_row + i, vdy);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) vd[k] *= vdy[k];
      f(i, vx, vdy, vd);
    }
  }

  AITER_DEVICE void gains(int64_t i, float (&g)[N]) {
    AITER_UNROLL
    for (int k = 0; k < N; ++k) g[k] = 1.0f;
    if (!a.w) return;
    load_floats<N, T>(a.w, a.w_dtype, i, g);
    if (!kLayer && a.gemma) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) g[k] += 1.0f;
    }
  }

  // sum[i] += value, in memory; the slot's first row starts it.
  AITER_DEVICE void add_in_memory(float* sum, int64_t i, const float (&value)[N], bool first) {
    if (first) return store_floats<N>(sum + i, value);
    float total[N];
    load_floats<N>(sum + i, total);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) total[k] += value[k];
    store_floats<N>(sum + i, total);
  }

  // What the block's waves have found in this row: lane l gets that of wave l. The two rooms of `shared`
  // take turns, so that one barrier is enough.
  AITER_DEVICE BackwardSums exchange(const BackwardSums& sums, bool odd) {
    BackwardSums* room = shared + (odd ? kWaves : 0);
    const int wave = thread_index() % kWaves;
    if (thread_index() % kWave == 0) room[thread_index() / kWave] = sums;
    barrier();
    return wave < block_threads() / kWave ? room[wave] : BackwardSums{};
  }

  // All threads of the block come here together; there: whether this one's slot has a row r, which has
  // been prefetched, and more: whether it has a row r + slots. odd alternates.
  AITER_DEVICE void row(int64_t r, int64_t slot, bool there, bool more, bool first, bool odd) {
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) x[c] = next_x[c], dy[c] = next_dy[c];
    if (kSums && more) prefetch(r + a.slots);
    const T *x_from = nullptr, *dy_from = nullptr;  // where the rest is read again
    if (in_registers < a.hidden) x_from = x_row(there ? r : 0), dy_from = dy_row(there ? r : 0);
    const int lanes = min(threads, kWave);
    using Floats = float (&)[N];
    BackwardSums sums{};
    if (kLayer) {
      each_pack(x_from, dy_from, [&] AITER_LAMBDA(Floats vx, Floats) {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) sums.x.total += vx[k];
      });
      sums.x.count = in_wave;
      sums.x.total = lanes_reduce<Sum>(sums.x.total, lanes);
      sums.x.center = divide_fast(sums.x.total, max(in_wave, 1.0f));
    }
    each_pack(x_from, dy_from, [&] AITER_LAMBDA(Floats vx, Floats vd) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) {
        const float v = kLayer ? vx[k] - sums.x.center : vx[k];
        sums.x.squares = fma(v, v, sums.x.squares);
        sums.d_deviation = fma(vd[k], v, sums.d_deviation);
        if (kLayer) sums.d += vd[k];
      }
    });
    sums.x.squares = lanes_reduce<Sum>(sums.x.squares, lanes);
    sums.d_deviation = lanes_reduce<Sum>(sums.d_deviation, lanes);
    if (kLayer) sums.d = lanes_reduce<Sum>(sums.d, lanes);
    const float hidden = static_cast<float>(a.hidden), per_number = reciprocal_fast(hidden);
    float mean = sums.x.center, squares = sums.x.squares, sum_d_deviation = sums.d_deviation,
          sum_d = sums.d;
    if (threads > kWave) {
      sums = exchange(sums, odd);
      if (kLayer) {
        mean = divide_fast(wave_reduce<Sum, kWaves>(sums.x.total), hidden);
        sum_d = wave_reduce<Sum, kWaves>(sums.d);
      }
      squares = wave_reduce<Sum, kWaves>(sums.x.squares_about(mean));
      sum_d_deviation =
          wave_reduce<Sum, kWaves>(fma(sums.d, sums.x.center - mean, sums.d_deviation));
    }
    if (!there) return;
    const float scale = rsqrt_fast(fma(squares, per_number, a.eps));
    const float slope = sum_d_deviation * scale * scale * per_number;
    const float offset = kLayer ? sum_d * scale * per_number : 0.0f;
    const float n_at_0 = kLayer ? -mean * scale : 0.0f;

    T* dx = static_cast<T*>(a.dx) + a.dx_rows.offset(r);
    const T* add = nullptr;
    if (a.dresidual) add = static_cast<const T*>(a.dresidual) + a.dresidual_rows.offset(r);
    // n and dx of a pack; dx is stored.
    auto finish = [&] AITER_LAMBDA(int64_t i, Floats vx, Floats vd, Floats n) {
      float out[N];
      AITER_UNROLL
      for (int k = 0; k < N; ++k) out[k] = -offset;
      if (add) {
        load_floats<N>(add + i, out);
        AITER_UNROLL
        for (int k = 0; k < N; ++k) out[k] -= offset;
      }
      AITER_UNROLL
      for (int k = 0; k < N; ++k) {
        n[k] = kLayer ? fma(vx[k], scale, n_at_0) : vx[k] * scale;
        out[k] = fma(vd[k], scale, fma(n[k], -slope, out[k]));
      }
      if (kSums && a.dx_bias) add_in_memory(a.dx_bias_partial() + slot * a.hidden, i, out, first);
      store_floats<N>(dx + i, out);
    };
    float n[N];
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const int i = (c * threads + t) * N;
      if (i >= in_registers) continue;
      float vx[N], vdy[N], vd[N];
      unpack(c, vx, vdy, vd);
      finish(i, vx, vd, n);
      if constexpr (kSums) {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) {
          dw[c][k] = fma(vdy[k], n[k], dw[c][k]);
          if constexpr (kLayer) db[c][k] += vdy[k];
        }
      }
    }
    each_rest(x_from, dy_from, [&] AITER_LAMBDA(int64_t i, Floats vx, Floats vdy, Floats vd) {
      finish(i, vx, vd, n);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) n[k] *= vdy[k];
      if (kSums && a.dw) add_in_memory(a.partial + slot * a.hidden, i, n, first);
      if (kSums && kLayer && a.db) add_in_memory(a.db_partial() + slot * a.hidden, i, vdy, first);
    });
  }

  template <int kCount>
  AITER_DEVICE void store_sums(const float (&sums)[kCount][N], float* slot) {
    AITER_UNROLL
    for (int c = 0; c < kCount; ++c) {
      const int i = (c * threads + t) * N;
      if (i < in_registers) store_floats<N>(slot + i, sums[c]);
    }
  }
};

template <class T, bool kAligned, int kChunks, NormKind kKind, bool kSums>
AITER_DEVICE void norm_backward(const NormBackwardArgs& a) {
  AITER_SHARED BackwardSums shared[2 * 512 / kWave];
  NormBackward<T, kPackSize<T, kAligned>, kChunks, kKind, kSums> n(a, shared);
  const int rows_per_block = n.threads <= kWave ? block_threads() / n.threads : 1;
  const int64_t block = block_index_x() + static_cast<int64_t>(block_index_y()) * grid_blocks();
  const int64_t slot =
      block * rows_per_block + (n.threads <= kWave ? thread_index() / n.threads : 0);
  auto there = [&] AITER_LAMBDA(int64_t r) { return slot < a.slots && r < a.x_rows.count; };
  n.prefetch(there(slot) ? slot : 0);
  n.load_gains();
  if constexpr (kSums) {
    bool odd = false;
    for (int64_t r = slot; r - slot < a.x_rows.count; r += a.slots, odd = !odd)
      n.row(r, slot, there(r), there(r + a.slots), r == slot, odd);
  } else {  // a loop would keep in registers what does not change
    n.row(slot, slot, there(slot), false, true, false);
  }
  if (!kSums || slot >= a.slots) return;
  if (a.dw) n.store_sums(n.dw, a.partial + slot * a.hidden);
  if (kKind == NormKind::kLayer && a.db) n.store_sums(n.db, a.db_partial() + slot * a.hidden);
}

// Adds up the slots: 32 columns for a block of 32 times 32 threads.
template <class W>
AITER_DEVICE void norm_backward_sum(const NormBackwardArgs& a) {
  AITER_SHARED float sums[32][33];
  const float* partial = a.partial + block_index_y() * a.slots * a.hidden;
  void* const out = block_index_y() == 0 && a.dw ? a.dw : a.db ? a.db : a.dx_bias;
  const int lane = thread_index() % 32, part = thread_index() / 32;
  const int64_t column = static_cast<int64_t>(block_index_x()) * 32 + lane;
  float sum = 0;
  if (column < a.hidden) {
    const float* from = partial + part * a.hidden + column;
    _Pragma("unroll 8") for (int64_t s = part; s < a.slots; s += 32, from += 32 * a.hidden) {
      sum += *from;
    }
  }
  sums[part][lane] = sum;
  barrier();
  if (part != 0 || column >= a.hidden) return;
  sum = 0;
  for (int p = 0; p < 32; ++p) sum += sums[p][lane];
  static_cast<W*>(out)[column] = from_float<W>(sum);
}

}  // namespace aiter

#define AITER_NORM_BACKWARD_KERNEL(row, aligned, chunks, kind, sums, T)              \
  AITER_KERNEL(norm_backward_##row##_##T, 512)(const aiter::NormBackwardArgs a) {    \
    aiter::wait_for_previous_kernel();                                               \
    aiter::norm_backward<aiter::T, aligned, chunks, aiter::NormKind::kind, sums>(a); \
  }
#define AITER_NORM_BACKWARD(row, aligned, chunks, T)                    \
  AITER_NORM_BACKWARD_KERNEL(row##_rms, aligned, chunks, kRms, true, T) \
  AITER_NORM_BACKWARD_KERNEL(row##_layer, aligned, chunks, kLayer, true, T)
#define AITER_NORM_BACKWARD_DX(row, aligned, chunks, T)                     \
  AITER_NORM_BACKWARD_KERNEL(row##_rms_dx, aligned, chunks, kRms, false, T) \
  AITER_NORM_BACKWARD_KERNEL(row##_layer_dx, aligned, chunks, kLayer, false, T)
#define AITER_NORM_BACKWARD_SUM(W)                                                 \
  AITER_KERNEL(norm_backward_hip_sum_##W, 1024)(const aiter::NormBackwardArgs a) { \
    aiter::wait_for_previous_kernel();                                             \
    aiter::norm_backward_sum<aiter::W>(a);                                         \
  }
