// A small group is worked on by a wave, a large one by a block: first its largest magnitude, then
// its codes, one number (or two, for fp4) of a thread at a time.
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
  int64_t rows = a.x_rows.count;
  if (a.num_rows) rows = min<int64_t>(rows, max<int64_t>(*a.num_rows, 0));
  const bool by_wave = a.group_rows * a.group_cols <= QuantizeArgs::kWaveGroup;
  const int threads = by_wave ? kWave : block_threads();
  const int t = thread_index() % threads, parallel = block_threads() / threads;
  const int64_t group_cols = (a.cols + a.group_cols - 1) / a.group_cols;
  const int64_t group_rows = (rows + a.group_rows - 1) / a.group_rows;
  for (int64_t g = static_cast<int64_t>(block_index_x()) * parallel + thread_index() / threads;
       g < group_rows * group_cols; g += static_cast<int64_t>(grid_blocks()) * parallel) {
    const int64_t group_row = g / group_cols, group_col = g % group_cols;
    const int64_t row = group_row * a.group_rows, begin = group_col * a.group_cols;
    const int64_t row_end = min<int64_t>(row + a.group_rows, rows);
    const int64_t end = min<int64_t>(begin + a.group_cols, a.cols);
    const int64_t index = a.scale_rows.offset(group_row) + group_col * a.scale_col_stride;
    float amax = 0;
    if (!a.static_scale) {
      for (int64_t r = row; r < row_end; ++r) {
        const int64_t at = a.x_rows.offset(r);
        for (int64_t c = begin + t; c < end; c += threads) {
          const float v = abs(load_number(a, at, c));
          if (v > amax) amax = v < kLargest ? v : kLargest;  // NaN is passed over
        }
      }
      amax = by_wave ? wave_reduce<Max>(amax) : block_reduce<Max>(amax, scratch);
    }
    with_codec(a.spec.code, [&] AITER_LAMBDA(auto codec) {
      using Codec = decltype(codec);
      float factor;
      if (a.static_scale) {
        factor = 1.0f / load_scale(a.scale, index, a.spec);
      } else {
        const Scale scale = scale_for<Codec>(amax, a.spec);
        factor = scale.factor;
        if (t == 0) store_scale(a.scale, index, a.spec, scale);
      }
      const bool packed = a.spec.code == DType::kF4E2M1x2;
      for (int64_t r = row; r < row_end; ++r) {
        const int64_t at = a.x_rows.offset(r);
        uint8_t* to = static_cast<uint8_t*>(a.codes) + a.codes_rows.offset(r);
        if (packed)
          for (int64_t c = begin + 2 * t; c < end; c += 2 * threads)
            to[c / 2] =
                static_cast<uint8_t>(Codec::encode(load_number(a, at, c) * factor) |
                                     Codec::encode(load_number(a, at, c + 1) * factor) << 4);
        else
          for (int64_t c = begin + t; c < end; c += threads)
            to[c] = static_cast<uint8_t>(Codec::encode(load_number(a, at, c) * factor));
      }
    });
  }
}

}  // namespace aiter

AITER_KERNEL(quantize_hip_any, 256)(const aiter::QuantizeArgs a) { aiter::quantize(a); }
