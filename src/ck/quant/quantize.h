// Quantization of a group of numbers: the scale from the largest magnitude, then the codes. The
// arithmetic is that of src/simd/quantize.h, operation by operation, so that codes are the same.
#pragma once

#include "ck/core/pack.h"
#include "ck/core/reduce.h"
#include "core/quant_spec.h"

namespace aiter {

// Signed integers, as the codecs of core/small_float.h.
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

// f(Codec{}) for the dtype of the codes. It is compiled nine times: where f is large, CodeFormat is
// better.
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

// A kind of code as numbers, the same for all threads: one encoder, and one copy of it, for all
// kinds. The bits are those of SmallFloat::encode.
struct CodeFormat {
  int bits;
  bool integer;
  float max;
  MxElement mx;
  uint32_t smallest;       // the smallest normal number, as bits of a float
  uint32_t sign;           // bit of a code
  uint32_t nan;            // code
  bool has_nan, has_zero;  // has_zero: a negative zero

  AITER_DEVICE explicit CodeFormat(DType code) {
    with_codec(code, [&] AITER_LAMBDA(auto codec) { set(codec); });
  }
  template <class Codec>
  AITER_DEVICE explicit CodeFormat(Codec codec) {
    set(codec);
  }

  AITER_DEVICE uint32_t encode(float x) const {
    return integer ? encode_integer(x) : encode_float(x);
  }
  AITER_DEVICE uint32_t encode_integer(float x) const {
    x = x == x ? x : 0.0f;
    x = x < max ? x : max;
    x = x > -max ? x : -max;
    return bit_cast<uint32_t>(x + 12582912.0f) & (2 * sign - 1);  // 1.5 * 2^23: ties to even
  }
  AITER_DEVICE uint32_t encode_float(float x) const {
    const uint32_t u = bit_cast<uint32_t>(x);
    float a = bit_cast<float>(u & 0x7fffffffu);
    a = fmin(a, max);  // NaN too
    uint32_t exponent = bit_cast<uint32_t>(a) & 0x7f800000u;
    exponent = exponent > smallest ? exponent : smallest;
    const int shift = 23 - mx.mantissa;
    const uint32_t sum =
        bit_cast<uint32_t>(a + bit_cast<float>(exponent + (static_cast<uint32_t>(shift) << 23)));
    uint32_t code = (sum + ((exponent - smallest) >> shift)) & (sign - 1);
    code |= u >> (32 - bits) & (has_zero || code ? sign : 0u);
    return x == x || !has_nan ? code : nan;
  }

 private:
  template <int n>
  AITER_DEVICE void set(IntCode<n>) {
    bits = n;
    integer = true;
    sign = 1u << (n - 1);
    max = IntCode<n>::max();
    mx = {1, 0, 0};
    smallest = nan = 0;
    has_nan = has_zero = false;
  }
  template <class Codec>
  AITER_DEVICE void set(Codec) {
    bits = Codec::kBits;
    integer = false;
    max = Codec::max();
    mx = mx_element<Codec>();
    smallest = static_cast<uint32_t>(127 + 1 - Codec::kExponentBias) << 23;
    sign = Codec::kSign;
    has_nan = Codec::kNan >= 0;
    nan = has_nan ? Codec::kNan : 0;
    has_zero = !Codec::kIsFnuz;
  }
};

// The stored scale of a group, and the factor that its numbers are multiplied by.
struct Scale {
  float factor;  // 1 / scale
  float value;   // of an f32 or bf16 scale
  uint8_t code;  // of an e8m0 or e4m3fn scale
};

AITER_DEVICE Scale scale_for(float amax, const QuantSpec& spec, const CodeFormat& format) {
  amax = amax < spec.amax_bound ? amax : spec.amax_bound;
  if (spec.scale == DType::kF8E8M0) {
    const uint32_t code = mx_scale(amax, spec.round, format.mx);
    return {e8m0_decode(254 - code), 0.0f, static_cast<uint8_t>(code)};
  }
  if (spec.scale == DType::kF8E4M3FN) {
    const float global_scale = spec.whole_global_scale();
    const uint32_t code = E4M3FN::encode(amax / (format.max * global_scale));
    const float scale = E4M3FN::decode(code) * global_scale;
    return {scale > 0.0f ? 1.0f / scale : 0.0f, 0.0f, static_cast<uint8_t>(code)};
  }
  float scale = amax / format.max;
  scale = scale > 1.1754943508222875e-38f ? scale : amax > 0.0f ? 1.1754943508222875e-38f : 1.0f;
  return {1.0f / scale, scale, 0};
}

template <class Codec>
AITER_DEVICE Scale scale_for(float amax, const QuantSpec& spec) {
  return scale_for(amax, spec, CodeFormat(Codec{}));
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

// ---- groups of any shape ------------------------------------------------------------------------
// A group of up to wave_group numbers is worked on by a wave, a larger one by a block: first its
// largest magnitude, then its codes. row_at(row) describes a row: `there`, and what
// number(row_at(row), column) needs.
template <class RowAt, class Number>
AITER_DEVICE void quantize_groups(const QuantOut& q, int64_t rows, int64_t group_rows,
                                  int wave_group, RowAt&& row_at, Number&& number) {
  AITER_SHARED float scratch[1024 / kWave];
  constexpr float kLargest = 3.4028234663852886e38f;
  const CodeFormat format(q.spec.code);
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
//   const AnyRowQuantizer<N> quantizer(q, row, amax, t == 0);
//   for (c ...) quantizer.store((c * threads + t) * N, v[c]);

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
    amax = fmin(fmax(amax, abs(v[k])), kLargest);
  }
  return amax;
}

template <int N>
class AnyRowQuantizer {
 public:
  // row_amax counts if needs_row_amax(q). One thread of the row is `first`. Lanes whose row is not
  // `there` only take part in the reductions.
  AITER_DEVICE AnyRowQuantizer(const QuantOut& q, int64_t row, float row_amax, bool first,
                               bool there = true)
      : AnyRowQuantizer(CodeFormat(q.spec.code), q, row, row_amax, first, there) {}
  AITER_DEVICE AnyRowQuantizer(const CodeFormat& format, const QuantOut& q, int64_t row,
                               float row_amax, bool first, bool there)
      : q_(q),
        format_(format),
        codes_(static_cast<uint8_t*>(q.codes) + q.codes_rows.offset(row)),
        scales_(q.scale_row(row)),
        cols_(there ? q.cols : 0),
        grouped_(q.group_cols < q.cols) {
    if (grouped_) return;
    if (q.static_scale) {
      factor_ = 1.0f / load_scale(q, scales_);
    } else {
      const Scale scale = scale_for(row_amax, q.spec, format_);
      factor_ = scale.factor;
      if (first && there) store_scale(q, scales_, scale);
    }
  }

