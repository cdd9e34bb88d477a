// The stages of the transform in registers, four at a time on sixteen elements of a thread, between
// which threads exchange them through shared memory; or, for whatever the contract allows, all in
// shared memory, one after the other.
#include "ck/quant/quantize.h"
#include "ops/quant/rotate_activation/rotate_activation_args.h"

namespace aiter {

AITER_DEVICE int cols_log2(int cols) { return 31 - __builtin_clz(static_cast<uint32_t>(cols)); }

// Rows of 16 columns and more. A thread first has 16 neighbours, then elements 16 apart, and so on; at
// last neighbours again.
template <class T>
AITER_DEVICE void rotate_rows(const RotateActivationArgs& a) {
  constexpr int N = RotateActivationArgs::kColumns;
  static_assert(N == 16);
  AITER_DYNAMIC_SHARED(shared);
  AITER_SHARED float scratch[1024 / kWave];
  const QuantOut& q = a.out;
  const int threads = a.threads_per_row, cols = static_cast<int>(a.cols);
  const int t = thread_index() & (threads - 1), rows_per_block = block_threads() / threads;
  // A gap after every 16 elements: lanes then meet in no bank.
  float* row = reinterpret_cast<float*>(shared) + thread_index() / threads * (cols + cols / 16);
  // The first of a thread's elements that are 2^shift apart, and how far the k-th is from it.
  auto first = [&](int shift) {
    const int i = (t & ((1 << shift) - 1)) | (t >> shift) << (shift + 4);
    return row + i + (i >> 4);
  };
  auto distance = [](int k, int shift) {
    return (k << shift) + (shift < 4 ? k >> (4 - shift) : k << (shift - 4));
  };
  const int64_t step = static_cast<int64_t>(grid_blocks()) * rows_per_block;
  for (int64_t base = static_cast<int64_t>(block_index_x()) * rows_per_block; base < a.x_rows.count;
       base += step) {
    const int64_t mine = base + thread_index() / threads;
    const bool there = mine < a.x_rows.count;  // those without a row repeat the last one
    const int64_t r = there ? mine : a.x_rows.count - 1;
    const int column = t * N;
    float v[N];
    Packs<T, N> x;
    x.load(static_cast<const T*>(a.x) + a.x_rows.offset(r), column, cols);
    x.to_floats(v);
    int shift = 0, done = 0;  // done: stages
    while (true) {
      AITER_UNROLL
      for (int stage = 0; stage < 4; ++stage) {
        if (shift + stage < done) continue;
        AITER_UNROLL
        for (int k = 0; k < N; ++k) {
          if (k >> stage & 1) continue;
          const float sum = v[k] + v[k + (1 << stage)];
          v[k + (1 << stage)] = v[k] - v[k + (1 << stage)];
          v[k] = sum;
        }
      }
      done = shift + 4;
      const bool last = 1 << done == cols;
      if (last && done == 4) break;
      // Threads write where they have read, so that one barrier is enough.
      float* at = first(shift);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) at[distance(k, shift)] = v[k];
      barrier();
      shift = last ? 0 : 16 << done <= cols ? done : cols_log2(cols) - 4;
      at = first(shift);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] = at[distance(k, shift)];
      if (last) break;
    }
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] *= a.scale;
    if (q.codes) {
      float amax = 0;
      if (needs_row_amax(q)) amax = row_reduce<Max>(max_magnitude(0.0f, v), threads, scratch);
      RowQuantizer<N>(q, r, amax, t == 0, there).store(column, v);
    } else if (there) {
      const int64_t to = a.y_rows.offset(r);
      if (a.y_dtype == DType::kF32)
        Packs<f32, N>::from_floats(v).store(static_cast<f32*>(a.y) + to, column, cols);
      else if (a.y_dtype == DType::kF16)
        Packs<f16, N>::from_floats(v).store(static_cast<f16*>(a.y) + to, column, cols);
      else
        Packs<bf16, N>::from_floats(v).store(static_cast<bf16*>(a.y) + to, column, cols);
    }
  }
}

template <class T>
AITER_DEVICE void rotate_activation(const RotateActivationArgs& a) {
  constexpr int N = 4;
  AITER_DYNAMIC_SHARED(shared);
  AITER_SHARED float scratch[1024 / kWave];
  float* row = reinterpret_cast<float*>(shared);
  const QuantOut& q = a.out;
  const int threads = block_threads(), t = thread_index(), cols = static_cast<int>(a.cols);
  for (int64_t r = block_index_x(); r < a.x_rows.count; r += grid_blocks()) {
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    for (int i = t; i < cols; i += threads) row[i] = to_float(x[i]);
    barrier();
    for (int h = 1; h < cols; h *= 2) {
      for (int k = t; k < cols / 2; k += threads) {
        const int i = (k & (h - 1)) + (k & -h) * 2;
        const float u = row[i], v = row[i + h];
        row[i] = u + v;
        row[i + h] = u - v;
      }
      barrier();
    }
    if (!q.codes) {
      for (int i = t; i < cols; i += threads)
        store_float(a.y, a.y_rows.offset(r) + i, a.y_dtype, row[i] * a.scale);
    } else {
      auto values = [&](int column, float (&v)[N]) {
        AITER_UNROLL
        for (int k = 0; k < N; ++k) v[k] = column + k < cols ? row[column + k] * a.scale : 0.0f;
      };
      float v[N], amax = 0;
      if (needs_row_amax(q)) {
        for (int i = t * N; i < cols; i += threads * N) {
          values(i, v);
          amax = max_magnitude(amax, v);
        }
        amax = row_reduce<Max>(amax, threads, scratch);
      }
      const RowQuantizer<N> quantizer(q, r, amax, t == 0);
      for (int start = 0; start < cols; start += threads * N) {
        values(start + t * N, v);
        quantizer.store(start + t * N, v);
      }
    }
    barrier();  // before the next row overwrites this one
  }
}

}  // namespace aiter

#define AITER_ROTATE_ACTIVATION(T)                                                        \
  AITER_KERNEL(rotate_activation_hip_vec_##T, 512)(const aiter::RotateActivationArgs a) { \
    aiter::rotate_rows<aiter::T>(a);                                                      \
  }                                                                                       \
  AITER_KERNEL(rotate_activation_hip_any_##T, 512)(const aiter::RotateActivationArgs a) { \
    aiter::rotate_activation<aiter::T>(a);                                                \
  }
AITER_ROTATE_ACTIVATION(f32)
AITER_ROTATE_ACTIVATION(f16)
AITER_ROTATE_ACTIVATION(bf16)
