// Quantization of a group of numbers: the scale from the largest magnitude, then the codes. The
// arithmetic is that of src/simd/quantize.h, operation by operation, so that codes are the same.
#pragma once

#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "core/quant_spec.h"

namespace aiter {

template <int kCodeBits>
struct IntCode {
  static constexpr int kBits = kCodeBits;
  static constexpr float kMax = (1 << (kBits - 1)) - 1;
  AITER_DEVICE static uint32_t encode(float x) {
    x = x == x ? x : 0.0f;
    x = x < kMax ? x : kMax;
    x = x > -kMax ? x : -kMax;
    // 1.5 * 2^23: rounds, ties to even
    return bit_cast<uint32_t>(x + 12582912.0f) & ((1u << kBits) - 1);
  }
  AITER_DEVICE static float decode(uint32_t code) {
    return static_cast<float>(static_cast<int32_t>(code << (32 - kBits)) >> (32 - kBits));
  }
  AITER_DEVICE static constexpr float max() { return kMax; }
};

// f(Codec{}) for the dtype of the codes.
template <class F>
AITER_DEVICE void with_codec(DType code, F&& f) {
  switch (code) {
    case DType::kI8:
      return f(IntCode<8>{});
    case DType::kF8E4M3FN:
      return f(E4M3FN{});
    case DType::kF8E4M3FNUZ:
      return f(E4M3FNUZ{});
    case DType::kF8E5M2:
      return f(E5M2{});
    case DType::kF8E5M2FNUZ:
      return f(E5M2FNUZ{});
    case DType::kF6E2M3x4:
      return f(E2M3FN{});
    case DType::kF6E3M2x4:
      return f(E3M2FN{});
    case DType::kI4x2:
      return f(IntCode<4>{});
    default:
      return f(E2M1FN{});
  }
}

template <class Element>
AITER_DEVICE uint32_t mx_code(Element, float amax, MxRound round) {
  return mx_scale<Element>(amax, round);
}
template <int kBits>
AITER_DEVICE uint32_t mx_code(IntCode<kBits>, float, MxRound) {
  return 127;
}

// The stored scale of a group, and the factor that its numbers are multiplied by.
struct Scale {
  float factor;  // 1 / scale
  float value;   // of an f32 or bf16 scale
  uint8_t code;  // of an e8m0 or e4m3fn scale
};

template <class Codec>
AITER_DEVICE Scale scale_for(float amax, const QuantSpec& spec) {
  amax = amax < spec.amax_bound ? amax : spec.amax_bound;
  if (spec.scale == DType::kF8E8M0) {
    const uint32_t code = mx_code(Codec{}, amax, spec.round);
    return {e8m0_decode(254 - code), 0.0f, static_cast<uint8_t>(code)};
  }
  if (spec.scale == DType::kF8E4M3FN) {
    const uint32_t code = E4M3FN::encode(amax / (Codec::max() * spec.global_scale));
    const float scale = E4M3FN::decode(code) * spec.global_scale;
    return {scale > 0.0f ? 1.0f / scale : 0.0f, 0.0f, static_cast<uint8_t>(code)};
  }
  float scale = amax / Codec::max();
  scale = scale > 1.1754943508222875e-38f ? scale : amax > 0.0f ? 1.1754943508222875e-38f : 1.0f;
  return {1.0f / scale, scale, 0};
}

AITER_DEVICE float load_scale(const QuantOut& q, int64_t index) {
  if (q.spec.scale == DType::kF32) return static_cast<const float*>(q.scale)[index];
  if (q.spec.scale == DType::kBF16) return to_float(static_cast<const bf16*>(q.scale)[index]);
  const uint8_t code = static_cast<const uint8_t*>(q.scale)[index];
  return q.spec.scale == DType::kF8E8M0 ? e8m0_decode(code)
                                        : E4M3FN::decode(code) * q.spec.global_scale;
}

AITER_DEVICE void store_scale(const QuantOut& q, int64_t index, const Scale& s) {
  if (q.spec.scale == DType::kF32)
    static_cast<float*>(q.scale)[index] = s.value;
  else if (q.spec.scale == DType::kBF16)
    static_cast<bf16*>(q.scale)[index] = from_float<bf16>(s.value);
  else
    static_cast<uint8_t*>(q.scale)[index] = s.code;
}

// Code c of a row of codes.
template <int kBits>
AITER_DEVICE uint32_t load_code(const uint8_t* codes, int64_t c) {
  if (kBits == 8) return codes[c];
  const int64_t bit = c * kBits;
  const int at = static_cast<int>(bit % 8);
  uint32_t code = codes[bit / 8] >> at;
  if (at + kBits > 8) code |= static_cast<uint32_t>(codes[bit / 8 + 1]) << (8 - at);
  return code & ((1u << kBits) - 1);
}

// ---- rows in registers --------------------------------------------------------------------------
// For kernels whose `threads` of a row, a power of two up to the wave or a multiple of it, hold N
// neighbouring columns at a time: thread t has those from (c * threads + t) * N on, for c = 0, 1
// ... N is a power of two, and threads * N is at least q.group_cols unless that is the whole row.
//
//   float amax = 0;
//   if (needs_row_amax(q)) {
//     for (c ...) amax = max_magnitude(amax, v[c]);     // columns that are not there count as 0
//     amax = row_max(amax, threads, scratch);
//   }
//   with_codec(q.spec.code, [&] AITER_LAMBDA(auto codec) {
//     const RowQuantizer<decltype(codec), N> quantizer(q, row, amax, t == 0);
//     for (c ...) quantizer.store((c * threads + t) * N, v[c]);
//   });

// Whether one scale for each row is to be computed, so that its largest magnitude must be known
// before the first code.
AITER_DEVICE bool needs_row_amax(const QuantOut& q) {
  return !q.static_scale && q.group_cols >= q.cols;
}

// The larger of amax and |v|; NaN is passed over, infinity counts as the largest float.
template <int N>
AITER_DEVICE float max_magnitude(float amax, const float (&v)[N]) {
  constexpr float kLargest = 3.4028234663852886e38f;
  AITER_UNROLL
  for (int k = 0; k < N; ++k) {
    const float a = abs(v[k]);
    if (a > amax) amax = a < kLargest ? a : kLargest;
  }
  return amax;
}

// The maximum over the threads of a row; scratch as for block_reduce.
AITER_DEVICE float row_max(float value, int threads, float* scratch) {
  if (threads > kWave) return block_reduce<Max>(value, scratch);
  for (int mask = threads / 2; mask > 0; mask /= 2) value = max(value, shuffle_xor(value, mask));
  return value;
}

template <class Codec, int N>
class RowQuantizer {
 public:
  // row_amax counts if needs_row_amax(q). One thread of the row is `first`.
  AITER_DEVICE RowQuantizer(const QuantOut& q, int64_t row, float row_amax, bool first)
      : q_(q), row_(row), codes_(static_cast<uint8_t*>(q.codes) + q.codes_rows.offset(row)) {
    aligned_ = reinterpret_cast<uint64_t>(codes_) % kAlignment == 0;
    grouped_ = q.group_cols < q.cols;
    if (grouped_) return;
    const int64_t index = q.scale_index(row, 0);
    if (q.static_scale) {
      factor_ = 1.0f / load_scale(q, index);
    } else {
      const Scale scale = scale_for<Codec>(row_amax, q.spec);
      factor_ = scale.factor;
      if (first) store_scale(q, index, scale);
    }
  }

