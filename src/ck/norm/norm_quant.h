// Norms of rows with a quantized result.
#pragma once

#include "ck/core/activation.h"
#include "ck/norm/row_norm.h"
#include "ck/quant/quantize.h"
#include "ops/norm/norm_quant.h"

namespace aiter {

template <class T, NormKind kKind>
struct NormQuantRows {
  static constexpr int N = NormQuantArgs::kColumns;  // that lie next to each other, of
  static constexpr int kPack = kPackSize<T, true>;
  static constexpr int kPacks = NormQuantArgs::kPacks, kChunks = kPacks * kPack / N;
  using Row = RowNorm<T, kPack, kPacks, kKind, true, false, kPacks / kChunks>;
};

// Rows of which each thread takes up to kPacks packs: they stay in registers, in fp32 from the norm
// to the codes. Groups as RowQuantizer takes them; one head. Without codes, the norm alone is written.
template <class T, NormKind kKind>
AITER_DEVICE void norm_quant_rows(const NormQuantArgs& a, float* scratch) {
  using Rows = NormQuantRows<T, kKind>;
  constexpr int N = Rows::N, kPack = Rows::kPack, kChunks = Rows::kChunks;
  const QuantOut& q = a.out;
  typename Rows::Row row(a.norm, scratch);
  row.each_row(block_index_x(), grid_blocks(), [&] AITER_LAMBDA(int64_t r) {
    row.read(r);
    float values[kChunks][N], amax = 0;
    AITER_UNROLL
    for (int c = 0; c < Rows::kPacks; ++c) {
      auto& v = reinterpret_cast<float (&)[kPack]>(values[c * kPack / N][c * kPack % N]);
      const int i = row.index(c);
      AITER_UNROLL
      for (int k = 0; k < kPack; ++k) v[k] = 0.0f;
      if (i >= a.norm.hidden) continue;
      row.v[c].forget();
      row.normalize(row.v[c], i, v);
      float factor[kPack];
      if (a.gate) {
        load_floats<kPack>(static_cast<const T*>(a.gate) + a.gate_rows.offset(r) + i, factor);
        AITER_UNROLL
        for (int k = 0; k < kPack; ++k) v[k] *= factor[k] * sigmoid(factor[k]);
      }
      if (a.norm.y) {
        const int64_t at = a.norm.y_rows.offset(r) + i;
        if (a.norm.y_dtype == DType::kF32)
          store_floats<kPack>(static_cast<float*>(a.norm.y) + at, v);
        else
          store_floats<kPack>(static_cast<T*>(a.norm.y) + at, v);
      }
      if (a.smooth) {
        load_floats<kPack>(a.smooth + i, factor);
        AITER_UNROLL
        for (int k = 0; k < kPack; ++k) v[k] *= factor[k];
      }
      amax = max_magnitude(amax, v);
    }
    for (int c = static_cast<int>(a.norm.hidden) + row.t; c < a.norm.y_cols; c += row.threads)
      store_float(a.norm.y, a.norm.y_rows.offset(r) + c, a.norm.y_dtype, 0.0f);
    if (!q.codes || q.cols == 0) return;
    if (needs_row_amax(q)) amax = row.template reduce<Max>(amax);
    const RowQuantizer<N> quantizer(q, r, amax, row.t == 0);
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c)
      if (c * row.threads * N < q.cols) quantizer.store((c * row.threads + row.t) * N, values[c]);
  });
}

