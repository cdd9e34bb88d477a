// Groups of any shape (ck/quant/quantize.h), and rows in registers.
#include "ck/quant/quantize.h"
#include "ops/quant/quantize/quantize_args.h"

namespace aiter {

AITER_DEVICE float load_number(const QuantizeArgs& a, int64_t row_offset, const float* smooth,
                               int64_t column) {
  const float x = load_float(a.x, row_offset + column, a.dtype);
  return smooth ? x * smooth[column] : x;
}

AITER_DEVICE void quantize(const QuantizeArgs& a) {
  struct RowAt {
    bool there;
    int64_t offset;
    const float* smooth;
  };
  quantize_groups(
      a.out, a.valid_rows(), a.group_rows, QuantizeArgs::kWaveGroup,
      [&] AITER_LAMBDA(int64_t row) -> RowAt {
        const int64_t smooth_row = a.smooth_row(row);
        return {smooth_row >= 0, a.x_rows.offset(row),
                a.smooth && smooth_row >= 0 ? a.smooth + smooth_row * a.out.cols : nullptr};
      },
      [&] AITER_LAMBDA(const RowAt& row, int64_t column) {
        return load_number(a, row.offset, row.smooth, column);
      });
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
    // Whole waves take part in the reductions: lanes without a row repeat the last one.
    const int64_t r = min<int64_t>(mine, rows - 1);
    const int64_t smooth_row = a.smooth_row(r);
    const bool there = mine < rows && smooth_row >= 0;
    const float* row_smooth = a.smooth && there ? a.smooth + smooth_row * q.cols : nullptr;
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
    auto numbers = [&](const Pack<T, N>& pack, int64_t column, float (&v)[N]) {
      pack.to_floats(v);
      if (!row_smooth) return;
      float smooth[N];
      load_floats<N>(row_smooth + column, smooth);
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
      amax = row_reduce<Max>(amax, threads, scratch);
    }
    const AnyRowQuantizer<N> quantizer(q, r, amax, t == 0, there);
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
    aiter::quantize_rows<aiter::T, 2>(a);                                \
  }
AITER_QUANTIZE(f32)
AITER_QUANTIZE(f16)
AITER_QUANTIZE(bf16)
