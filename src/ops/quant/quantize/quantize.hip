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

// Rows in registers: groups within rows, or given scales. What does not fit is read again. Smooth
// factors are left to the kernels for any codes.
template <class T, class Codes, RowGroups kGroups, int kChunks>
AITER_DEVICE void quantize_rows(const QuantizeArgs& a) {
  constexpr int N = QuantizeArgs::kColumns;
  constexpr bool kSmooth = is_same<Codes, AnyCodes>;
  AITER_SHARED float scratch[1024 / kWave];
  const QuantOut& q = a.out;
  const int threads = a.threads_per_row;
  const int t = thread_of_row(threads), pass = threads * N;
  const int64_t mine = row_of_thread(threads), rows = a.valid_rows();
  if (rows == 0 || (threads > kWave && mine >= rows)) return;
  // Whole waves take part in the reductions: lanes without a row repeat the last one.
  const int64_t r = min<int64_t>(mine, rows - 1);
  const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(r);
  Packs<T, N> packs[kChunks];
  AITER_UNROLL
  for (int c = 0; c < kChunks; ++c) packs[c].load(x, c * pass + t * N, q.cols);
  const int64_t smooth_row = kSmooth ? a.smooth_row(r) : 0;
  const bool there = mine < rows && smooth_row >= 0;
  const float* row_smooth = a.smooth && there ? a.smooth + smooth_row * q.cols : nullptr;
  auto numbers = [&](const Packs<T, N>& pack, int64_t column, float (&v)[N]) {
    pack.to_floats(v);
    if (!kSmooth || !row_smooth) return;
    Packs<float, N> smooth;
    smooth.load(row_smooth, column, q.cols);
    float factor[N];
    smooth.to_floats(factor);
    AITER_UNROLL
    for (int k = 0; k < N; ++k) v[k] *= factor[k];
  };
  float amax = 0, v[N];
  if (kGroups == RowGroups::kOne && needs_row_amax(q)) {
    AITER_UNROLL
    for (int c = 0; c < kChunks; ++c) {
      numbers(packs[c], c * pass + t * N, v);
      amax = max_magnitude(amax, v);
    }
    AITER_NO_UNROLL
    for (int64_t column = kChunks * pass + t * N; column < q.cols; column += pass) {
      Packs<T, N> pack;
      pack.load(x, column, q.cols);
      numbers(pack, column, v);
      amax = max_magnitude(amax, v);
    }
    amax = row_reduce<Max>(amax, threads, scratch);
  }
  const RowQuantizer<N, Codes, kGroups> quantizer(q, r, amax, t == 0, there);
  AITER_UNROLL
  for (int c = 0; c < kChunks; ++c) {
    if (c * pass >= q.cols) break;
    packs[c].forget();
    numbers(packs[c], c * pass + t * N, v);
    quantizer.store(c * pass + t * N, v);
  }
  AITER_NO_UNROLL
  for (int64_t start = kChunks * pass; start < q.cols; start += pass) {
    Packs<T, N> pack;
    pack.load(x, start + t * N, q.cols);
    numbers(pack, start + t * N, v);
    quantizer.store(start + t * N, v);
  }
}

template <class T>
using E2m1Of = Codes<E2M1FN, sizeof(T) == 2>;

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
  aiter::wait_for_previous_kernel();
  if (aiter::thread_index() == 0 && a.valid_rows() > 0) *aiter::tensor_scale(a) = 0;
}
AITER_KERNEL(quantize_hip_tensor_scale, 64)(const aiter::QuantizeArgs a) {
  aiter::wait_for_previous_kernel();
  if (aiter::thread_index() != 0 || a.valid_rows() == 0) return;
  const float amax = aiter::bit_cast<float>(*aiter::tensor_scale(a));
  aiter::with_codec(a.out.spec.code, [&] AITER_LAMBDA(auto codec) {
    aiter::store_scale(a.out, 0, aiter::scale_for<decltype(codec)>(amax, a.out.spec));
  });
}
AITER_KERNEL(quantize_hip_any, 256)(const aiter::QuantizeArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::quantize(a);
}
#define AITER_QUANTIZE_ROWS(T, kind, Codes)                                      \
  AITER_KERNEL(quantize_hip_vec_one_##kind##_##T, 512)                           \
  (const aiter::QuantizeArgs a) {                                                \
    aiter::wait_for_previous_kernel();                                           \
    aiter::quantize_rows<aiter::T, aiter::Codes, aiter::RowGroups::kOne, 2>(a);  \
  }                                                                              \
  AITER_KERNEL(quantize_hip_vec_many_##kind##_##T, 512)                          \
  (const aiter::QuantizeArgs a) {                                                \
    aiter::wait_for_previous_kernel();                                           \
    aiter::quantize_rows<aiter::T, aiter::Codes, aiter::RowGroups::kMany, 2>(a); \
  }
#define AITER_QUANTIZE(T)                                  \
  AITER_KERNEL(quantize_hip_tensor_amax_##T, 256)          \
  (const aiter::QuantizeArgs a) {                          \
    aiter::wait_for_previous_kernel();                     \
    aiter::tensor_amax<aiter::T>(a);                       \
  }                                                        \
  AITER_QUANTIZE_ROWS(T, i8, Codes<aiter::IntCode<8>>)     \
  AITER_QUANTIZE_ROWS(T, e4m3fn, Codes<aiter::E4M3FN>)     \
  AITER_QUANTIZE_ROWS(T, e4m3fnuz, Codes<aiter::E4M3FNUZ>) \
  AITER_QUANTIZE_ROWS(T, e2m1, E2m1Of<aiter::T>)           \
  AITER_QUANTIZE_ROWS(T, any, AnyCodes)
AITER_QUANTIZE(f32)
AITER_QUANTIZE(f16)
AITER_QUANTIZE(bf16)
