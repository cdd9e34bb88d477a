// Products with up to kGemvRows (4, as the row of gemm_a16w16 says) rows of x: w is read once, in order, straight from memory.
#pragma once

#include "simd/dense_gemm.h"

namespace aiter::AITER_ISA {

constexpr int kGemvRows = 4;

// c[r * kLanes + i] = x row r * w row i, for R rows of x (floats, zeros behind k) and 4 rows of w.
template <class T, int R>
inline void gemv_tile(const T* w, int64_t w_stride, const float* x, int64_t x_stride, int64_t k,
                      float* c) {
  Vec sum[R][4];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sum[r][i] = zero();
  const T* row[4] = {w, w + w_stride, w + 2 * w_stride, w + 3 * w_stride};
  for_lanes(k, [&](int64_t at, int n) {
    Vec wv[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      __builtin_prefetch(row[i] + at + 4 * w_stride, 0, 3);  // the next four rows
      wv[i] = load_some(row[i] + at, n);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec xv = load(x + r * x_stride + at);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) sum[r][i] = fma(wv[i], xv, sum[r][i]);
    }
  });
  for (int r = 0; r < R; ++r)
    for (int i = 0; i < 4; ++i) c[r * kLanes + i] = reduce_add(sum[r][i]);
}

template <class T>
inline void gemv(const DenseOperands& a, const GemmOutput& out) {
  const int rows = static_cast<int>(a.x_rows.count);
  if (rows == 0 || a.n == 0) return;
  const int64_t x_stride = (a.k + kLanes - 1) / kLanes * kLanes;
  float* const x = reinterpret_cast<float*>(scratch(rows * x_stride * 4));
  for (int r = 0; r < rows; ++r) {
    const T* from = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    for_lanes(a.k, [&](int64_t i, int n) { store(x + r * x_stride + i, load_some(from + i, n)); });
  }

  // Strips of kLanes rows of w; about 64 KiB to a task.
  const int64_t strips = (a.n + kLanes - 1) / kLanes;
  const int64_t bytes = a.n * a.k * static_cast<int64_t>(sizeof(T));
  const int threads = num_threads();
  int64_t tasks = bytes >> 16;
  if (tasks < threads && bytes > (16 << 10)) tasks = threads;
  tasks = tasks < 1 ? 1 : tasks > strips ? strips : tasks;
  parallel_tasks(tasks, [&](int64_t task, int) {
    const int64_t end = strips * (task + 1) / tasks;
    for (int64_t s = strips * task / tasks; s < end; ++s) {
      const int64_t n = s * kLanes;
      const int cols = a.n - n < kLanes ? static_cast<int>(a.n - n) : kLanes;
      float c[kGemvRows * kLanes];
      for (int i = 0; i < cols; i += 4) {
        const T* w = static_cast<const T*>(a.w) + (n + i) * a.w_stride;
        const int left = cols - i;
        if (left >= 4) {
          switch (rows) {
            case 1:
              gemv_tile<T, 1>(w, a.w_stride, x, x_stride, a.k, c + i);
              break;
            case 2:
              gemv_tile<T, 2>(w, a.w_stride, x, x_stride, a.k, c + i);
              break;
            case 3:
              gemv_tile<T, 3>(w, a.w_stride, x, x_stride, a.k, c + i);
              break;
            default:
              gemv_tile<T, 4>(w, a.w_stride, x, x_stride, a.k, c + i);
              break;
          }
          continue;
        }
        // The last rows one by one, each as all four of a tile.
        for (int r = 0; r < rows; ++r)
          for (int j = 0; j < left; ++j) {
            float quad[kLanes];
            gemv_tile<T, 1>(w + j * a.w_stride, 0, x + r * x_stride, x_stride, a.k, quad);
            c[r * kLanes + i + j] = quad[0];
          }
      }
      write_tile(out, 0, rows, n, cols, c, kLanes);
    }
  });
}

}  // namespace aiter::AITER_ISA
