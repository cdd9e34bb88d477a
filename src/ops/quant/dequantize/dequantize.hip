// One block a row and a piece of it.
#include "ck/quant/quantize.h"
#include "ops/quant/dequantize/dequantize_args.h"

namespace aiter {

AITER_DEVICE void dequantize(const DequantizeArgs& a) {
  const QuantOut& q = a.out;
  const int64_t step = static_cast<int64_t>(grid_blocks_y()) * block_threads();
  for (int64_t r = block_index_x(); r < a.x_rows.count; r += grid_blocks()) {
    const uint8_t* codes = static_cast<const uint8_t*>(q.codes) + q.codes_rows.offset(r);
    const int64_t to = a.x_rows.offset(r), group_row = a.group_rows == 1 ? r : r / a.group_rows;
    with_codec(q.spec.code, [&] AITER_LAMBDA(auto codec) {
      for (int64_t c = static_cast<int64_t>(block_index_y()) * block_threads() + thread_index();
           c < q.cols; c += step) {
        const float scale = load_scale(q, q.scale_index(group_row, c / q.group_cols));
        store_float(const_cast<void*>(a.x), to + c, a.dtype,
                    codec.decode(load_code<decltype(codec)::kBits>(codes, c)) * scale);
      }
    });
  }
}

}  // namespace aiter

AITER_KERNEL(dequantize_hip_any, 256)(const aiter::DequantizeArgs a) { aiter::dequantize(a); }
