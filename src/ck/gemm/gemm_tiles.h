// y = x w^T + bias on NVIDIA's tensor cores: a block makes kM x kN of y, from tiles of x and w that
// stream through shared memory ahead of their use.
#pragma once

#include "ck/core/mma_nvidia.h"
#include "ck/core/pack.h"

#if !defined(AITER_AMD)
namespace aiter {

// The tile of y, the warps along its sides, and the tiles of k that are in shared memory.
template <int kM_, int kN_, int kWarpsM_, int kWarpsN_, int kStages_>
struct GemmTile {
  static constexpr int kM = kM_, kN = kN_, kWarpsM = kWarpsM_, kWarpsN = kWarpsN_;
  static constexpr int kStages = kStages_;
  static constexpr int kThreads = kWarpsM * kWarpsN * kWave;
  static constexpr int kK = 64, kRowBytes = 2 * kK, kChunks = kRowBytes / 16;
  static constexpr int kStageBytes = (kM + kN) * kRowBytes, kSharedBytes = kStages * kStageBytes;
};

// Rows of 128 bytes; swapping chunks by row keeps ldmatrix free of bank conflicts.
AITER_DEVICE uint32_t swizzle128(int row, int chunk) {
  return static_cast<uint32_t>(row * 128 + ((chunk ^ (row & 7)) << 4));
}

template <class T, class Tile, class Args>
AITER_DEVICE void gemm_tiles(const Args& a, char* shared) {
  constexpr int kWarpM = Tile::kM / Tile::kWarpsM, kWarpN = Tile::kN / Tile::kWarpsN;
  constexpr int kMs = kWarpM / 16, kNs = kWarpN / 8;
  static_assert(kNs % 2 == 0);
  const int warp = thread_index() / kWave, lane = thread_index() % kWave;
  const int warp_m = warp % Tile::kWarpsM * kWarpM, warp_n = warp / Tile::kWarpsM * kWarpN;
  // Blocks that follow each other share w's rows.
  const int row_tiles = static_cast<int>((a.x_rows.count + Tile::kM - 1) / Tile::kM);
  const int64_t m = static_cast<int64_t>(block_index_x() % row_tiles) * Tile::kM;
  const int64_t n = static_cast<int64_t>(block_index_x() / row_tiles) * Tile::kN;
  const uint32_t stages = shared_address(shared);

  // This thread's chunks of a stage: always the same column of 16 bytes, kRowStep rows apart.
  constexpr int kRowStep = Tile::kThreads / Tile::kChunks;
  constexpr int kXs = Tile::kM / kRowStep, kWs = Tile::kN / kRowStep;
  static_assert(kXs * kRowStep == Tile::kM && kWs * kRowStep == Tile::kN);
  const int chunk = thread_index() % Tile::kChunks, first_row = thread_index() / Tile::kChunks;
  const T *x[kXs], *w = static_cast<const T*>(a.w) + (n + first_row) * a.w_stride + chunk * 8;
  AITER_UNROLL
  for (int i = 0; i < kXs; ++i)
    x[i] = static_cast<const T*>(a.x) + chunk * 8 +
           a.x_rows.offset(min<int64_t>(m + first_row + i * kRowStep, a.x_rows.count - 1));
  auto load = [&] AITER_LAMBDA(int64_t step) {
    const uint32_t to = stages + static_cast<uint32_t>(step % Tile::kStages) * Tile::kStageBytes;
    const int64_t k = step * Tile::kK;
    const bool in_k = k + chunk * 8 < a.k;
    AITER_UNROLL
    for (int i = 0; i < kXs; ++i)
      copy_async16(to + swizzle128(first_row + i * kRowStep, chunk), x[i] + k,
                   in_k && m + first_row + i * kRowStep < a.x_rows.count);
    AITER_UNROLL
    for (int i = 0; i < kWs; ++i)
      copy_async16(to + swizzle128(Tile::kM + first_row + i * kRowStep, chunk),
                   w + i * kRowStep * a.w_stride + k, in_k && n + first_row + i * kRowStep < a.n);
  };

  float c[kMs][kNs][4] = {};
  const int64_t steps = (a.k + Tile::kK - 1) / Tile::kK;
  AITER_UNROLL
  for (int s = 0; s < Tile::kStages - 1; ++s) {
    if (s < steps) load(s);
    copy_async_commit();
  }
  AITER_NO_UNROLL
  for (int64_t step = 0; step < steps; ++step) {
    copy_async_wait<Tile::kStages - 2>();
    barrier();  // the tile has come, and nobody reads the one that is overwritten next
    if (step + Tile::kStages - 1 < steps) load(step + Tile::kStages - 1);
    copy_async_commit();
    const uint32_t from = stages + static_cast<uint32_t>(step % Tile::kStages) * Tile::kStageBytes;
    AITER_UNROLL
    for (int k = 0; k < Tile::kK / 16; ++k) {
      uint32_t left[kMs][4], right[kNs / 2][4];
      AITER_UNROLL
      for (int i = 0; i < kMs; ++i)
        load_matrices(from + swizzle128(warp_m + i * 16 + lane % 16, k * 2 + lane / 16), left[i]);
      AITER_UNROLL
      for (int j = 0; j < kNs / 2; ++j)
        load_matrices(from + swizzle128(Tile::kM + warp_n + j * 16 + lane % 8 + lane / 16 * 8,
                                        k * 2 + lane / 8 % 2),
                      right[j]);
      AITER_UNROLL
      for (int i = 0; i < kMs; ++i) AITER_UNROLL
      for (int j = 0; j < kNs; ++j)
        mma_16x8x16<T>(c[i][j], left[i], right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]);
    }
  }
  copy_async_wait<0>();

  AITER_UNROLL
  for (int i = 0; i < kMs; ++i) AITER_UNROLL
  for (int h = 0; h < 2; ++h) {
    const int64_t row = m + warp_m + i * 16 + h * 8 + lane / 4;
    if (row >= a.x_rows.count) continue;
    const int64_t y = a.y_rows.offset(row);
    AITER_UNROLL
    for (int j = 0; j < kNs; ++j) AITER_UNROLL
    for (int e = 0; e < 2; ++e) {
      const int64_t column = n + warp_n + j * 8 + lane % 4 * 2 + e;
      if (column >= a.n) continue;
      float sum = c[i][j][2 * h + e];
      if (a.bias) sum += load_float(a.bias, column, a.bias_dtype);
      store_float(a.y, y + column, a.y_dtype, sum);
    }
  }
}

}  // namespace aiter
#endif
