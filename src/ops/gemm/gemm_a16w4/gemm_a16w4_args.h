#pragma once

#include "ops/gemm/group_gemm.h"

namespace aiter {

using GemmA16w4Args = GroupGemmArgs;
using GemmA16w4PackArgs = GroupPackArgs;

}  // namespace aiter
