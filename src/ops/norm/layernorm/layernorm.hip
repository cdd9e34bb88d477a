#include "ck/norm/few_rows.h"
#include "ops/norm/layernorm/layernorm_args.h"

AITER_NORM_ROW(layernorm, NormKind::kLayer, f32)
AITER_NORM_ROW(layernorm, NormKind::kLayer, f16)
AITER_NORM_ROW(layernorm, NormKind::kLayer, bf16)

AITER_ROW_NORM(layernorm, hip_vec, NormKind::kLayer, true, 4, f32)
AITER_ROW_NORM(layernorm, hip_vec, NormKind::kLayer, true, 4, f16)
AITER_ROW_NORM(layernorm, hip_vec, NormKind::kLayer, true, 4, bf16)
AITER_ROW_NORM(layernorm, hip_any, NormKind::kLayer, false, 4, f32)
AITER_ROW_NORM(layernorm, hip_any, NormKind::kLayer, false, 4, f16)
AITER_ROW_NORM(layernorm, hip_any, NormKind::kLayer, false, 4, bf16)
