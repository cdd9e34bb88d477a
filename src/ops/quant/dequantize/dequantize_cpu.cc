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

// y[i] = code i * scale, i < n. streamed: past the caches; y is then aligned to 64 bytes.
template <class Codec, class T>
AITER_INLINE void decode_codes(const uint8_t* codes, int64_t n, float scale, T* y, bool streamed) {
  const Vec s = set1(scale);
  auto decode = [&](int64_t i, int lanes) {
    return decode_lanes(Codec{}, load_codes<Codec::kBits>(codes + i * Codec::kBits / 8, lanes)) * s;
  };
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes)
    store_pair<false>(y + i, {decode(i, kLanes), decode(i + kLanes, kLanes)}, streamed);
  for (; i < n; i += kLanes) {
    const int lanes = n - i < kLanes ? static_cast<int>(n - i) : kLanes;
    store_some(y + i, decode(i, lanes), lanes);
  }
}

template <class T, class Codec>
__attribute__((noinline)) void dequantize_rows(const DequantizeArgs& a, int64_t rows_begin,
                                               int64_t rows_end, bool streamed) {
  const QuantOut& q = a.out;
  for (int64_t r = rows_begin; r < rows_end; ++r) {
    const uint8_t* codes = static_cast<const uint8_t*>(q.codes) + q.codes_rows.offset(r);
    T* y = static_cast<T*>(const_cast<void*>(a.x)) + a.x_rows.offset(r);
    for (int64_t group = 0, begin = 0; begin < q.cols; ++group, begin += q.group_cols) {
      const int64_t n = q.cols - begin < q.group_cols ? q.cols - begin : q.group_cols;
      const float scale = load_scale(q, q.scale_index(r / a.group_rows, group));
      const bool aligned = reinterpret_cast<uintptr_t>(y + begin) % 64 == 0;
      decode_codes<Codec>(codes + begin * Codec::kBits / 8, n, scale, y + begin,
                          streamed && aligned);
    }
  }
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
