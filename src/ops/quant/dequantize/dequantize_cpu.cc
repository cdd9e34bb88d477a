#include "ops/quant/dequantize/dequantize_args.h"
#include "simd/cache.h"
#include "simd/parallel.h"
#include "simd/quantize.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

template <class F>
void with_types(const DequantizeArgs& a, F&& f) {
  with_float_type(a.dtype,
                  [&](auto t) { with_codec(a.out.spec.code, [&](auto codec) { f(t, codec); }); });
}

template <class T, class Codec>
__attribute__((noinline)) void dequantize_rows(const DequantizeArgs& a, int64_t rows_begin,
                                               int64_t rows_end, bool streamed) {
  const QuantOut& q = a.out;
  for (int64_t r = rows_begin; r < rows_end; ++r)
    decode_row<Codec>(q, static_cast<const uint8_t*>(q.codes) + q.codes_rows.offset(r),
                      q.scale_row(r / a.group_rows), 0, q.cols,
                      static_cast<T*>(const_cast<void*>(a.x)) + a.x_rows.offset(r), streamed);
  if (streamed) stream_fence();
}

}  // namespace

void dequantize_cpu_simd(const DequantizeArgs& a) {
  with_types(a, [&]<class T, class Codec>(T, Codec) {
    const bool streamed =
        worth_streaming(a.x, a.x_rows.count * a.out.cols * static_cast<int64_t>(sizeof(T)), 1);
    parallel_for(a.x_rows.count, 16384 / (a.out.cols + 1) + 1, [&](int64_t begin, int64_t end) {
      dequantize_rows<T, Codec>(a, begin, end, streamed);
    });
  });
}

void dequantize_cpu_ref(const DequantizeArgs& a) {
  const QuantOut& q = a.out;
  with_types(a, [&]<class T, class Codec>(T, Codec) {
    for (int64_t r = 0; r < a.x_rows.count; ++r)
      for (int64_t c = 0; c < q.cols; ++c) {
        const uint8_t* row = static_cast<const uint8_t*>(q.codes) + q.codes_rows.offset(r);
        const int64_t bit = c * Codec::kBits;
        uint32_t code = row[bit / 8] >> bit % 8;
        if (bit % 8 + Codec::kBits > 8)
          code |= static_cast<uint32_t>(row[bit / 8 + 1]) << (8 - bit % 8);
        code &= (1u << Codec::kBits) - 1;
        const float scale = load_scale(q, q.scale_index(r / a.group_rows, c / q.group_cols));
        T* y = static_cast<T*>(const_cast<void*>(a.x)) + a.x_rows.offset(r);
        y[c] = from_float<T>(Codec::decode(code) * scale);
      }
  });
}

}  // namespace aiter::AITER_ISA
