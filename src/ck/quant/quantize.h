// Quantization of a group of numbers: the scale from the largest magnitude, then the codes. The
// arithmetic is that of src/simd/quantize.h, operation by operation, so that codes are the same.
#pragma once

#include "ck/core/reduce.h"
#include "ck/quant/codes.h"
#include "core/quant_spec.h"

namespace aiter {

constexpr float kLargest = 3.4028234663852886e38f;  // what infinity counts as

// The stored scale of a group, and the factor that its numbers are multiplied by.
struct Scale {
  float factor;  // 1 / scale
  float value;   // of an f32 or bf16 scale
  uint8_t code;  // of an e8m0 or e4m3fn scale
};

template <class Codes>
AITER_DEVICE Scale scale_for(float amax, const QuantSpec& spec, const Codes& codes) {
  amax = amax < spec.amax_bound ? amax : spec.amax_bound;
  if (spec.scale == DType::kF8E8M0) {
    const uint32_t code = mx_scale(amax, spec.round, codes.mx());
    return {e8m0_decode(254 - code), 0.0f, static_cast<uint8_t>(code)};
  }
  if (spec.scale == DType::kF8E4M3FN) {
    const float global_scale = spec.whole_global_scale();
    const uint32_t code = E4M3FN::encode(amax / (codes.max() * global_scale));
    const float scale = E4M3FN::decode(code) * global_scale;
    return {scale > 0.0f ? 1.0f / scale : 0.0f, 0.0f, static_cast<uint8_t>(code)};
  }
  float scale = amax / codes.max();
  scale = scale > 1.1754943508222875e-38f ? scale : amax > 0.0f ? 1.1754943508222875e-38f : 1.0f;
  return {1.0f / scale, scale, 0};
}

template <class Codec>
AITER_DEVICE Scale scale_for(float amax, const QuantSpec& spec) {
  return scale_for(amax, spec, Codes<Codec>(spec.code));
}

AITER_DEVICE float load_scale(const QuantOut& q, int64_t index) {
  if (q.spec.scale == DType::kF32) return static_cast<const float*>(q.scale)[index];
  if (q.spec.scale == DType::kBF16) return to_float(static_cast<const bf16*>(q.scale)[index]);
  const uint8_t code = static_cast<const uint8_t*>(q.scale)[index];
  return q.spec.scale == DType::kF8E8M0 ? e8m0_decode(code)
                                        : E4M3FN::decode(code) * q.spec.whole_global_scale();
}

AITER_DEVICE void store_scale(const QuantOut& q, int64_t index, const Scale& s) {
  if (q.spec.scale == DType::kF32)
    static_cast<float*>(q.scale)[index] = s.value;
  else if (q.spec.scale == DType::kBF16)
    static_cast<bf16*>(q.scale)[index] = from_float<bf16>(s.value);
  else
    static_cast<uint8_t*>(q.scale)[index] = s.code;
}

// ---- groups of any shape ------------------------------------------------------------------------
// A group of up to wave_group numbers is worked on by a wave, a larger one by a block: first its
// largest magnitude, then its codes. row_at(row) describes a row: `there`, and what
// number(row_at(row), column) needs.
template <class RowAt, class Number>
AITER_DEVICE void quantize_groups(const QuantOut& q, int64_t rows, int64_t group_rows,
                                  int wave_group, RowAt&& row_at, Number&& number) {
  AITER_SHARED float scratch[1024 / kWave];
  const AnyCodes format(q.spec.code);
  const bool by_wave = group_rows * q.group_cols <= wave_group;
  const int threads = by_wave ? kWave : block_threads();
  const int t = thread_index() % threads, parallel = block_threads() / threads;
  const int64_t groups_of_row = (q.cols + q.group_cols - 1) / q.group_cols;
  const int64_t groups = (rows + group_rows - 1) / group_rows * groups_of_row;
  for (int64_t g = static_cast<int64_t>(block_index_x()) * parallel + thread_index() / threads;
       g < groups; g += static_cast<int64_t>(grid_blocks()) * parallel) {
    const int64_t group_row = g / groups_of_row, group_col = g % groups_of_row;
    const int64_t row = group_row * group_rows, begin = group_col * q.group_cols;
    const int64_t row_end = min<int64_t>(row + group_rows, rows);
    const int64_t end = min<int64_t>(begin + q.group_cols, q.cols);
    const int64_t index = q.scale_index(group_row, group_col);
    if (!row_at(row).there) continue;  // only groups within a row can be passed over
    float factor;
    if (q.static_scale) {
      factor = 1.0f / load_scale(q, index);
    } else {
      float amax = 0;
      for (int64_t r = row; r < row_end; ++r) {
        const auto at = row_at(r);
        for (int64_t c = begin + t; c < end; c += threads)
          amax = fmin(fmax(amax, abs(number(at, c))), kLargest);  // NaN is passed over
      }
      amax = by_wave ? wave_reduce<Max>(amax) : block_reduce<Max>(amax, scratch);
      const Scale scale = scale_for(amax, q.spec, format);
      factor = scale.factor;
      if (t == 0) store_scale(q, index, scale);
    }
    // As many codes of a thread at a time as fill bytes.
    const int bits = format.bits, together = bits == 8 ? 1 : bits == 6 ? 4 : 2;
    for (int64_t r = row; r < row_end; ++r) {
      const auto at = row_at(r);
      uint8_t* to = static_cast<uint8_t*>(q.codes) + q.codes_rows.offset(r);
      for (int64_t c = begin + together * t; c < end; c += together * threads) {
        uint32_t codes = 0;
        for (int k = 0; k < together; ++k)
          codes |= format.encode(number(at, c + k) * factor) << k * bits;
        for (int i = 0; i < together * bits / 8; ++i)
          to[c * bits / 8 + i] = static_cast<uint8_t>(codes >> 8 * i);
      }
    }
  }
}

// The row of this thread, and which of its threads this is. `threads` of a row are a power of two up to
// the wave, or the block, and the grid has a block for each row, or for several (quant_grid): a loop
// over rows would keep in registers what does not change from row to row, and that is much.
AITER_DEVICE int64_t row_of_thread(int threads) {
  const int64_t block = block_index_x() + static_cast<int64_t>(block_index_y()) * grid_blocks();
  if (threads > kWave) return block;
  const int shift = 31 - __builtin_clz(static_cast<uint32_t>(threads));
  return block * (block_threads() >> shift) + (thread_index() >> shift);
}
AITER_DEVICE int thread_of_row(int threads) {
  return threads > kWave ? thread_index() : thread_index() & (threads - 1);
}

// ---- rows in registers --------------------------------------------------------------------------
// For kernels whose `threads` of a row, a power of two up to the wave or a multiple of it, hold N
// neighbouring columns at a time: thread t has those from (c * threads + t) * N on, for c = 0, 1
// ... N is a power of two, and threads * N is at least q.group_cols unless that is the whole row.
// Given scales are of whole rows.
//
//   float amax = 0;
//   if (needs_row_amax(q)) {
//     for (c ...) amax = max_magnitude(amax, v[c]);     // columns that are not there count as 0
//     amax = row_reduce<Max>(amax, threads, scratch);
//   }
//   const RowQuantizer<N> quantizer(q, row, amax, t == 0);
//   for (c ...) quantizer.store((c * threads + t) * N, v[c]);

// Whether one scale for each row is to be computed, so that its largest magnitude must be known
// before the first code.
AITER_DEVICE bool needs_row_amax(const QuantOut& q) {
  return !q.static_scale && q.group_cols >= q.cols;
}

// The larger of amax and |v|; NaN is passed over, infinity counts as the largest float.
template <int N>
AITER_DEVICE float max_magnitude(float amax, const float (&v)[N]) {
  AITER_UNROLL
  for (int k = 0; k < N; ++k) amax = fmax(amax, abs(v[k]));
  return fmin(amax, kLargest);
}

//
// Code is smaller for a kind of codes and a number of groups in a row that are known when the kernel is
// compiled.
enum class RowGroups { kAny, kOne, kMany };

// The kinds that QuantKernels (ops/quant/quantize_checks.h) names: F(T, name, Codes, RowGroups) for each.
#define AITER_QUANT_KINDS(F, T)                                               \
  F(T, one_i8, aiter::Codes<aiter::IntCode<8>>, aiter::RowGroups::kOne)       \
  F(T, one_e4m3fn, aiter::Codes<aiter::E4M3FN>, aiter::RowGroups::kOne)       \
  F(T, one_e4m3fnuz, aiter::Codes<aiter::E4M3FNUZ>, aiter::RowGroups::kOne)   \
  F(T, many_e4m3fn, aiter::Codes<aiter::E4M3FN>, aiter::RowGroups::kMany)     \
  F(T, many_e4m3fnuz, aiter::Codes<aiter::E4M3FNUZ>, aiter::RowGroups::kMany) \
  F(T, many_e2m1, aiter::Codes<aiter::E2M1FN>, aiter::RowGroups::kMany)

template <int N, class Codes = AnyCodes, RowGroups kGroups = RowGroups::kAny>
class RowQuantizer {
 public:
  // row_amax counts if needs_row_amax(q). One thread of the row is `first`. Lanes whose row is not
  // `there` only take part in the reductions.
  AITER_DEVICE RowQuantizer(const QuantOut& q, int64_t row, float row_amax, bool first,
                            bool there = true)
      : q_(q),
        kind_(q.spec.code),
        codes_(static_cast<uint8_t*>(q.codes) + q.codes_rows.offset(row)),
        scales_(q.scale_row(row)),
        cols_(there ? q.cols : 0) {
    if (grouped()) return;
    if (q.static_scale) {
      factor_ = 1.0f / load_scale(q, scales_);
    } else {
      const Scale scale = scale_for(row_amax, q.spec, kind_);
      factor_ = scale.factor;
      if (first && there) store_scale(q, scales_, scale);
    }
  }

