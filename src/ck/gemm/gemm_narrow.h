// y = x w^T + bias on NVIDIA's tensor cores for few rows of x, where reading w is all the work: rows of
// w are the rows of the matrix instruction, rows of x its columns.
//
// A block makes 16 columns of y; its warps share out k, and their sums meet in shared memory. Which
// elements of k a lane holds is of no matter to a sum, as long as x and w agree: each lane loads 16
// bytes of a row at a time, straight into the registers of the instruction.
#pragma once

#include "ck/core/mma_nvidia.h"
#include "ck/core/pack.h"

#if !defined(AITER_AMD)
namespace aiter {

// kTiles: of 8 rows of x each. Dynamic shared memory: block_threads() * kTiles * 16 bytes.
template <class T, int kTiles, class Args>
AITER_DEVICE void gemm_narrow(const Args& a, char* shared) {
  constexpr int kStep = 32, kUnroll = 2, kColumns = 16, kRows = kTiles * 8;
  float* sums = reinterpret_cast<float*>(shared);  // [warp][kRows][kColumns]
  const int warp = thread_index() / kWave, lane = thread_index() % kWave;
  const int warps = block_threads() / kWave;
  const int64_t n = static_cast<int64_t>(block_index_x()) * kColumns;
  const int64_t m = static_cast<int64_t>(block_index_y()) * kRows;
  const T *w[2], *x[kTiles];
  AITER_UNROLL
  for (int h = 0; h < 2; ++h)
    w[h] = static_cast<const T*>(a.w) + min<int64_t>(n + lane / 4 + 8 * h, a.n - 1) * a.w_stride;
  AITER_UNROLL
  for (int t = 0; t < kTiles; ++t)
    x[t] = static_cast<const T*>(a.x) +
           a.x_rows.offset(min<int64_t>(m + t * 8 + lane / 4, a.x_rows.count - 1));

  float c[kTiles][4] = {};
  AITER_NO_UNROLL
  for (int64_t base = warp * kUnroll * kStep; base < a.k; base += warps * kUnroll * kStep) {
    Words4 left[kUnroll][2], right[kUnroll][kTiles];
    AITER_UNROLL
    for (int i = 0; i < kUnroll; ++i) {
      const int64_t k = base + i * kStep + lane % 4 * 8;
      const bool valid = k < a.k;
      AITER_UNROLL
      for (int h = 0; h < 2; ++h)
        left[i][h] = valid ? *reinterpret_cast<const Words4*>(w[h] + k) : Words4{};
      AITER_UNROLL
      for (int t = 0; t < kTiles; ++t)
        right[i][t] = valid ? *reinterpret_cast<const Words4*>(x[t] + k) : Words4{};
    }
    AITER_UNROLL
    for (int i = 0; i < kUnroll; ++i) {
      const Words4 &p = left[i][0], &q = left[i][1];
      AITER_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        const Words4& b = right[i][t];
        mma_16x8x16<T>(c[t], {p.x, q.x, p.y, q.y}, b.x, b.y);
        mma_16x8x16<T>(c[t], {p.z, q.z, p.w, q.w}, b.z, b.w);
      }
    }
  }
  AITER_UNROLL
  for (int t = 0; t < kTiles; ++t) AITER_UNROLL
  for (int i = 0; i < 4; ++i)
    sums[(warp * kRows + t * 8 + lane % 4 * 2 + i % 2) * kColumns + lane / 4 + i / 2 * 8] = c[t][i];
  barrier();
  for (int i = thread_index(); i < kRows * kColumns; i += block_threads()) {
    const int64_t row = m + i / kColumns, column = n + i % kColumns;
    if (row >= a.x_rows.count || column >= a.n) continue;
    float y = 0;
    for (int j = 0; j < warps; ++j) y += sums[j * kRows * kColumns + i];
    if (a.bias) y += load_float(a.bias, column, a.bias_dtype);
    store_float(a.y, a.y_rows.offset(row) + column, a.y_dtype, y);
  }
}

}  // namespace aiter
#endif