// The same, for one kind of codes, of plain norms: with weights of T (and biases, of a layer norm), and
// with factors of columns and a residual at most. The grid has a block for each row.
template <class T, NormKind kKind, class Codes, RowGroups kGroups>
AITER_DEVICE void plain_norm_quant_rows(const NormQuantArgs& a, float* scratch) {
  using Rows = NormQuantRows<T, kKind>;
  constexpr int N = Rows::N, kPack = Rows::kPack, kPacks = Rows::kPacks, kChunks = Rows::kChunks;
  constexpr bool kLayer = kKind == NormKind::kLayer;
  const QuantOut& q = a.out;
  const int hidden = static_cast<int>(a.norm.hidden);
  typename Rows::Row row(a.norm, scratch);
  // What is not there is 0 from the start to the end.
  Pack<T, kPack> w[kPacks], b[kPacks];
  AITER_UNROLL
  for (int c = 0; c < kPacks; ++c) {
    const int i = row.index(c);
    w[c] = b[c] = row.v[c] = {};
    if (i < hidden) w[c] = load_pack<kPack>(static_cast<const T*>(a.norm.w) + i);
    if (kLayer && i < hidden) b[c] = load_pack<kPack>(static_cast<const T*>(a.norm.b) + i);
  }
  auto values = [&] AITER_LAMBDA(int chunk, float (&v)[N]) {
    AITER_UNROLL
    for (int k = 0; k < N; k += kPack) {
      const int c = (chunk * N + k) / kPack;
      float x[kPack], weight[kPack], bias[kPack];
      row.v[c].forget();
      row.v[c].to_floats(x);
      w[c].to_floats(weight);
      b[c].to_floats(bias);
      AITER_UNROLL
      for (int j = 0; j < kPack; ++j) {
        x[j] = (kLayer ? x[j] - row.mean : x[j]) * row.scale * weight[j];
        v[k + j] = kLayer ? x[j] + bias[j] : x[j];
      }
    }
  };
  auto smooth = [&] AITER_LAMBDA(int chunk, float (&v)[N]) {
    Packs<float, N> packs;
    packs.load(a.smooth, row.index(chunk * kPacks / kChunks), hidden);
    float factor[N];
    packs.to_floats(factor);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] *= factor[k];
  };
  const int64_t r = row_of_thread(row.threads);
  if (r >= a.norm.x_rows.count) return;
  row.read(r);
  if constexpr (kGroups == RowGroups::kMany) {
    const RowQuantizer<N, Codes, kGroups> quantizer(q, r, 0.0f, row.t == 0);
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      if (c * row.threads * N >= hidden) break;
      float v[N];
      values(c, v);
      if (a.smooth) smooth(c, v);
      quantizer.store((c * row.threads + row.t) * N, v);
    }
  } else {
    float v[kChunks][N], amax = 0;
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) values(c, v[c]);
    if (a.smooth) {
      AITER_UNROLL
      for (int c = 0; c < kChunks; ++c) smooth(c, v[c]);
    }
    if (!q.static_scale) {
      AITER_UNROLL
      for (int c = 0; c < kChunks; ++c) amax = max_magnitude(amax, v[c]);
      amax = row.template reduce<Max>(amax);
    }
    const RowQuantizer<N, Codes, kGroups> quantizer(q, r, amax, row.t == 0);
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c)
      if (c * row.threads * N < hidden) quantizer.store((c * row.threads + row.t) * N, v[c]);
  }
}

// A number of row r of the norm: of x, or of the sum where that has been written.
AITER_DEVICE float norm_number(const RowNormArgs& a, int64_t r, int64_t i) {
  if (a.residual_in) return load_float(a.residual_out, a.residual_out_rows.offset(r) + i, a.dtype);
  const float x = load_float(a.x, a.x_rows.offset(r) + i, a.dtype);
  return a.x_bias ? x + load_float(a.x_bias, i, a.dtype) : x;
}

struct NormQuantShared {
  float scratch[1024 / kWave];
  float means[NormQuantArgs::kMaxHeads], scales[NormQuantArgs::kMaxHeads];
};

