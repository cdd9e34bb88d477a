#include "ops/norm/qk_rmsnorm/qk_rmsnorm_args.h"
#include "simd/norm_quant.h"

namespace aiter::AITER_ISA {

void qk_rmsnorm_cpu_simd(const QkRmsnormArgs& a) {
  if (a.q.out.codes)
    with_norm_types(a.q.norm,
                    [&]<class T, class W>(T, W) { norm_quant_rows<NormKind::kRms, T, W>(a.q); });
  else
    norm_simd<NormKind::kRms>(a.q.norm);
  if (a.k.x) norm_simd<NormKind::kRms>(a.k);
}

void qk_rmsnorm_cpu_ref(const QkRmsnormArgs& a) {
  if (a.q.out.codes)
    with_norm_types(a.q.norm, [&]<class T, class W>(T, W) {
      plain_norm_quant_rows<NormKind::kRms, T, W>(a.q);
    });
  else
    norm_ref<NormKind::kRms>(a.q.norm);
  if (a.k.x) norm_ref<NormKind::kRms>(a.k);
}

}  // namespace aiter::AITER_ISA
