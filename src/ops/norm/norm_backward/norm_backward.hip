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
#if !defined(AITER_AMD)
// Nothing of a row is loaded during another: other blocks hide its latency.
#undef AITER_LAUNCH_BOUNDS
#define AITER_LAUNCH_BOUNDS(threads) __launch_bounds__(threads, 2)
#endif
AITER_NORM_BACKWARD_DX(hip_vec, true, 2, f32)
AITER_NORM_BACKWARD_DX(hip_vec, true, 2, f16)
AITER_NORM_BACKWARD_DX(hip_vec, true, 2, bf16)
AITER_NORM_BACKWARD_DX(hip_any, false, 4, f32)
AITER_NORM_BACKWARD_DX(hip_any, false, 4, f16)
AITER_NORM_BACKWARD_DX(hip_any, false, 4, bf16)
