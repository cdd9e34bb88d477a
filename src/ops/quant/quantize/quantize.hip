// A small group is worked on by a wave, a large one by a block: first its largest magnitude, then
// its codes.
#include "ck/quant/quantize.h"
#include "ops/quant/quantize/quantize_args.h"

namespace aiter {

AITER_DEVICE float load_number(const QuantizeArgs& a, int64_t row_offset, int64_t column) {
  const float x = load_float(a.x, row_offset + column, a.dtype);
  return a.smooth ? x * a.smooth[column] : x;
}

AITER_DEVICE void quantize(const QuantizeArgs& a) {
  AITER_SHARED float scratch[256 / kWave];
  constexpr float kLargest = 3.4028234663852886e38f;
  const QuantOut& q = a.out;
  const int64_t rows = a.valid_rows();
  const bool by_wave = a.group_rows * q.group_cols <= QuantizeArgs::kWaveGroup;
  const int threads = by_wave ? kWave : block_threads();
  const int t = thread_index() % threads, parallel = block_threads() / threads;
  const int64_t group_cols = (q.cols + q.group_cols - 1) / q.group_cols;
  const int64_t group_rows = (rows + a.group_rows - 1) / a.group_rows;
  for (int64_t g = static_cast<int64_t>(block_index_x()) * parallel + thread_index() / threads;
       g < group_rows * group_cols; g += static_cast<int64_t>(grid_blocks()) * parallel) {
    const int64_t group_row = g / group_cols, group_col = g % group_cols;
    const int64_t row = group_row * a.group_rows, begin = group_col * q.group_cols;
    const int64_t row_end = min<int64_t>(row + a.group_rows, rows);
    const int64_t end = min<int64_t>(begin + q.group_cols, q.cols);
    const int64_t index = q.scale_index(group_row, group_col);
    float amax = 0;
    if (!q.static_scale) {
      for (int64_t r = row; r < row_end; ++r) {
        const int64_t at = a.x_rows.offset(r);
        for (int64_t c = begin + t; c < end; c += threads) {
          const float v = abs(load_number(a, at, c));
          if (v > amax) amax = v < kLargest ? v : kLargest;  // NaN is passed over
        }
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
        if (t == 0) store_scale(q, index, scale);
      }
      // As many codes of a thread at a time as fill bytes.
      constexpr int kBits = Codec::kBits, kCodes = kBits == 8 ? 1 : kBits == 6 ? 4 : 2;
      for (int64_t r = row; r < row_end; ++r) {
        const int64_t at = a.x_rows.offset(r);
        uint8_t* to = static_cast<uint8_t*>(q.codes) + q.codes_rows.offset(r);
        for (int64_t c = begin + kCodes * t; c < end; c += kCodes * threads) {
          uint32_t codes = 0;
          for (int k = 0; k < kCodes; ++k)
            codes |= Codec::encode(load_number(a, at, c + k) * factor) << k * kBits;
          for (int i = 0; i < kCodes * kBits / 8; ++i)
            to[c * kBits / 8 + i] = static_cast<uint8_t>(codes >> 8 * i);
        }
      }
    });
  }
}

