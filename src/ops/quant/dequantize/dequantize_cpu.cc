#include "ops/quant/dequantize/dequantize_args.h"
#include "simd/parallel.h"
#include "simd/quantize.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

float scale_at(const DequantizeArgs& a, int64_t row, int64_t group_col) {
  const int64_t index = a.scale_rows.offset(row / a.group_rows) + group_col * a.scale_col_stride;
  if (a.spec.scale == DType::kF32) return static_cast<const float*>(a.scale)[index];
  const uint8_t code = static_cast<const uint8_t*>(a.scale)[index];
  if (a.spec.scale == DType::kF8E8M0) return e8m0_decode(code);
  return E4M3FN::decode(code) * a.spec.global_scale;
}

template <class Codec>
float decode(uint32_t code) {
  if constexpr (requires { Codec::decode(code); })
    return Codec::decode(code);
  else
    return static_cast<float>(static_cast<int8_t>(code));
}

template <class F>
void with_types(const DequantizeArgs& a, F&& f) {
  with_float_type(a.dtype,
                  [&](auto t) { with_codec(a.spec.code, [&](auto codec) { f(t, codec); }); });
}

// Every code has one value, so a table of 256 decodes all formats alike.
template <class Codec>
struct Table {
  float value[256];
  Table() {
    for (int code = 0; code < 256; ++code) value[code] = decode<Codec>(static_cast<uint32_t>(code));
  }
};

template <class T, class Codec>
void dequantize_row(const DequantizeArgs& a, const Table<Codec>& table, int64_t r) {
  constexpr int64_t kChunk = 256;
  const uint8_t* codes = static_cast<const uint8_t*>(a.codes) + a.codes_rows.offset(r);
  T* y = static_cast<T*>(const_cast<void*>(a.x)) + a.x_rows.offset(r);
  float buffer[kChunk];
  for (int64_t c0 = 0; c0 < a.cols; c0 += a.group_cols) {
    const int64_t end = c0 + a.group_cols < a.cols ? c0 + a.group_cols : a.cols;
    const Vec scale = set1(scale_at(a, r, c0 / a.group_cols));
    for (int64_t c = c0; c < end; c += kChunk) {
      const int64_t n = end - c < kChunk ? end - c : kChunk;
      if (a.spec.code == DType::kF4E2M1x2) {
        for (int64_t i = 0; i < n / 2; ++i) {
          const uint8_t byte = codes[c / 2 + i];
          buffer[2 * i] = table.value[byte & 15];
          buffer[2 * i + 1] = table.value[byte >> 4];
        }
      } else {
        for (int64_t i = 0; i < n; ++i) buffer[i] = table.value[codes[c + i]];
      }
      for_lanes(n, [&](int64_t i, int lanes) {
        store_some(y + c + i, load_some(buffer + i, lanes) * scale, lanes);
      });
    }
  }
}

}  // namespace

void dequantize_cpu_simd(const DequantizeArgs& a) {
  with_types(a, [&]<class T, class Codec>(T, Codec) {
    const Table<Codec> table;
    parallel_for(a.x_rows.count, 16384 / (a.cols + 1) + 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) dequantize_row<T, Codec>(a, table, r);
    });
  });
}

void dequantize_cpu_ref(const DequantizeArgs& a) {
  with_types(a, [&]<class T, class Codec>(T, Codec) {
    for (int64_t r = 0; r < a.x_rows.count; ++r)
      for (int64_t c = 0; c < a.cols; ++c) {
        const uint8_t* row = static_cast<const uint8_t*>(a.codes) + a.codes_rows.offset(r);
        const bool packed = a.spec.code == DType::kF4E2M1x2;
        const uint32_t code = !packed ? row[c] : c % 2 ? row[c / 2] >> 4 : row[c / 2] & 15;
        T* y = static_cast<T*>(const_cast<void*>(a.x)) + a.x_rows.offset(r);
        y[c] = from_float<T>(decode<Codec>(code) * scale_at(a, r, c / a.group_cols));
      }
  });
}

}  // namespace aiter::AITER_ISA
