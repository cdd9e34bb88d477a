#include "aiter/elementwise.h"
#include "ops/elementwise/unary/unary_args.h"
#include "simd/activation.h"
#include "simd/elementwise.h"

namespace aiter::AITER_ISA {
namespace {

double plain(int32_t op, double x) {
  const double sigmoid = 1 / (1 + __builtin_exp(-x));
  switch (op) {
    case AITER_UNARY_SIGMOID:
      return sigmoid;
    case AITER_UNARY_TANH:
      return __builtin_tanh(x);
    case AITER_UNARY_RELU:
      return x < 0 ? 0 : x;
    case AITER_UNARY_SILU:
      return x * sigmoid;
    case AITER_UNARY_GELU:
      return x * 0.5 * __builtin_erfc(-x * 0.70710678118654752440);
    default: {
      const double z = 2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x);
      return x / (1 + __builtin_exp(-z));
    }
  }
}

}  // namespace

void unary_cpu_simd(const UnaryArgs& a) {
  switch (a.op) {
    case AITER_UNARY_SIGMOID:
      return elementwise_floats<1>(a, [](Vec x) { return sigmoid_of(x, 1.0f); });
    case AITER_UNARY_TANH:
      return elementwise_floats<1>(a, [](Vec x) { return tanh(x); });
    case AITER_UNARY_RELU:
      return elementwise_floats<1>(a, [](Vec x) { return max(zero(), x); });  // NaN passes
    case AITER_UNARY_SILU:
      return elementwise_floats<1>(a, [](Vec x) { return silu(x); });
    case AITER_UNARY_GELU:
      return elementwise_floats<1>(a, [](Vec x) { return gelu(x); });
    default:
      return elementwise_floats<1>(a, [](Vec x) { return gelu_tanh(x); });
  }
}

void unary_cpu_ref(const UnaryArgs& a) {
  for_elements(a, [&](const Offsets& offsets) {
    const float x = plain_number<float>(a, 0, offsets.at[0]);
    float y = static_cast<float>(plain(a.op, x));
    write_chunk(a, offsets.at[kOperands - 1], 1, &y);
  });
}

}  // namespace aiter::AITER_ISA
