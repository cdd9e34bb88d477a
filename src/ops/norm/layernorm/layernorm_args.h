#pragma once

#include "ops/norm/row_norm.h"

namespace aiter {

using LayernormArgs = RowNormArgs;

}  // namespace aiter
