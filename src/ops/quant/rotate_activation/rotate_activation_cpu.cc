#include "ops/quant/rotate_activation/rotate_activation_args.h"
#include "simd/cache.h"
#include "simd/hadamard.h"
#include "simd/parallel.h"
#include "simd/quantize.h"
#include "simd/simd.h"

namespace aiter::AITER_ISA {
namespace {

template <class F>
void with_types(const RotateActivationArgs& a, F&& f) {
  with_float_type(a.dtype, [&](auto x) {
    if (a.out.codes)
      f(x, float{});
    else
      with_float_type(a.y_dtype, [&](auto y) { f(x, y); });
  });
}

}  // namespace

void rotate_activation_cpu_simd(const RotateActivationArgs& a) {
  with_types(a, [&]<class X, class Y>(X, Y) {
    const void* out = a.out.codes ? a.out.codes : a.y;
    const int64_t bits = a.out.codes ? code_bits(a.out.spec.code) : 8 * sizeof(Y);
    const int64_t row_bytes = a.cols * bits / 8, bytes = a.x_rows.count * row_bytes;
    // Short rows that begin within a line would write most lines in two parts.
    const bool lines = reinterpret_cast<uintptr_t>(out) % 64 == 0 && row_bytes % 64 == 0;
    const bool streamed = out != a.x && (lines || row_bytes >= 4096) &&
                          worth_streaming(out, bytes, bits < 8 ? 1 : bits / 8);
    QuantOut joined = a.out;
    int64_t together = a.out.codes ? 4096 / a.cols : 1;
    if (!join_rows(joined, together)) together = 1;
    const int64_t rows = a.x_rows.count, steps = (rows + together - 1) / together;
    parallel_for(steps, 8192 / (a.cols * together) + 1, [&](int64_t begin, int64_t end) {
      alignas(64) float row[RotateActivationArgs::kMaxCols];
      const Vec scale = set1(a.scale);
      auto rotate = [&](int64_t r, float* to, auto* y) {
        const X* x = static_cast<const X*>(a.x) + a.x_rows.offset(r);
        for_lanes(a.cols, [&](int64_t i, int n) { store_some(to + i, load_some(x + i, n), n); });
        transform(to, a.cols);
        map_lanes(
            y, a.cols, streamed && !a.out.codes, [&](Vec v) { return v * scale; }, NothingAhead{},
            static_cast<const float*>(to));
      };
      for (int64_t step = begin; step < end; ++step) {
        const int64_t first = step * together;
        const int64_t last = first + together < rows ? first + together : rows;
        for (int64_t r = first; r < last; ++r) {
          float* to = row + (r - first) * a.cols;
          if (a.out.codes)
            rotate(r, to, to);
          else
            rotate(r, to, static_cast<Y*>(a.y) + a.y_rows.offset(r));
        }
        if (!a.out.codes) continue;
        if (together > 1 && last - first == together)
          quantize_row(joined, step, row, streamed);
        else
          for (int64_t r = first; r < last; ++r)
            quantize_row(a.out, r, row + (r - first) * a.cols, streamed);
      }
      if (streamed) stream_fence();
    });
  });
}

void rotate_activation_cpu_ref(const RotateActivationArgs& a) {
  with_types(a, [&]<class X, class Y>(X, Y) {
    float row[RotateActivationArgs::kMaxCols];
    for (int64_t r = 0; r < a.x_rows.count; ++r) {
      const X* x = static_cast<const X*>(a.x) + a.x_rows.offset(r);
      for (int64_t i = 0; i < a.cols; ++i) row[i] = to_float(x[i]);
      transform_plainly(row, a.cols);
      Y* y = a.out.codes ? reinterpret_cast<Y*>(row) : static_cast<Y*>(a.y) + a.y_rows.offset(r);
      for (int64_t i = 0; i < a.cols; ++i) y[i] = from_float<Y>(row[i] * a.scale);
      if (a.out.codes) quantize_row(a.out, r, row);
    }
  });
}

}  // namespace aiter::AITER_ISA
