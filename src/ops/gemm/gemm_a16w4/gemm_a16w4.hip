#include "ck/gemm/group_gemm.h"

AITER_GROUP_GEMM_KERNELS(gemm_a16w4, 4)
