#pragma once

#include "ops/norm/norm_quant.h"

namespace aiter {

struct QkRmsnormArgs {
  NormQuantArgs q;
  RowNormArgs k;  // its x is null where there is none
};

}  // namespace aiter
