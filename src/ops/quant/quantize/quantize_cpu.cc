#include "ops/quant/quantize/quantize_args.h"
#include "simd/parallel.h"
#include "simd/quantize.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

constexpr int64_t kChunk = 1024;  // floats converted at a time: they stay in the L1 cache

struct Quantizer {
  const QuantizeArgs& a;
  int64_t rows;  // the valid ones

  explicit Quantizer(const QuantizeArgs& args) : a(args), rows(args.x_rows.count) {
    if (a.num_rows && *a.num_rows < rows) rows = *a.num_rows > 0 ? *a.num_rows : 0;
  }

  // buffer[0, n) = x[row, begin : begin + n] * smooth
  template <class T>
  AITER_INLINE void read(int64_t row, int64_t begin, int64_t n, float* buffer) const {
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(row) + begin;
    const float* smooth = a.smooth ? a.smooth + begin : nullptr;
    for_lanes(n, [&](int64_t i, int lanes) {
      Vec v = load_some(x + i, lanes);
      if (smooth) v = v * load_some(smooth + i, lanes);
      store_some(buffer + i, v, lanes);
    });
  }

  uint8_t* codes(int64_t row, int64_t col) const {
    const int64_t byte = a.spec.code == DType::kF4E2M1x2 ? col / 2 : col;
    return static_cast<uint8_t*>(a.codes) + a.codes_rows.offset(row) + byte;
  }
  int64_t scale_index(int64_t group_row, int64_t group_col) const {
    return a.scale_rows.offset(group_row) + group_col * a.scale_col_stride;
  }
  float given_factor(int64_t index) const {
    if (a.spec.scale == DType::kF32) return 1.0f / static_cast<const float*>(a.scale)[index];
    const uint8_t code = static_cast<const uint8_t*>(a.scale)[index];
    if (a.spec.scale == DType::kF8E8M0) return 1.0f / e8m0_decode(code);
    return 1.0f / (E4M3FN::decode(code) * a.spec.global_scale);
  }

  template <class T>
  float amax(int64_t row_begin, int64_t row_end, int64_t begin, int64_t end) const {
    float most = 0;
    float buffer[kChunk];
    for (int64_t r = row_begin; r < row_end; ++r)
      for (int64_t i = begin; i < end; i += kChunk) {
        const int64_t n = end - i < kChunk ? end - i : kChunk;
        read<T>(r, i, n, buffer);
        const float here = group_amax(buffer, n);
        most = here > most ? here : most;
      }
    return most;
  }

  template <class T, class Codec>
  void encode(int64_t row_begin, int64_t row_end, int64_t begin, int64_t end, float factor) const {
    float buffer[kChunk];
    for (int64_t r = row_begin; r < row_end; ++r)
      for (int64_t i = begin; i < end; i += kChunk) {
        const int64_t n = end - i < kChunk ? end - i : kChunk;
        read<T>(r, i, n, buffer);
        encode_codes<Codec>(buffer, n, factor, codes(r, i));
      }
  }

  // One group: its scale, unless given, and its codes.
  template <class T, class Codec>
  void group(int64_t group_row, int64_t group_col) const {
    const int64_t row = group_row * a.group_rows, begin = group_col * a.group_cols;
    const int64_t row_end = row + a.group_rows < rows ? row + a.group_rows : rows;
    const int64_t end = begin + a.group_cols < a.cols ? begin + a.group_cols : a.cols;
    const int64_t index = scale_index(group_row, group_col);
    float factor;
    if (a.group_rows == 1 && end - begin <= kChunk && !a.static_scale) {
      // the common small group is read once
      float buffer[kChunk];
      read<T>(row, begin, end - begin, buffer);
      const Scale scale = scale_for<Codec>(group_amax(buffer, end - begin), a.spec);
      store_scale(a.scale, index, a.spec.scale, scale);
      return encode_codes<Codec>(buffer, end - begin, scale.factor, codes(row, begin));
    }
    if (a.static_scale) {
      factor = given_factor(index);
    } else {
      const Scale scale = scale_for<Codec>(amax<T>(row, row_end, begin, end), a.spec);
      store_scale(a.scale, index, a.spec.scale, scale);
      factor = scale.factor;
    }
    encode<T, Codec>(row, row_end, begin, end, factor);
  }