  // Codes of the N columns from `column` on, and the scales of the groups. All lanes of the wave
  // must call it; columns from q.cols on are not there.
  AITER_DEVICE void store(int64_t column, const float (&v)[N]) const {
    const float factor = grouped() ? group_factor(column, v) : factor_;
    if (column >= cols_) return;
    uint32_t words[N / 4];
    kind_.encode(v, factor, words);
    uint8_t* to = codes_ + (column * kind_.bits >> 3);
    // The word is the least that all codes of a row are aligned to.
    if (column + N <= cols_ && reinterpret_cast<uint64_t>(codes_) % (N < 16 ? N : 16) == 0) {
      if (kind_.bits == 8) return store_all<N>(to, words);
      if (kind_.bits == 4) return store_all<N / 2>(to, words);
      if constexpr (N % 16 == 0) {
        AITER_UNROLL
        for (int i = 0; i < N * 6 / 32; ++i) reinterpret_cast<uint32_t*>(to)[i] = words[i];
        return;
      }
    }
    const int bytes = static_cast<int>(min<int64_t>(N, cols_ - column)) * kind_.bits / 8;
    AITER_NO_UNROLL
    for (int i = 0; i < bytes; ++i) {
      to[i] = static_cast<uint8_t>(words[0]);
      drop_byte(words);
    }
  }