// Rows in registers: groups within rows, or given scales. What does not fit is read again.
template <class T, int kChunks>
AITER_DEVICE void quantize_rows(const QuantizeArgs& a) {
  constexpr int N = kPackSize<T, true>;
  AITER_SHARED float scratch[1024 / kWave];
  const QuantOut& q = a.out;
  const int threads = a.threads_per_row;
  const int t = thread_index() & (threads <= kWave ? threads - 1 : -1);
  const int rows_per_block = threads <= kWave ? block_threads() / threads : 1;
  const int64_t step = static_cast<int64_t>(grid_blocks()) * rows_per_block;
  const int64_t rows = a.valid_rows();
  const int64_t first = static_cast<int64_t>(block_index_x()) * rows_per_block;

  for (int64_t base = first; base < rows; base += step) {
    const int64_t mine = base + (threads <= kWave ? thread_index() / threads : 0);
    // Lanes without a row repeat the last one, so that whole waves take part in the reductions.
    const int64_t r = min<int64_t>(mine, rows - 1);
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    auto numbers = [&](const Pack<T, N>& pack, int64_t column, float (&v)[N]) {
      pack.to_floats(v);
      if (!a.smooth) return;
      float smooth[N];
      load_floats<N>(a.smooth + column, smooth);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] *= smooth[k];
    };
    const int64_t in_registers = min<int64_t>(q.cols, static_cast<int64_t>(threads) * N * kChunks);
    Pack<T, N> packs[kChunks];
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      const int column = (c * threads + t) * N;
      if (column < in_registers) packs[c] = load_pack<N>(x + column);
    }
    float amax = 0;
    if (needs_row_amax(q)) {
      float v[N];
      AITER_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        const int column = (c * threads + t) * N;
        if (column >= in_registers) continue;
        numbers(packs[c], column, v);
        amax = max_magnitude(amax, v);
      }
      AITER_NO_UNROLL
      for (int64_t column = in_registers + t * N; column < q.cols; column += threads * N) {
        numbers(load_pack<N>(x + column), column, v);
        amax = max_magnitude(amax, v);
      }
      amax = row_max(amax, threads, scratch);
    }
    with_codec(q.spec.code, [&] AITER_LAMBDA(auto codec) {
      const RowQuantizer<decltype(codec), N> quantizer(q, r, amax, t == 0);
      float v[N];
      AITER_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        const int column = (c * threads + t) * N;
        packs[c].forget();
        if (column < in_registers) numbers(packs[c], column, v);
        if (c * threads * N < in_registers) quantizer.store(column, v);
      }
      AITER_NO_UNROLL
      for (int64_t start = in_registers; start < q.cols; start += threads * N) {
        const int64_t column = start + t * N;
        if (column < q.cols) numbers(load_pack<N>(x + column), column, v);
        quantizer.store(column, v);
      }
    });
  }
}

// One f32 scale for all of x, by all blocks: 0, the largest magnitude, the scale; then the codes are
// those of a given scale (hip_vec). Bits of floats that are not negative compare as integers do.
AITER_DEVICE uint32_t* tensor_scale(const QuantizeArgs& a) {
  return static_cast<uint32_t*>(a.out.scale);
}

template <class T>
AITER_DEVICE void tensor_amax(const QuantizeArgs& a) {
  constexpr int N = kPackSize<T, true>;
  AITER_SHARED float scratch[256 / kWave];
  const int64_t rows = a.valid_rows(),
                step = static_cast<int64_t>(grid_blocks_y()) * block_threads();
  float amax = 0;
  for (int64_t r = block_index_x(); r < rows; r += grid_blocks()) {
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    for (int64_t i = static_cast<int64_t>(block_index_y()) * block_threads() + thread_index();
         i * N < a.out.cols; i += step) {
      float v[N];
      load_floats<N>(x + i * N, v);
      if (a.smooth) {
        float smooth[N];
        load_floats<N>(a.smooth + i * N, smooth);
        AITER_UNROLL
        for (int k = 0; k < N; ++k) v[k] *= smooth[k];
      }
      amax = max_magnitude(amax, v);
    }
  }
  amax = block_reduce<Max>(amax, scratch);
  if (thread_index() == 0 && amax > 0) atomic_max(tensor_scale(a), bit_cast<uint32_t>(amax));
}

}  // namespace aiter

AITER_KERNEL(quantize_hip_tensor_zero, 64)(const aiter::QuantizeArgs a) {
  if (aiter::thread_index() == 0 && a.valid_rows() > 0) *aiter::tensor_scale(a) = 0;
}
AITER_KERNEL(quantize_hip_tensor_scale, 64)(const aiter::QuantizeArgs a) {
  if (aiter::thread_index() != 0 || a.valid_rows() == 0) return;
  const float amax = aiter::bit_cast<float>(*aiter::tensor_scale(a));
  aiter::with_codec(a.out.spec.code, [&] AITER_LAMBDA(auto codec) {
    aiter::store_scale(a.out, 0, aiter::scale_for<decltype(codec)>(amax, a.out.spec));
  });
}
AITER_KERNEL(quantize_hip_any, 256)(const aiter::QuantizeArgs a) { aiter::quantize(a); }
#define AITER_QUANTIZE(T)                                                \
  AITER_KERNEL(quantize_hip_tensor_amax_##T, 256)                        \
  (const aiter::QuantizeArgs a) { aiter::tensor_amax<aiter::T>(a); }     \
  AITER_KERNEL(quantize_hip_vec_##T, 512)(const aiter::QuantizeArgs a) { \
    aiter::quantize_rows<aiter::T, 4>(a);                                \
  }
AITER_QUANTIZE(f32)
AITER_QUANTIZE(f16)
AITER_QUANTIZE(bf16)
