#include "ck/norm/rms_row.h"
#include "ck/norm/row_norm.h"
#include "ops/norm/rmsnorm/rmsnorm_args.h"

#define AITER_RMS_ROW(T)                                                    \
  AITER_KERNEL(rmsnorm_hip_row_##T, 1024)(const aiter::RmsnormArgs a) {     \
    aiter::wait_for_previous_kernel();                                      \
    aiter::rms_row<aiter::T, false>(a);                                     \
  }                                                                         \
  AITER_KERNEL(rmsnorm_hip_row_add_##T, 1024)(const aiter::RmsnormArgs a) { \
    aiter::wait_for_previous_kernel();                                      \
    aiter::rms_row<aiter::T, true>(a);                                      \
  }
AITER_RMS_ROW(f32)
AITER_RMS_ROW(f16)
AITER_RMS_ROW(bf16)

AITER_ROW_NORM(rmsnorm, hip_vec, NormKind::kRms, true, 4, f32)
AITER_ROW_NORM(rmsnorm, hip_vec, NormKind::kRms, true, 4, f16)
AITER_ROW_NORM(rmsnorm, hip_vec, NormKind::kRms, true, 4, bf16)
#if !defined(AITER_AMD)  // whose compiler spills eight packs
AITER_ROW_NORM(rmsnorm, hip_long, NormKind::kRms, true, 8, f32)
AITER_ROW_NORM(rmsnorm, hip_long, NormKind::kRms, true, 8, f16)
AITER_ROW_NORM(rmsnorm, hip_long, NormKind::kRms, true, 8, bf16)
#endif
AITER_ROW_NORM(rmsnorm, hip_any, NormKind::kRms, false, 4, f32)
AITER_ROW_NORM(rmsnorm, hip_any, NormKind::kRms, false, 4, f16)
AITER_ROW_NORM(rmsnorm, hip_any, NormKind::kRms, false, 4, bf16)
