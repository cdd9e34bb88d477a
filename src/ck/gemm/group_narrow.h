// gemm_narrow.h for weights of 4 or 8 bits in groups of 32 along k. A step of a warp is one group:
// its codes become floats by bit operations alone, the matrix instruction sums them up without
// scale, and the sum is scaled.
//
// A nibble c in the upper mantissa of a float between 16 and 32 makes it 16 + c, so what is summed up
// is x (16 + c); 16 times the sum of x, which a product with ones gives, is taken off again. Codes of
// 8 bits are two nibbles.
#pragma once

#include "ck/core/mma_nvidia.h"
#include "ck/core/pack.h"
#include "ops/gemm/group_gemm.h"

#if !defined(AITER_AMD)
namespace aiter {

// In both halves of a word: 16 and 1 as floats of T, and where the nibble that is added to 16 lies.
template <class T>
struct NibbleFloat;
template <>
struct NibbleFloat<bf16> {
  static constexpr uint32_t kSixteen = 0x41804180, kOne = 0x3f803f80;
  static constexpr int kShift = 3;
};
template <>
struct NibbleFloat<f16> {
  static constexpr uint32_t kSixteen = 0x4c004c00, kOne = 0x3c003c00;
  static constexpr int kShift = 6;
};

// 16 + the nibbles i and i + 4 of a word.
template <class T>
AITER_DEVICE uint32_t nibble_floats(uint32_t word, int i) {
  using F = NibbleFloat<T>;
  const int right = 4 * i - F::kShift;
  const uint32_t moved = right >= 0 ? word >> right : word << -right;
  return (moved & 0x000f000fu << F::kShift) | F::kSixteen;
}

// The lower halves of a and b, or the upper ones.
AITER_DEVICE uint32_t lower_halves(uint32_t a, uint32_t b) { return (a & 0xffffu) | b << 16; }
AITER_DEVICE uint32_t upper_halves(uint32_t a, uint32_t b) { return a >> 16 | (b & 0xffff0000u); }

AITER_DEVICE float float_of(uint32_t bits, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return bit_cast<float>(bits);
    case DType::kF16:
      return to_float(f16{static_cast<uint16_t>(bits)});
    default:
      return to_float(bf16{static_cast<uint16_t>(bits)});
  }
}

