// The checks of group norms, quantized or not.
#pragma once

#include "core/check.h"
#include "ops/norm/groupnorm/groupnorm_args.h"

namespace aiter {

struct GroupnormTensors {
  const aiter_tensor *x = nullptr, *residual_in = nullptr, *w = nullptr, *b = nullptr,
                     *residual_out = nullptr;
};

// Fills what args has of the tensors, but y; the options are in it already. add: whether the residual
// is there (both of it or neither).
void check_groupnorm(const Check& check, const GroupnormTensors& tensors, bool add,
                     GroupnormArgs* args);

}  // namespace aiter
