#include "ops/elementwise/fused_mul_add/fused_mul_add_args.h"
#include "simd/elementwise.h"

namespace aiter::AITER_ISA {

void fused_mul_add_cpu_simd(const FusedMulAddArgs& a) {
  elementwise_floats<3>(a, [](Vec x, Vec factor, Vec term) { return fma(x, factor, term); });
}

void fused_mul_add_cpu_ref(const FusedMulAddArgs& a) {
  for_elements(a, [&](const Offsets& offsets) {
    float v[3];
    for (int k = 0; k < 3; ++k) v[k] = plain_number<float>(a, k, offsets.at[k]);
    float y = __builtin_fmaf(v[0], v[1], v[2]);
    write_chunk(a, offsets.at[kOperands - 1], 1, &y);
  });
}

}  // namespace aiter::AITER_ISA
