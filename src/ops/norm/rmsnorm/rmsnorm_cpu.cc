#include "simd/norm.h"

namespace aiter::AITER_ISA {

void rmsnorm_cpu_simd(const RowNormArgs& a) { norm_simd<NormKind::kRms>(a); }
void rmsnorm_cpu_ref(const RowNormArgs& a) { norm_ref<NormKind::kRms>(a); }

}  // namespace aiter::AITER_ISA