  // Codes of the N columns from `column` on, and the scales of the groups. All lanes of the wave
  // must call it; columns from q.cols on are not there.
  AITER_DEVICE void store(int64_t column, const float (&v)[N]) const {
    const float factor = grouped_ ? group_factor(column, v) : factor_;
    if (column >= cols_) return;
    uint32_t codes[N];
    AITER_UNROLL
    for (int k = 0; k < N; ++k) codes[k] = bit_cast<uint32_t>(v[k] * factor);
    if (format_.integer) {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) codes[k] = format_.encode_integer(bit_cast<float>(codes[k]));
    } else {
      AITER_UNROLL
      for (int k = 0; k < N; ++k) codes[k] = format_.encode_float(bit_cast<float>(codes[k]));
    }
    const int there = static_cast<int>(min<int64_t>(N, cols_ - column));
    if (format_.bits == 8)
      store_bits<8>(column, codes, there);
    else if (format_.bits == 4)
      store_bits<4>(column, codes, there);
    else
      store_bits<6>(column, codes, there);
  }

 private:
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
      for (int k = 0; k < N; ++k) {
        const float one[1] = {v[k]};
        if (column + k < cols_) amax = max_magnitude(amax, one);
      }
    }
    const int lanes = static_cast<int>(q_.group_cols) / N;
    amax = lanes_reduce<Max>(amax, lanes);
    const Scale scale = scale_for(amax, q_.spec, format_);
    if (there && (column & (q_.group_cols - 1)) == 0) store_scale(q_, index, scale);
    return scale.factor;
  }

  template <int kBits>
  AITER_DEVICE void store_bits(int64_t column, const uint32_t (&codes)[N], int there) const {
    constexpr int kBytes = N * kBits / 8, kWords = (kBytes + 3) / 4;
    struct {
      uint32_t word[kWords];
    } words = {};
    AITER_UNROLL
    for (int k = 0; k < N; ++k) {
      words.word[k * kBits / 32] |= codes[k] << k * kBits % 32;
      if (k * kBits % 32 + kBits > 32)
        words.word[k * kBits / 32 + 1] |= codes[k] >> (32 - k * kBits % 32);
    }
    uint8_t* to = codes_ + column * kBits / 8;
    constexpr int kWidth = kBytes % 4 == 0 ? kBytes : kBytes % 2 == 0 ? 2 : 1;  // of a store
    if (there == N && reinterpret_cast<uint64_t>(to) % kWidth == 0) {
      if constexpr (kBytes % 4 == 0) {
        using Words = typename WordsOf<kBytes>::Type;
        *reinterpret_cast<Words*>(to) = bit_cast<Words>(words);
        return;
      } else if constexpr (kWidth == 2) {
        // volatile: compilers would join them to words that are not aligned
        AITER_UNROLL
        for (int i = 0; i < kBytes / 2; ++i)
          reinterpret_cast<volatile uint16_t*>(to)[i] =
              static_cast<uint16_t>(words.word[i / 2] >> i % 2 * 16);
        return;
      }
    }
    AITER_UNROLL
    for (int i = 0; i < kBytes; ++i)
      if (i < there * kBits / 8) to[i] = static_cast<uint8_t>(words.word[i / 4] >> i % 4 * 8);
  }

  const QuantOut& q_;
  CodeFormat format_;
  uint8_t* codes_;
  int64_t scales_;
  int64_t cols_;
  float factor_ = 0;
  bool grouped_;
};

// The same, compiled for one kind of code.
template <class Codec, int N>
class RowQuantizer : public AnyRowQuantizer<N> {
 public:
  AITER_DEVICE RowQuantizer(const QuantOut& q, int64_t row, float row_amax, bool first,
                            bool there = true)
      : AnyRowQuantizer<N>(CodeFormat(Codec{}), q, row, row_amax, first, there) {}
};

}  // namespace aiter
