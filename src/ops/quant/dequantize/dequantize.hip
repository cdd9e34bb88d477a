// Rows in packs of codes, and whatever else the contract allows one by one.
#include "ck/quant/quantize.h"
#include "ops/quant/dequantize/dequantize_args.h"

namespace aiter {

AITER_DEVICE int64_t group_of(const QuantOut& q, int64_t column) {
  if (q.group_cols >= q.cols) return 0;
  const uint32_t size = static_cast<uint32_t>(q.group_cols);
  if (q.cols >> 31) return column / q.group_cols;
  // GPUs divide slowly; most sizes are powers of two.
  if ((size & (size - 1)) == 0) return column >> (31 - __builtin_clz(size));
  return static_cast<uint32_t>(column) / size;
}

// Some threads of a block a row, each with packs of kColumns of it, which have one scale.
template <class T, class Codes>
AITER_DEVICE void dequantize_rows(const DequantizeArgs& a) {
  constexpr int N = DequantizeArgs::kColumns;
  const QuantOut& q = a.out;
  const Codes kind(q.spec.code);
  const int threads = a.threads_per_row;  // a power of two: GPUs divide slowly
  const int shift = 31 - __builtin_clz(static_cast<uint32_t>(threads));
  const int64_t rows_per_block = block_threads() >> shift;
  const int64_t first =
      static_cast<int64_t>(block_index_y()) * threads + (thread_index() & (threads - 1));
  const int64_t step = static_cast<int64_t>(grid_blocks_y()) * threads * N;
  for (int64_t r = block_index_x() * rows_per_block + (thread_index() >> shift); r < a.x_rows.count;
       r += grid_blocks() * rows_per_block) {
    const uint8_t* codes = static_cast<const uint8_t*>(q.codes) + q.codes_rows.offset(r);
    T* y = static_cast<T*>(const_cast<void*>(a.x)) + a.x_rows.offset(r);
    const int64_t scales = q.scale_row(a.group_row(r));
    for (int64_t column = first * N; column < q.cols; column += step) {
      uint32_t words[N / 4];
      load_codes<N>(codes, column, q.cols, kind.bits, words);
      const float scale = load_scale(q, scales + q.scale_group(group_of(q, column)));
      float v[N];
      kind.decode(words, v);
      AITER_UNROLL
      for (int k = 0; k < N; ++k) v[k] *= scale;
      Packs<T, N>::from_floats(v).store(y, column, q.cols);
    }
  }
}

AITER_DEVICE void dequantize(const DequantizeArgs& a) {
  const QuantOut& q = a.out;
  const AnyCodes kind(q.spec.code);
  const int64_t step = static_cast<int64_t>(grid_blocks_y()) * block_threads();
  for (int64_t r = block_index_x(); r < a.x_rows.count; r += grid_blocks()) {
    const uint8_t* codes = static_cast<const uint8_t*>(q.codes) + q.codes_rows.offset(r);
    const int64_t to = a.x_rows.offset(r), group_row = a.group_row(r);
    for (int64_t c = static_cast<int64_t>(block_index_y()) * block_threads() + thread_index();
         c < q.cols; c += step) {
      const float scale = load_scale(q, q.scale_index(group_row, c / q.group_cols));
      store_float(const_cast<void*>(a.x), to + c, a.dtype,
                  kind.decode(load_code(codes, c, kind.bits)) * scale);
    }
  }
}

}  // namespace aiter

AITER_KERNEL(dequantize_hip_any, 256)(const aiter::DequantizeArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::dequantize(a);
}
#define AITER_DEQUANTIZE_ROWS(T, kind, Codes)                                         \
  AITER_KERNEL(dequantize_hip_vec_##kind##_##T, 256)(const aiter::DequantizeArgs a) { \
    aiter::wait_for_previous_kernel();                                                \
    aiter::dequantize_rows<aiter::T, aiter::Codes>(a);                                \
  }
#define AITER_DEQUANTIZE(T)                                  \
  AITER_DEQUANTIZE_ROWS(T, i8, Codes<aiter::IntCode<8>>)     \
  AITER_DEQUANTIZE_ROWS(T, e4m3fn, Codes<aiter::E4M3FN>)     \
  AITER_DEQUANTIZE_ROWS(T, e4m3fnuz, Codes<aiter::E4M3FNUZ>) \
  AITER_DEQUANTIZE_ROWS(T, e2m1, Codes<aiter::E2M1FN>)       \
  AITER_DEQUANTIZE_ROWS(T, any, AnyCodes)
AITER_DEQUANTIZE(f32)
AITER_DEQUANTIZE(f16)
AITER_DEQUANTIZE(bf16)