  // Codes of the N columns from `column` on, and the scales of the groups. All lanes of the wave
  // must call it; columns from q.cols on are not there.
  AITER_DEVICE void store(int64_t column, const float (&v)[N]) const {
    float factor = factor_;
    if (grouped_) {
      const bool there = column < q_.cols;
      const int64_t index = there ? q_.scale_index(row_, column / q_.group_cols) : 0;
      if (q_.static_scale) {
        factor = there ? 1.0f / load_scale(q_, index) : 0.0f;
      } else {
        float amax = 0;
        AITER_UNROLL
        for (int k = 0; k < N; ++k) {
          const float one[1] = {v[k]};
          if (column + k < q_.cols) amax = max_magnitude(amax, one);
        }
        const int lanes = static_cast<int>(q_.group_cols) / N;
        for (int mask = lanes / 2; mask > 0; mask /= 2) amax = max(amax, shuffle_xor(amax, mask));
        const Scale scale = scale_for<Codec>(amax, q_.spec);
        factor = scale.factor;
        if (there && column % q_.group_cols == 0) store_scale(q_, index, scale);
      }
    }
    if (column >= q_.cols) return;
    uint8_t* to = codes_ + column * Codec::kBits / 8;
    struct {
      uint32_t word[kWords];
    } words = {};
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      const uint32_t code = Codec::encode(v[k] * factor);
      constexpr int kBits = Codec::kBits;
      words.word[k * kBits / 32] |= code << k * kBits % 32;
      if (k * kBits % 32 + kBits > 32)
        words.word[k * kBits / 32 + 1] |= code >> (32 - k * kBits % 32);
    }
    if (aligned_ && column + N <= q_.cols) {
      if constexpr (kBytes % 4 == 0) {
        using Words = typename WordsOf<kBytes>::Type;
        *reinterpret_cast<Words*>(to) = bit_cast<Words>(words);
      } else if constexpr (kBytes % 2 == 0) {
        AITER_UNROLL
        for (int i = 0; i < kBytes / 2; ++i)
          reinterpret_cast<uint16_t*>(to)[i] =
              static_cast<uint16_t>(words.word[i / 2] >> i % 2 * 16);
      } else {
        AITER_UNROLL
        for (int i = 0; i < kBytes; ++i)
          to[i] = static_cast<uint8_t>(words.word[i / 4] >> i % 4 * 8);
      }
    } else {
      const int n = static_cast<int>(min<int64_t>(N, q_.cols - column)) * Codec::kBits / 8;
      AITER_UNROLL
      for (int i = 0; i < kBytes; ++i)
        if (i < n) to[i] = static_cast<uint8_t>(words.word[i / 4] >> i % 4 * 8);
    }
  }

 private:
  static constexpr int kBytes = N * Codec::kBits / 8;
  static constexpr int kWords = (kBytes + 3) / 4;
  static constexpr int kAlignment = kBytes % 4 == 0 ? kBytes : kBytes % 2 == 0 ? 2 : 1;
  const QuantOut& q_;
  int64_t row_;
  uint8_t* codes_;
  float factor_ = 0;
  bool aligned_, grouped_;
};

}  // namespace aiter
