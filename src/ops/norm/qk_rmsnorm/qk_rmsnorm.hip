// The blocks of the grid's first row take q, those of the second k.
#include "ck/norm/norm_quant.h"
#include "ops/norm/qk_rmsnorm/qk_rmsnorm_args.h"

namespace aiter {

template <class T>
AITER_DEVICE void qk_rmsnorm(const QkRmsnormArgs& a) {
  AITER_SHARED float scratch[1024 / kWave];
  if (block_index_y() == 0)
    norm_quant_rows<T, NormKind::kRms>(a.q, scratch);
  else
    row_norm<T, true, false, 1, NormKind::kRms>(a.k, scratch);
}

AITER_DEVICE void qk_rmsnorm_any(const QkRmsnormArgs& a) {
  AITER_SHARED NormQuantShared shared;
  if (block_index_y() == 0) {
    norm_quant_any(a.q, shared);
  } else {
    NormQuantArgs k{};
    k.norm = a.k;
    k.heads = 1;
    norm_quant_any(k, shared);
  }
}

}  // namespace aiter

#define AITER_QK_RMSNORM(T)                                                 \
  AITER_KERNEL(qk_rmsnorm_hip_vec_##T, 512)(const aiter::QkRmsnormArgs a) { \
    aiter::wait_for_previous_kernel();                                      \
    aiter::qk_rmsnorm<aiter::T>(a);                                         \
  }
AITER_QK_RMSNORM(f32)
AITER_QK_RMSNORM(f16)
AITER_QK_RMSNORM(bf16)
AITER_KERNEL(qk_rmsnorm_hip_any, 512)(const aiter::QkRmsnormArgs a) {
  aiter::wait_for_previous_kernel();
  aiter::qk_rmsnorm_any(a);
}
