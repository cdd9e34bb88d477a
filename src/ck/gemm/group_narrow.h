// gemm_narrow.h for weights of 4 or 8 bits in groups of 32 along k. Rows of codes stream through
// shared memory, 128 bytes at a time, for each warp on its own. The codes of a group become floats by
// bit operations alone, the matrix instruction sums them up without scale, and the sum is scaled.
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

// The two 16-bit floats of a word.
AITER_DEVICE void unpack2(uint32_t word, DType dtype, float (&to)[2]) {
  if (dtype == DType::kF16)
    unpack2<f16>(word, to[0], to[1]);
  else
    unpack2<bf16>(word, to[0], to[1]);
}

// kTiles: of 8 rows of x. A warp makes kNarrowColumns columns of y over its part of k, in spans of
// 128 bytes of each row's codes. Scales are of 16 bits, and groups come in pairs.
template <int kBits, class T, int kTiles>
struct GroupNarrow {
  using Shape = GroupNarrowShape<kBits>;
  static constexpr int kRows = kTiles * 8, kBlocks = kNarrowColumns / 16;
  static constexpr int kSpan = Shape::kSpan, kStages = Shape::kStages;

  const GroupGemmArgs& a;
  const GroupWeight& w;
  const int warp, lane, quarter, warps, groups;
  const int64_t n, m;
  uint32_t stages;
  const T* x[kTiles];
  float y[kBlocks][kTiles][4];

  AITER_DEVICE GroupNarrow(const GroupGemmArgs& args, char* shared)
      : a(args),
        w(args.w),
        warp(thread_index() / kWave),
        lane(thread_index() % kWave),
        quarter(lane % 4),
        warps(block_threads() / kWave),
        groups(static_cast<int>(args.w.k / kGroup)),
        n(static_cast<int64_t>(block_index_x()) * kNarrowColumns),
        m(static_cast<int64_t>(block_index_y()) * kRows),
        stages(shared_address(shared) + warp * kStages * Shape::kStageBytes),
        y{} {
    AITER_UNROLL
    for (int t = 0; t < kTiles; ++t)
      x[t] = static_cast<const T*>(a.x) + quarter * 8 +
             a.x_rows.offset(min<int64_t>(m + t * 8 + lane / 4, a.x_rows.count - 1));
  }

  AITER_DEVICE int64_t column(int row) const { return min<int64_t>(n + row, w.n - 1); }

  // Starts the copy of groups [first, first + kSpan) of all columns; zeros beyond the last one.
  AITER_DEVICE void load(int stage, int first) const {
    const uint32_t to = stages + stage * Shape::kStageBytes;
    constexpr int kGroupBytes = kGroup * kBits / 8;
    AITER_UNROLL
    for (int i = 0; i < kNarrowColumns / 4; ++i) {
      const int row = lane / 8 + 4 * i, byte = lane % 8 * 16;
      copy_async16(
          to + row * Shape::kPitch + byte,
          w.codes + column(row) * w.codes_stride + static_cast<int64_t>(first) * kGroupBytes + byte,
          first + byte / kGroupBytes < groups);
    }
    constexpr int kPairs = kSpan / 2;  // of scales, in a word each
    AITER_UNROLL
    for (int i = 0; i < kNarrowColumns * kPairs / kWave; ++i) {
      const int row = (i * kWave + lane) / kPairs, pair = lane % kPairs;
      const bool valid = first + 2 * pair < groups;
      auto copy = [&] AITER_LAMBDA(uint32_t at, const void* from, int64_t stride) {
        copy_async4(to + at + (row * kPairs + pair) * 4,
                    static_cast<const uint16_t*>(from) + column(row) * stride + first + 2 * pair,
                    valid);
      };
      copy(Shape::kScales, w.scale, w.scale_stride);
      if (kBits == 4 && w.min) copy(Shape::kMins, w.min, w.min_stride);
    }
  }

  AITER_DEVICE void load_x(int group, Words4 (&to)[kTiles]) const {
    const int64_t k = static_cast<int64_t>(min(group, groups - 1)) * kGroup;
    AITER_UNROLL
    for (int t = 0; t < kTiles; ++t) to[t] = *reinterpret_cast<const Words4*>(x[t] + k);
  }

  // Adds x (16 + c) for the 16 rows of w of block j, whose words of codes are u and v.
  AITER_DEVICE static void sum4(float (&c)[4], uint32_t u, uint32_t v, const uint32_t (&b)[4]) {
    mma_16x8x16<T>(c,
                   {nibble_floats<T>(u, 0), nibble_floats<T>(v, 0), nibble_floats<T>(u, 1),
                    nibble_floats<T>(v, 1)},
                   b[0], b[1]);
    mma_16x8x16<T>(c,
                   {nibble_floats<T>(u, 2), nibble_floats<T>(v, 2), nibble_floats<T>(u, 3),
                    nibble_floats<T>(v, 3)},
                   b[2], b[3]);
  }
  // The same for word k of 8-bit codes: their lower nibbles into c, the upper ones into high.
  AITER_DEVICE static void sum8(float (&c)[4], float (&high)[4], uint32_t u, uint32_t v,
                                uint32_t b0, uint32_t b1) {
    u ^= 0x80808080u, v ^= 0x80808080u;
    mma_16x8x16<T>(c,
                   {nibble_floats<T>(u, 0), nibble_floats<T>(v, 0), nibble_floats<T>(u, 2),
                    nibble_floats<T>(v, 2)},
                   b0, b1);
    mma_16x8x16<T>(high,
                   {nibble_floats<T>(u, 1), nibble_floats<T>(v, 1), nibble_floats<T>(u, 3),
                    nibble_floats<T>(v, 3)},
                   b0, b1);
  }

