#include "ck/norm/row_norm.h"
#include "ops/norm/layernorm/layernorm_args.h"

AITER_ROW_NORM(layernorm, hip_vec, NormKind::kLayer, true, 2, f32)
AITER_ROW_NORM(layernorm, hip_vec, NormKind::kLayer, true, 2, f16)
AITER_ROW_NORM(layernorm, hip_vec, NormKind::kLayer, true, 2, bf16)
AITER_ROW_NORM(layernorm, hip_any, NormKind::kLayer, false, 4, f32)
AITER_ROW_NORM(layernorm, hip_any, NormKind::kLayer, false, 4, f16)
AITER_ROW_NORM(layernorm, hip_any, NormKind::kLayer, false, 4, bf16)
