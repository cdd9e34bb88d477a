#include "ck/norm/norm_backward.h"

AITER_NORM_BACKWARD(hip_vec, true, 2, f32)
AITER_NORM_BACKWARD(hip_vec, true, 2, f16)
AITER_NORM_BACKWARD(hip_vec, true, 2, bf16)
AITER_NORM_BACKWARD(hip_any, false, 4, f32)
AITER_NORM_BACKWARD(hip_any, false, 4, f16)
AITER_NORM_BACKWARD(hip_any, false, 4, bf16)
AITER_NORM_BACKWARD_SUM(f32)
AITER_NORM_BACKWARD_SUM(f16)
AITER_NORM_BACKWARD_SUM(bf16)
