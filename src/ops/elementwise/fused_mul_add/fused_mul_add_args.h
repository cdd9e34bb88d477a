#pragma once

#include "ops/elementwise/elementwise_args.h"

namespace aiter {

using FusedMulAddArgs = ElementwiseArgs;

}  // namespace aiter
