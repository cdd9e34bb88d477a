#include "simd/norm.h"

namespace aiter::AITER_ISA {

void layernorm_cpu_simd(const RowNormArgs& a) { norm_simd<NormKind::kLayer>(a); }
void layernorm_cpu_ref(const RowNormArgs& a) { norm_ref<NormKind::kLayer>(a); }

}  // namespace aiter::AITER_ISA
