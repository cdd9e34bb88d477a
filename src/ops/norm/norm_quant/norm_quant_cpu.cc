#include "ops/norm/norm_quant/norm_quant_args.h"
#include "simd/norm_quant.h"

namespace aiter::AITER_ISA {

void norm_quant_cpu_simd(const NormQuantArgs& a) {
  with_norm_quant_types(
      a, [&]<NormKind kKind, class T, class W>(T, W) { norm_quant_rows<kKind, T, W>(a); });
}

void norm_quant_cpu_ref(const NormQuantArgs& a) {
  with_norm_quant_types(
      a, [&]<NormKind kKind, class T, class W>(T, W) { plain_norm_quant_rows<kKind, T, W>(a); });
}

}  // namespace aiter::AITER_ISA
