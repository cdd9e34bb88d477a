#include "ops/gemm/gemm_a16w16/gemm_a16w16_args.h"
#include "simd/dense_gemm.h"
#include "simd/gemv.h"

namespace aiter::AITER_ISA {
namespace {

GemmOutput output(const GemmA16w16Args& a) {
  return {a.y, a.y_rows, a.y_dtype, a.bias, a.bias_dtype};
}

template <class Units, class P>
struct Traits {
  using XUnits = Units;
  using WUnits = Units;
  using Product = P;
  static float start(const GemmA16w16Args&, int64_t) { return 0; }
  static void end(const GemmA16w16Args& a, int64_t m, int rows, int64_t n, int64_t cols,
                  const float* c, int64_t c_stride) {
    write_tile(output(a), m, rows, n, cols, c, c_stride);
  }
};

DenseOperands operands(const GemmA16w16Args& a) {
  return {a.x, a.x_rows, a.w, a.w_stride, a.n, a.k};
}

}  // namespace

void gemm_a16w16_cpu_gemv(const GemmA16w16Args& a) {
  with_float_type(a.dtype, [&]<class T>(T) { gemv<T>(operands(a), output(a)); });
}

void gemm_a16w16_cpu_simd(const GemmA16w16Args& a) {
  switch (a.dtype) {
    case DType::kF16:
      return dense_gemm<Traits<FloatUnits<f16>, FloatProduct>>(a, operands(a));
    case DType::kBF16:
#if AITER_ISA_LEVEL == 2
      return dense_gemm<Traits<Bf16Units, Bf16Product>>(a, operands(a));
#else
      return dense_gemm<Traits<FloatUnits<bf16>, FloatProduct>>(a, operands(a));
#endif
    default:
      return dense_gemm<Traits<FloatUnits<float>, FloatProduct>>(a, operands(a));
  }
}

void gemm_a16w16_cpu_ref(const GemmA16w16Args& a) {
  with_float_type(a.dtype, [&]<class T>(T) {
    for (int64_t m = 0; m < a.x_rows.count; ++m)
      for (int64_t n = 0; n < a.n; ++n) {
        const T* x = static_cast<const T*>(a.x) + a.x_rows.offset(m);
        const T* w = static_cast<const T*>(a.w) + n * a.w_stride;
        double sum = 0;
        for (int64_t k = 0; k < a.k; ++k)
          sum += static_cast<double>(to_float(x[k])) * to_float(w[k]);
        const float c = static_cast<float>(sum);
        write_tile(output(a), m, 1, n, 1, &c, 1);
      }
  });
}

}  // namespace aiter::AITER_ISA
