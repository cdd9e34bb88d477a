#pragma once

#include "ops/norm/row_norm.h"

namespace aiter {

using RmsnormArgs = RowNormArgs;

}  // namespace aiter
