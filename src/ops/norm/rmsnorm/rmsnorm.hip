#include "ck/norm/few_rows.h"
#include "ops/norm/rmsnorm/rmsnorm_args.h"

AITER_NORM_ROW(rmsnorm, NormKind::kRms, f32)
AITER_NORM_ROW(rmsnorm, NormKind::kRms, f16)
AITER_NORM_ROW(rmsnorm, NormKind::kRms, bf16)

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