// Everything that the contract allows: a block for each row of codes.
AITER_DEVICE void norm_quant_any(const NormQuantArgs& a, NormQuantShared& shared) {
  float *scratch = shared.scratch, *means = shared.means, *scales = shared.scales;
  const RowNormArgs& norm = a.norm;
  const QuantOut& q = a.out;
  const bool layer = a.kind == NormKind::kLayer;
  const int threads = block_threads(), t = thread_index();
  const int heads = static_cast<int>(a.heads);
  const float hidden = static_cast<float>(norm.hidden);
  for (int64_t row = block_index_x(); row < norm.x_rows.count / heads; row += grid_blocks()) {
    for (int h = 0; h < heads; ++h) {
      const int64_t r = row * heads + h;
      if (norm.residual_in)
        for (int64_t i = t; i < norm.hidden; i += threads) {
          float sum = load_float(norm.x, norm.x_rows.offset(r) + i, norm.dtype);
          if (norm.x_bias) sum += load_float(norm.x_bias, i, norm.dtype);
          sum += load_float(norm.residual_in, norm.residual_in_rows.offset(r) + i, norm.dtype);
          store_float(norm.residual_out, norm.residual_out_rows.offset(r) + i, norm.dtype, sum);
        }
      float mean = 0, squares = 0;
      if (layer) {
        for (int64_t i = t; i < norm.hidden; i += threads) mean += norm_number(norm, r, i);
        mean = block_reduce<Sum>(mean, scratch) / hidden;
      }
      for (int64_t i = t; i < norm.hidden; i += threads) {
        const float x = norm_number(norm, r, i) - mean;
        squares = fma(x, x, squares);
      }
      squares = block_reduce<Sum>(squares, scratch);
      if (t == 0) means[h] = mean, scales[h] = 1.0f / sqrt(squares / hidden + norm.eps);
    }
    barrier();  // what one thread has found and added, others read

    auto value = [&] AITER_LAMBDA(int64_t column, bool smooth) -> float {
      const int h = heads == 1 ? 0 : static_cast<int>(column / norm.hidden);
      const int64_t r = row * heads + h, i = column - h * norm.hidden;
      float v = (norm_number(norm, r, i) - means[h]) * scales[h];
      if (norm.model_sensitive)
        v = norm.dtype == DType::kF16    ? to_float(from_float<f16>(v))
            : norm.dtype == DType::kBF16 ? to_float(from_float<bf16>(v))
                                         : v;
      if (norm.w) {
        const float weight = load_float(norm.w, i, norm.w_dtype);
        v *= norm.gemma ? weight + 1.0f : weight;
      }
      if (norm.b) v += load_float(norm.b, i, norm.w_dtype);
      if (a.gate) {
        const float gate = load_float(a.gate, a.gate_rows.offset(r) + i, norm.dtype);
        v *= gate * sigmoid(gate);
      }
      return smooth && a.smooth ? v * a.smooth[column] : v;
    };
    if (norm.y)
      for (int64_t c = t; c < heads * norm.hidden; c += threads) {
        const int h = heads == 1 ? 0 : static_cast<int>(c / norm.hidden);
        store_float(norm.y, norm.y_rows.offset(row * heads + h) + c - h * norm.hidden, norm.y_dtype,
                    value(c, false));
      }
    if (q.codes) {
      // Small groups are each taken by a wave, large ones by the block.
      const bool by_wave = q.group_cols <= 1024;
      const int members = by_wave ? kWave : threads, member = t % members;
      const int64_t groups = (q.cols + q.group_cols - 1) / q.group_cols;
      for (int64_t g = t / members; g < groups; g += threads / members) {
        const int64_t begin = g * q.group_cols;
        const int64_t end = min<int64_t>(begin + q.group_cols, q.cols);
        const int64_t index = q.scale_index(row, g);
        float amax = 0;
        if (!q.static_scale) {
          for (int64_t c = begin + member; c < end; c += members) {
            const float v[1] = {value(c, true)};
            amax = max_magnitude(amax, v);
          }
          amax = by_wave ? wave_reduce<Max>(amax) : block_reduce<Max>(amax, scratch);
        }
        with_codec(q.spec.code, [&] AITER_LAMBDA(auto codec) {
          using Codec = decltype(codec);
          float factor;
          if (q.static_scale) {
            factor = 1.0f / load_scale(q, index);
          } else {
            const Scale scale = scale_for<Codec>(amax, q.spec);
            factor = scale.factor;
            if (member == 0) store_scale(q, index, scale);
          }
          // As many codes of a thread at a time as fill bytes.
          constexpr int kBits = Codec::kBits, kCodes = kBits == 8 ? 1 : kBits == 6 ? 4 : 2;
          uint8_t* to = static_cast<uint8_t*>(q.codes) + q.codes_rows.offset(row);
          for (int64_t c = begin + kCodes * member; c < end; c += kCodes * members) {
            uint32_t codes = 0;
            for (int k = 0; k < kCodes; ++k)
              codes |= Codec::encode(value(c + k, true) * factor) << k * kBits;
            for (int i = 0; i < kCodes * kBits / 8; ++i)
              to[c * kBits / 8 + i] = static_cast<uint8_t>(codes >> 8 * i);
          }
        });
      }
    }
    barrier();  // before means and scales are those of another row
  }
}

}  // namespace aiter
