#include "ops/gemm/gemm_a8w8/gemm_a8w8_args.h"
#include "simd/dense_gemm.h"

namespace aiter::AITER_ISA {
namespace {

GemmOutput output(const GemmA8w8Args& a) {
  return {a.y, a.y_rows, a.y_dtype, a.bias, a.bias_dtype};
}

AITER_INLINE Vec from_int(Vec sum) {
#if AITER_ISA_LEVEL == 2
  return {_mm512_cvtepi32_ps(_mm512_castps_si512(sum.v))};
#elif AITER_ISA_LEVEL == 1
  return {_mm256_cvtepi32_ps(_mm256_castps_si256(sum.v))};
#else
  return {__builtin_convertvector(reinterpret_cast<IntV>(sum.v), FloatV)};
#endif
}

struct Traits {
#if AITER_ISA_LEVEL == 2
  // The byte product takes one side unsigned: w + 128. What that adds to a sum is taken off at its
  // start. Sums may wrap around on the way; where they end is in range.
  using XUnits = ByteUnits<0>;
  using WUnits = ByteUnits<128>;
  static int32_t start(const GemmA8w8Args& a, int64_t m) {
    const int8_t* x = a.x + a.x_rows.offset(m);
    int32_t sum = 0;
    for (int64_t k = 0; k < a.k; ++k) sum += x[k];
    return -128 * sum;
  }
#else
  using XUnits = WordUnits;
  using WUnits = WordUnits;
  static int32_t start(const GemmA8w8Args&, int64_t) { return 0; }
#endif
  using Product = IntProduct;

  static void end(const GemmA8w8Args& a, int64_t m, int rows, int64_t n, int64_t cols, float* c,
                  int64_t c_stride) {
    for (int r = 0; r < rows; ++r) {
      const Vec x_scale = set1(a.x_scale[m + r]);
      float* row = c + r * c_stride;
      for_lanes(cols, [&](int64_t i, int lanes) {
        const Vec w_scale = load_some(a.w_scale + n + i, lanes);
        store(row + i, from_int(load(row + i)) * x_scale * w_scale);
      });
    }
    write_tile(output(a), m, rows, n, cols, c, c_stride);
  }
};

}  // namespace

void gemm_a8w8_cpu_simd(const GemmA8w8Args& a) {
  dense_gemm<Traits>(a, DenseOperands{a.x, a.x_rows, a.w, a.w_stride, a.n, a.k});
}

void gemm_a8w8_cpu_ref(const GemmA8w8Args& a) {
  for (int64_t m = 0; m < a.x_rows.count; ++m)
    for (int64_t n = 0; n < a.n; ++n) {
      const int8_t* x = a.x + a.x_rows.offset(m);
      const int8_t* w = a.w + n * a.w_stride;
      int32_t sum = 0;
      for (int64_t k = 0; k < a.k; ++k) sum += x[k] * w[k];
      const float c = static_cast<float>(sum) * a.x_scale[m] * a.w_scale[n];
      write_tile(output(a), m, 1, n, 1, &c, 1);
    }
}

}  // namespace aiter::AITER_ISA