  // One scale for everything: threads first agree on the amax.
  template <class T, class Codec>
  void whole() const {
    const int64_t index = scale_index(0, 0);
    float factor;
    if (a.static_scale) {
      factor = given_factor(index);
    } else {
      constexpr int kPieces = 64;
      float most[kPieces] = {};
      parallel_tasks(kPieces, [&](int64_t piece, int) {
        most[piece] = amax<T>(rows * piece / kPieces, rows * (piece + 1) / kPieces, 0, a.cols);
      });
      float all = 0;
      for (float m : most) all = m > all ? m : all;
      const Scale scale = scale_for<Codec>(all, a.spec);
      store_scale(a.scale, index, a.spec.scale, scale);
      factor = scale.factor;
    }
    parallel_for(rows, 16384 / (a.cols + 1) + 1, [&](int64_t begin, int64_t end) {
      encode<T, Codec>(begin, end, 0, a.cols, factor);
    });
  }
};

template <class F>
void with_types(const QuantizeArgs& a, F&& f) {
  with_float_type(a.dtype,
                  [&](auto t) { with_codec(a.spec.code, [&](auto codec) { f(t, codec); }); });
}

}  // namespace

void quantize_cpu_simd(const QuantizeArgs& a) {
  const Quantizer q(a);
  if (q.rows == 0 || a.cols == 0) return;
  with_types(a, [&]<class T, class Codec>(T, Codec) {
    const int64_t group_cols = (a.cols + a.group_cols - 1) / a.group_cols;
    const int64_t group_rows = (q.rows + a.group_rows - 1) / a.group_rows;
    if (group_cols == 1 && group_rows == 1) return q.whole<T, Codec>();
    const int64_t elements = a.group_rows * a.cols;
    parallel_for(group_rows, 16384 / elements + 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < group_cols; ++c) q.group<T, Codec>(r, c);
    });
  });
}

void quantize_cpu_ref(const QuantizeArgs& a) {
  const Quantizer q(a);
  if (q.rows == 0 || a.cols == 0) return;
  with_types(a, [&]<class T, class Codec>(T, Codec) {
    auto number = [&](int64_t r, int64_t c) {
      const float x = to_float(static_cast<const T*>(a.x)[a.x_rows.offset(r) + c]);
      return a.smooth ? x * a.smooth[c] : x;
    };
    for (int64_t r0 = 0; r0 < q.rows; r0 += a.group_rows)
      for (int64_t c0 = 0; c0 < a.cols; c0 += a.group_cols) {
        const int64_t r1 = r0 + a.group_rows < q.rows ? r0 + a.group_rows : q.rows;
        const int64_t c1 = c0 + a.group_cols < a.cols ? c0 + a.group_cols : a.cols;
        const int64_t index = q.scale_index(r0 / a.group_rows, c0 / a.group_cols);
        float factor;
        if (a.static_scale) {
          factor = q.given_factor(index);
        } else {
          float amax = 0;
          for (int64_t r = r0; r < r1; ++r)
            for (int64_t c = c0; c < c1; ++c) {
              const float v = __builtin_fabsf(number(r, c));
              if (v > amax) amax = v < 3.4028234663852886e38f ? v : 3.4028234663852886e38f;
            }
          const Scale scale = scale_for<Codec>(amax, a.spec);
          store_scale(a.scale, index, a.spec.scale, scale);
          factor = scale.factor;
        }
        for (int64_t r = r0; r < r1; ++r)
          for (int64_t c = c0; c < c1; ++c) {
            const uint32_t code = Codec::encode(number(r, c) * factor);
            uint8_t* to = q.codes(r, c);
            if (a.spec.code != DType::kF4E2M1x2)
              *to = static_cast<uint8_t>(code);
            else
              *to = static_cast<uint8_t>(c % 2 ? (*to & 15) | code << 4 : code);
          }
      }
  });
}

}  // namespace aiter::AITER_ISA