  // Group g of a span whose stage begins at `from`; scale and least are those of its columns.
  AITER_DEVICE void add_group(const char* from, int g, const Words4 (&right)[kTiles],
                              const float (&scale)[2 * kBlocks],
                              const float (&least)[2 * kBlocks]) {
    using Codes = typename WordsOf<kBits>::Type;  // 8 codes of a lane
    constexpr int kWords = kBits / 4;
    uint32_t codes[2 * kBlocks][kWords];
    AITER_UNROLL
    for (int h = 0; h < 2 * kBlocks; ++h) {
      const Codes words = *reinterpret_cast<const Codes*>(
          from + (lane / 4 + 8 * h) * Shape::kPitch + (g * 4 + quarter) * kBits);
      __builtin_memcpy(codes[h], &words, sizeof(words));
    }
    AITER_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      // x in the order in which the nibbles come out of a word.
      const Words4& p = right[t];
      const uint32_t q1 = kBits == 4 ? p.z : p.y, q2 = kBits == 4 ? p.y : p.z;
      const uint32_t b[4] = {lower_halves(p.x, q1), upper_halves(p.x, q1), lower_halves(q2, p.w),
                             upper_halves(q2, p.w)};
      constexpr uint32_t kOne = NibbleFloat<T>::kOne;
      float ones[4] = {};
      mma_16x8x16<T>(ones, {kOne, kOne, kOne, kOne}, b[0], b[1]);
      mma_16x8x16<T>(ones, {kOne, kOne, kOne, kOne}, b[2], b[3]);
      AITER_UNROLL
      for (int j = 0; j < kBlocks; ++j) {
        float c[4] = {};
        if constexpr (kBits == 4) {
          sum4(c, codes[2 * j][0], codes[2 * j + 1][0], b);
          AITER_UNROLL
          for (int e = 0; e < 4; ++e) c[e] = fma(ones[e], -16.0f, c[e]);
        } else {
          float high[4] = {};
          AITER_UNROLL
          for (int k = 0; k < 2; ++k)
            sum8(c, high, codes[2 * j][k], codes[2 * j + 1][k], b[2 * k], b[2 * k + 1]);
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

  AITER_DEVICE void run(char* shared) {
    const int step = warps * kSpan;
    int first = warp * kSpan;
    AITER_UNROLL
    for (int s = 0; s < kStages - 1; ++s) {
      load(s, first + s * step);
      copy_async_commit();
    }
    Words4 right[kTiles], next[kTiles];
    load_x(first, right);
    int stage = 0;
    AITER_NO_UNROLL
    for (; first < groups; first += step) {
      load((stage + kStages - 1) % kStages, first + (kStages - 1) * step);
      copy_async_commit();
      copy_async_wait<kStages - 1>();
      wave_barrier();
      const char* from = shared + (warp * kStages + stage) * Shape::kStageBytes;
      AITER_UNROLL
      for (int pair = 0; pair < kSpan / 2; ++pair) {
        if (first + 2 * pair >= groups) break;
        float scale[2][2 * kBlocks], least[2][2 * kBlocks];
        AITER_UNROLL
        for (int h = 0; h < 2 * kBlocks; ++h) {
          float both[2];
          const int at = ((lane / 4 + 8 * h) * (kSpan / 2) + pair) * 4;
          unpack2(*reinterpret_cast<const uint32_t*>(from + Shape::kScales + at), w.scale_dtype,
                  both);
          scale[0][h] = both[0], scale[1][h] = both[1];
          both[0] = both[1] = 0;
          if (kBits == 4 && w.min)
            unpack2(*reinterpret_cast<const uint32_t*>(from + Shape::kMins + at), w.scale_dtype,
                    both);
          least[0][h] = both[0], least[1][h] = both[1];
        }
        AITER_UNROLL
        for (int i = 0; i < 2; ++i) {
          const int g = 2 * pair + i;
          load_x(g + 1 < kSpan ? first + g + 1 : first + step, next);
          add_group(from, g, right, scale[i], least[i]);
          AITER_UNROLL
          for (int t = 0; t < kTiles; ++t) right[t] = next[t];
        }
      }
      wave_barrier();  // before the next copies overwrite this stage
      stage = (stage + 1) % kStages;
    }
    copy_async_wait<0>();
    barrier();
    finish(reinterpret_cast<float*>(shared));
  }

  // The warps' sums, [warp][kRows][kNarrowColumns], to results.
  AITER_DEVICE void finish(float* sums) const {
    AITER_UNROLL
    for (int j = 0; j < kBlocks; ++j) AITER_UNROLL
    for (int t = 0; t < kTiles; ++t) AITER_UNROLL
    for (int e = 0; e < 4; ++e)
      sums[(warp * kRows + t * 8 + quarter * 2 + e % 2) * kNarrowColumns + j * 16 + lane / 4 +
           e / 2 * 8] = y[j][t][e];
    barrier();
    for (int i = thread_index(); i < kRows * kNarrowColumns; i += block_threads()) {
      const int64_t row = m + i / kNarrowColumns, column = n + i % kNarrowColumns;
      if (row >= a.x_rows.count || column >= w.n) continue;
      float sum = 0;
      for (int j = 0; j < warps; ++j) sum += sums[j * kRows * kNarrowColumns + i];
      if (a.bias) sum += load_float(a.bias, column, a.bias_dtype);
      store_float(a.y, a.y_rows.offset(row) + column, a.y_dtype, sum);
    }
  }
};

}  // namespace aiter
#endif
