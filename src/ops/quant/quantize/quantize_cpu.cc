#include "ops/quant/quantize/quantize_args.h"
#include "simd/cache.h"
#include "simd/parallel.h"
#include "simd/quantize.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

// Numbers of an array times the smooth scale.
template <class T>
struct SmoothNumbers {
  const T* x;
  const float* smooth;
  AITER_INLINE Vec operator()(int64_t i, int lanes) const {
    return load_some(x + i, lanes) * load_some(smooth + i, lanes);
  }
};

struct Quantizer {
  const QuantizeArgs& a;
  const QuantOut& q;
  int64_t rows;  // the valid ones
  bool streamed;

  explicit Quantizer(const QuantizeArgs& args) : a(args), q(args.out), rows(args.valid_rows()) {
    streamed = worth_streaming(q.codes, rows * q.cols * code_bits(q.spec.code) / 8, 1);
  }

  template <class T, bool kSmooth>
  AITER_INLINE auto numbers(int64_t row) const {
    const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(row);
    if constexpr (kSmooth)
      return SmoothNumbers<T>{x, a.smooth + a.smooth_row(row) * q.cols};
    else
      return ArrayNumbers<T>{x};
  }
  uint8_t* codes(int64_t row) const {
    return static_cast<uint8_t*>(q.codes) + q.codes_rows.offset(row);
  }

  // The scale of a group, unless given, of this amax.
  template <class Codec, class Amax>
  float factor(int64_t index, Amax&& amax_of_group) const {
    if (q.static_scale) return 1.0f / load_scale(q, index);
    const Scale scale = scale_for<Codec>(amax_of_group(), q.spec);
    store_scale(q, index, scale);
    return scale.factor;
  }

  // One scale for everything: threads first agree on the amax.
  template <class T, class Codec, bool kSmooth>
  void whole() const {
    const float f = factor<Codec>(q.scale_index(0, 0), [&] {
      constexpr int kPieces = 64;
      float most[kPieces] = {};
      parallel_tasks(kPieces, [&](int64_t piece, int) {
        for (int64_t r = rows * piece / kPieces; r < rows * (piece + 1) / kPieces; ++r) {
          const float here = group_amax(q.cols, numbers<T, kSmooth>(r));
          most[piece] = here > most[piece] ? here : most[piece];
        }
      });
      float all = 0;
      for (float m : most) all = m > all ? m : all;
      return all;
    });
    parallel_for(rows, 16384 / (q.cols + 1) + 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        encode_codes<Codec>(q.cols, f, codes(r), streamed, numbers<T, kSmooth>(r));
      if (streamed) stream_fence();
    });
  }
};

template <class F>
void with_types(const QuantizeArgs& a, F&& f) {
  with_float_type(a.dtype,
                  [&](auto t) { with_codec(a.out.spec.code, [&](auto codec) { f(t, codec); }); });
}

}  // namespace

template <class T, class Codec, bool kSmooth>
__attribute__((noinline)) static void quantize(const Quantizer& q) {
  const QuantizeArgs& a = q.a;
  const int64_t group_rows = (q.rows + a.group_rows - 1) / a.group_rows;
  if (group_rows == 1 && q.q.group_cols >= q.q.cols && !a.smooth_map)
    return q.whole<T, Codec, kSmooth>();
  const int64_t elements = a.group_rows * q.q.cols;
  parallel_for(group_rows, 16384 / elements + 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      if (a.smooth_row(r) < 0) continue;
      const int64_t row = r * a.group_rows;
      const int64_t row_end = row + a.group_rows < q.rows ? row + a.group_rows : q.rows;
      const int64_t row_bytes = q.q.cols * static_cast<int64_t>(sizeof(T));
      const int64_t later = a.group_rows == 1 ? row_ahead(r, begin, end, row_bytes) - r : 4;
      quantize_rows<Codec>(
          q.q, r, row, row_end, q.streamed,
          [&](int64_t k, int64_t, int64_t) { return q.numbers<T, kSmooth>(k); },
          [&](int64_t k, int64_t i) {
            if (later > 0 && k + later < q.rows)
              prefetch<true>(static_cast<const T*>(a.x) + a.x_rows.offset(k + later) + i, kAhead);
          });
    }
    if (q.streamed) stream_fence();
  });
}

void quantize_cpu_simd(const QuantizeArgs& a) {
  const Quantizer q(a);
  if (q.rows == 0 || q.q.cols == 0) return;
  with_types(a, [&]<class T, class Codec>(T, Codec) {
    if (a.smooth)
      quantize<T, Codec, true>(q);
    else
      quantize<T, Codec, false>(q);
  });
}

void quantize_cpu_ref(const QuantizeArgs& a) {
  const Quantizer quantizer(a);
  const QuantOut& q = a.out;
  const int64_t rows = quantizer.rows;
  if (rows == 0 || q.cols == 0) return;
  with_types(a, [&]<class T, class Codec>(T, Codec) {
    auto number = [&](int64_t r, int64_t c) {
      const float x = to_float(static_cast<const T*>(a.x)[a.x_rows.offset(r) + c]);
      return a.smooth ? x * a.smooth[a.smooth_row(r) * q.cols + c] : x;
    };
    for (int64_t r0 = 0; r0 < rows; r0 += a.group_rows) {
      if (a.smooth_row(r0) < 0) continue;
      for (int64_t c0 = 0; c0 < q.cols; c0 += q.group_cols) {
        const int64_t r1 = r0 + a.group_rows < rows ? r0 + a.group_rows : rows;
        const int64_t c1 = c0 + q.group_cols < q.cols ? c0 + q.group_cols : q.cols;
        const int64_t index = q.scale_index(r0 / a.group_rows, c0 / q.group_cols);
        const float factor = quantizer.factor<Codec>(index, [&] {
          float amax = 0;
          for (int64_t r = r0; r < r1; ++r)
            for (int64_t c = c0; c < c1; ++c) {
              const float v = __builtin_fabsf(number(r, c));
              if (v > amax) amax = v < 3.4028234663852886e38f ? v : 3.4028234663852886e38f;
            }
          return amax;
        });
        for (int64_t r = r0; r < r1; ++r) {
          uint8_t* to = quantizer.codes(r);
          for (int64_t c = c0; c < c1; ++c)
            put_code<Codec::kBits>(to, c, Codec::encode(number(r, c) * factor));
        }
      }
    }
  });
}

}  // namespace aiter::AITER_ISA
