// One block a row and a piece of it.
#include "ck/quant/quantize.h"
#include "ops/quant/dequantize/dequantize_args.h"

namespace aiter {

AITER_DEVICE void dequantize(const DequantizeArgs& a) {
  const bool packed = a.spec.code == DType::kF4E2M1x2;
  for (int64_t r = block_index_x(); r < a.x_rows.count; r += grid_blocks()) {
    const uint8_t* codes = static_cast<const uint8_t*>(a.codes) + a.codes_rows.offset(r);
    const int64_t to = a.x_rows.offset(r), scales = a.scale_rows.offset(r / a.group_rows);
    const int64_t step = static_cast<int64_t>(grid_blocks_y()) * block_threads();
    with_codec(a.spec.code, [&] AITER_LAMBDA(auto codec) {
      for (int64_t c = static_cast<int64_t>(block_index_y()) * block_threads() + thread_index();
           c < a.cols; c += step) {
        const uint32_t code = !packed ? codes[c] : c % 2 ? codes[c / 2] >> 4 : codes[c / 2] & 15;
        const float scale =
            load_scale(a.scale, scales + c / a.group_cols * a.scale_col_stride, a.spec);
        store_float(const_cast<void*>(a.x), to + c, a.dtype, codec.decode(code) * scale);
      }
    });
  }
}

}  // namespace aiter

AITER_KERNEL(dequantize_hip_any, 256)(const aiter::DequantizeArgs a) { aiter::dequantize(a); }