 private:
  AITER_DEVICE bool grouped() const {
    return kGroups == RowGroups::kAny ? q_.group_cols < q_.cols : kGroups == RowGroups::kMany;
  }

  AITER_DEVICE float group_factor(int64_t column, const float (&v)[N]) const {
    const bool there = column < cols_;
    // Groups of lanes are powers of two of 16 and more.
    const int shift = 31 - __builtin_clz(static_cast<uint32_t>(q_.group_cols));
    const int64_t index = scales_ + q_.scale_group(column >> shift);
    if (q_.static_scale) return there ? 1.0f / load_scale(q_, index) : 0.0f;
    float amax = 0;
    if (column + N <= cols_) {
      amax = max_magnitude(amax, v);
    } else {
      AITER_UNROLL
      for (int k = 0; k < N; ++k)
        if (column + k < cols_) amax = fmax(amax, abs(v[k]));
      amax = fmin(amax, kLargest);
    }
    amax = lanes_reduce<Max>(amax, static_cast<int>(q_.group_cols) / N);
    const Scale scale = scale_for(amax, q_.spec, kind_);
    if (there && (column & (q_.group_cols - 1)) == 0) store_scale(q_, index, scale);
    return scale.factor;
  }

  template <int kBytes>
  AITER_DEVICE static void store_all(uint8_t* to, const uint32_t (&words)[N / 4]) {
    constexpr int kPart = kBytes < 16 ? kBytes : 16;  // of a store
    using Words = typename WordsOf<kPart>::Type;
    if constexpr (kPart == 2) {
      *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(words[0]);
    } else {
      AITER_UNROLL
      for (int i = 0; i < kBytes / kPart; ++i) {
        struct {
          uint32_t word[kPart / 4];
        } part;
        AITER_UNROLL
        for (int k = 0; k < kPart / 4; ++k) part.word[k] = words[i * kPart / 4 + k];
        reinterpret_cast<Words*>(to)[i] = bit_cast<Words>(part);
      }
    }
  }

  const QuantOut& q_;
  Codes kind_;
  uint8_t* codes_;
  int64_t scales_;
  int64_t cols_;
  float factor_ = 0;
};

}  // namespace aiter
