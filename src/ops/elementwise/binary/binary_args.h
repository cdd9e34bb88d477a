#pragma once

#include "ops/elementwise/elementwise_args.h"

namespace aiter {

using BinaryArgs = ElementwiseArgs;

}  // namespace aiter
