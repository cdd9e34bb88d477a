#pragma once

#include "ops/gemm/group_gemm.h"

namespace aiter {

using GemmA16w8Args = GroupGemmArgs;
using GemmA16w8PackArgs = GroupPackArgs;

}  // namespace aiter
