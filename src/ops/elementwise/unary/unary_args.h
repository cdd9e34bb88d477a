#pragma once

#include "ops/elementwise/elementwise_args.h"

namespace aiter {

using UnaryArgs = ElementwiseArgs;

}  // namespace aiter