// kTiles: of 8 rows of x; a block makes kNarrowColumns columns of y. Dynamic shared memory:
// block_threads() * kTiles * 32 bytes.
template <int kBits, class T, int kTiles>
AITER_DEVICE void group_narrow(const GroupGemmArgs& a, char* shared) {
  constexpr int kBlocks = kNarrowColumns / 16;  // of 16 rows of w
  constexpr int kUnroll = kTiles == 1 ? 4 : 1, kRows = kTiles * 8, kWords = kBits / 4;
  using Codes = typename WordsOf<4 * kWords>::Type;
  struct Row {
    const uint8_t* codes;
    int64_t scale, min;  // offsets of the row's first
  };
  struct Group {
    uint32_t words[kWords];
    uint32_t scale, min;  // as they lie in memory
  };
  const GroupWeight& w = a.w;
  float* sums = reinterpret_cast<float*>(shared);  // [warp][kRows][kNarrowColumns]
  const int warp = thread_index() / kWave, lane = thread_index() % kWave;
  const int warps = block_threads() / kWave, quarter = lane % 4;
  const int64_t n = static_cast<int64_t>(block_index_x()) * kNarrowColumns;
  const int64_t m = static_cast<int64_t>(block_index_y()) * kRows;
  const int groups = static_cast<int>(w.k / kGroup);
  Row row[2 * kBlocks];
  AITER_UNROLL
  for (int h = 0; h < 2 * kBlocks; ++h) {
    const int64_t i = min<int64_t>(n + lane / 4 + 8 * h, w.n - 1);
    row[h] = {w.codes + i * w.codes_stride + quarter * 4 * kWords, i * w.scale_stride,
              i * w.min_stride};
  }
  const T* x[kTiles];
  AITER_UNROLL
  for (int t = 0; t < kTiles; ++t)
    x[t] = static_cast<const T*>(a.x) + quarter * 8 +
           a.x_rows.offset(min<int64_t>(m + t * 8 + lane / 4, a.x_rows.count - 1));

  float y[kBlocks][kTiles][4] = {};
  AITER_NO_UNROLL
  for (int base = warp * kUnroll; base < groups; base += warps * kUnroll) {
    Group group[kUnroll][2 * kBlocks];
    Words4 right[kUnroll][kTiles];
    AITER_UNROLL
    for (int i = 0; i < kUnroll; ++i) {
      const int g = min(base + i, groups - 1);
      AITER_UNROLL
      for (int h = 0; h < 2 * kBlocks; ++h) {
        Group& to = group[i][h];
        const Codes codes =
            *reinterpret_cast<const Codes*>(row[h].codes + static_cast<int64_t>(g) * 16 * kWords);
        __builtin_memcpy(to.words, &codes, sizeof(codes));
        to.min = 0;
      }
      // Nothing is converted before all loads are under way.
      auto load_scales = [&] AITER_LAMBDA(auto bits) {
        using Bits = decltype(bits);
        AITER_UNROLL
        for (int h = 0; h < 2 * kBlocks; ++h) {
          group[i][h].scale = static_cast<const Bits*>(w.scale)[row[h].scale + g];
          if (kBits == 4 && w.min)
            group[i][h].min = static_cast<const Bits*>(w.min)[row[h].min + g];
        }
      };
      if (w.scale_dtype == DType::kF32)
        load_scales(uint32_t{});
      else
        load_scales(uint16_t{});
      AITER_UNROLL
      for (int t = 0; t < kTiles; ++t)
        right[i][t] = *reinterpret_cast<const Words4*>(x[t] + static_cast<int64_t>(g) * kGroup);
    }
    AITER_UNROLL
    for (int i = 0; i < kUnroll; ++i) {
      if (base + i >= groups) break;
      float scale[2 * kBlocks], least[2 * kBlocks];
      AITER_UNROLL
      for (int h = 0; h < 2 * kBlocks; ++h) {
        scale[h] = float_of(group[i][h].scale, w.scale_dtype);
        least[h] = float_of(group[i][h].min, w.scale_dtype);
      }
      AITER_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        // x in the order in which the nibbles come out of a word.
        const Words4& p = right[i][t];
        const uint32_t q1 = kBits == 4 ? p.z : p.y, q2 = kBits == 4 ? p.y : p.z;
        const uint32_t b[4] = {lower_halves(p.x, q1), upper_halves(p.x, q1), lower_halves(q2, p.w),
                               upper_halves(q2, p.w)};
        constexpr uint32_t kOne = NibbleFloat<T>::kOne;
        float ones[4] = {};
        mma_16x8x16<T>(ones, {kOne, kOne, kOne, kOne}, b[0], b[1]);
        mma_16x8x16<T>(ones, {kOne, kOne, kOne, kOne}, b[2], b[3]);
        AITER_UNROLL
        for (int j = 0; j < kBlocks; ++j) {
          const Group &top = group[i][2 * j], &bottom = group[i][2 * j + 1];
          float c[4] = {};
          if constexpr (kBits == 4) {
            const uint32_t u = top.words[0], v = bottom.words[0];
            mma_16x8x16<T>(c,
                           {nibble_floats<T>(u, 0), nibble_floats<T>(v, 0), nibble_floats<T>(u, 1),
                            nibble_floats<T>(v, 1)},
                           b[0], b[1]);
            mma_16x8x16<T>(c,
                           {nibble_floats<T>(u, 2), nibble_floats<T>(v, 2), nibble_floats<T>(u, 3),
                            nibble_floats<T>(v, 3)},
                           b[2], b[3]);
            AITER_UNROLL
            for (int e = 0; e < 4; ++e) c[e] = fma(ones[e], -16.0f, c[e]);
          } else {
            float high[4] = {};
            AITER_UNROLL
            for (int k = 0; k < 2; ++k) {
              const uint32_t u = top.words[k] ^ 0x80808080u, v = bottom.words[k] ^ 0x80808080u;
              mma_16x8x16<T>(c,
                             {nibble_floats<T>(u, 0), nibble_floats<T>(v, 0),
                              nibble_floats<T>(u, 2), nibble_floats<T>(v, 2)},
                             b[2 * k], b[2 * k + 1]);
              mma_16x8x16<T>(high,
                             {nibble_floats<T>(u, 1), nibble_floats<T>(v, 1),
                              nibble_floats<T>(u, 3), nibble_floats<T>(v, 3)},
                             b[2 * k], b[2 * k + 1]);
            }
            // 16 (high - 16) + (low - 16) - 128 for each x
            AITER_UNROLL
            for (int e = 0; e < 4; ++e) c[e] = fma(ones[e], -400.0f, fma(high[e], 16.0f, c[e]));
          }
          AITER_UNROLL
          for (int e = 0; e < 4; ++e) {
            y[j][t][e] = fma(c[e], scale[2 * j + e / 2], y[j][t][e]);
            if (kBits == 4) y[j][t][e] = fma(ones[e], least[2 * j + e / 2], y[j][t][e]);
          }
        }
      }
    }
  }
  AITER_UNROLL
  for (int j = 0; j < kBlocks; ++j) AITER_UNROLL
  for (int t = 0; t < kTiles; ++t) AITER_UNROLL
  for (int e = 0; e < 4; ++e)
    sums[(warp * kRows + t * 8 + quarter * 2 + e % 2) * kNarrowColumns + j * 16 + lane / 4 +
         e / 2 * 8] = y[j][t][e];
  barrier();
  for (int i = thread_index(); i < kRows * kNarrowColumns; i += block_threads()) {
    const int64_t to_row = m + i / kNarrowColumns, column = n + i % kNarrowColumns;
    if (to_row >= a.x_rows.count || column >= w.n) continue;
    float sum = 0;
    for (int j = 0; j < warps; ++j) sum += sums[j * kRows * kNarrowColumns + i];
    if (a.bias) sum += load_float(a.bias, column, a.bias_dtype);
    store_float(a.y, a.y_rows.offset(to_row) + column, a.y_dtype, sum);
  }
}

}  // namespace aiter
#endif
